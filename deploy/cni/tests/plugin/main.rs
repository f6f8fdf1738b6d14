//! The plugin as runtimes call it: with a delegate that is a shell script, and with Debian's
//! real plugins in network namespaces.
#![allow(clippy::unwrap_used)]

mod call;
mod delegates;
mod life;
mod real;
