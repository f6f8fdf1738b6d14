//! A stand-in for an API server of Kubernetes, for where none can be had.
//!
//! [`ApiServer`] speaks the protocol that clients see, over TLS, from memory. kubectl and clients
//! that others wrote say whether it does so rightly (`tests/kube`).
//!
//! As real servers do it:
//! - bearer tokens, client certificates, RBAC by the roles and bindings that are stored, and the
//!   texts of refusals;
//! - get, list, watch, create, update, patch and delete of the kinds in `resource.rs` and of those
//!   that a CustomResourceDefinition declares; dry runs; selectors by labels and fields;
//! - one resource version for everything, with a history that ends: pages of a list are of one
//!   version, a watch resumes from any version that is known, and what is older is 410;
//! - bookmarks, streaming lists, and the errors of servers that know none;
//! - strategic, merge and JSON patches; the subresource `status` changes status and metadata, the
//!   object itself changes everything but its status; what changes nothing is no new version.
//!
//! Simpler than real ones:
//! - JSON over HTTP/1.1 alone: no YAML, no protobuf (but for kubectl's reviews of access), no
//!   tables, no compression, no aggregated discovery, no schemas in OpenAPI;
//! - fields are not validated, apart from names, versions, labels, annotations and pod networks,
//!   and get no defaults; nobody owns fields: server-side apply is a strategic patch (for custom
//!   kinds a merge patch) that creates what is missing;
//! - no controllers, no admission, no quotas. What is deleted goes at once unless it has
//!   finalizers, a namespace with all that is in it: `kubectl delete -f` of a manifest that has
//!   both finds the rest gone;
//! - a version that is yet to come is refused without a wait for it;
//! - groups follow from the names of users, and a certificate that the server has not issued is
//!   nobody's.

mod access;
mod catalog;
mod discovery;
mod failure;
mod faults;
mod flannel;
mod http;
mod journal;
mod list;
pub mod nodes;
mod objects;
mod openapi;
mod patch;
mod protobuf;
mod request;
mod resource;
mod review;
mod selector;
mod server;
mod store;
mod strategy;
mod watch;

pub use access::ADMIN;
pub use faults::Refusal;
pub use flannel::USER;
pub use journal::Asked;
pub use server::{ApiOptions, ApiServer};
pub use watch::StreamingLists;
