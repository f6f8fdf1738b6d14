//! The kernel's view of links, addresses and routes as plain data.
//!
//! Only the files below this one know the netlink crates; the rest of `host` works on the types
//! defined here.

mod addresses;
mod aside;
mod connection;
mod error;
mod filter;
mod links;
mod message;
mod qdisc;
mod routes;
mod tap;
mod types;
mod vxlan;

pub use aside::Aside;
pub use connection::Netlink;
pub use error::NetlinkError;
pub use filter::RouteFilter;
pub use qdisc::BpfFilter;
pub use types::{Address, Link, METRIC_V6, PROTOCOL_BOOT, PROTOCOL_KERNEL, PROTOCOL_WEFT, Route};
pub use vxlan::Port;
