//! What weft relies on in API servers of Kubernetes, asked with kubectl.
//!
//! The same assertions hold for a real cluster, if `WEFT_KUBECONFIG` names a kubeconfig of an
//! administrator of one that may be written to, and otherwise for the lab's stand-in: tests of
//! weft against that are worth as much as it is like the real one. What is made in a cluster has
//! a name of its own and is removed.

#![allow(clippy::unwrap_used)]

mod access;
mod cluster;
mod manifests;
mod nodes;
mod watches;
