//! The manifests in `deploy/kubernetes`: that they render, ask for what the agent knows, and say
//! what `docs/kubernetes.md` says.
#![allow(clippy::unwrap_used)]

mod daemon_set;
mod files;
mod iptables;
mod objects;
mod page;
mod rendered;
