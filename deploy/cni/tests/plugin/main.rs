//! The plugin as runtimes call it: with a delegate that is a shell script, and with Debian's
//! real plugins in network namespaces.
#![allow(clippy::unwrap_used)]

mod attachments;
mod bridges;
mod call;
mod delegates;
mod gc;
mod host;
mod life;
mod real;
