//! Backends: how packets reach the other nodes.
//!
//! A backend has a carrier for each address family of the network: a tunnel (vxlan, udp),
//! kernel routes (host-gw) or both (vxlan with `DirectRouting`); alloc has none. What differs
//! between backends is decided once, when one is [`Prepared`]; the rest is common to all.
//!
//! ```text
//! Prepared::new          all that can fail without a lease: options, MTU, device, port, MAC
//! Prepared::attrs        what the lease tells the peers
//! Prepared::start        address, route and workers
//! Backend::apply         lease events
//! Backend::check_health  each second: are device and workers alive?
//! Backend::reconcile     each ten seconds: addresses and routes that others changed
//! Backend::stop          stops the workers; what is in the kernel stays
//! ```
//!
//! Between two processes, the second of which has the `Inheritance`:
//!
//! ```text
//! Backend::offer         the first: what it works with
//! Backend::pause         the first: stops, and keeps it, to resume() or to leave()
//! Backend::go            the second: carries packets
//! ```

mod carrier;
mod collision;
mod direct;
mod error;
mod host;
mod host_gw;
pub(crate) mod leftovers;
mod macs;
mod mtu;
mod peers;
mod prepared;
mod recursion;
mod running;
mod tunnel;
mod twins;
mod udp;
mod underlay;
mod vxlan;

pub use error::BackendError;
pub use host::Host;
pub use prepared::Prepared;
pub use running::Backend;
pub(crate) use tunnel::remove_fast_paths;
pub use tunnel::{
    Admit, BackendOptions, Cpus, EngineKind, FastPathMode, FastPathOptions, FastPathReport, Hook,
    Inheritance, TunnelError, TunnelGso, WorkerOptions, take_passed,
};
