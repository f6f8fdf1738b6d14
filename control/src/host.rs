//! What the agent does to the host it runs on: choosing the underlay interface, the
//! tunnel device with its address and route, sysctls, and the files it leaves behind.
//!
//! Every `ensure_*` function is idempotent: it compares with what is there and changes
//! only what differs, so that a restart over a working node touches nothing.

pub mod blackhole;
pub mod bridge;
pub mod events;
pub mod firewall;
pub mod flanneld;
pub mod forwarding;
pub mod iface;
pub mod ipsec;
pub mod kernel;
pub mod link;
pub mod mac_store;
pub mod netlink;
pub mod open_files;
pub mod presence;
pub mod route;
pub mod state_file;
pub mod subnet_env;
pub mod sysctl;
pub mod tap;

mod atomic_file;
#[cfg(test)]
pub(crate) mod netns;
