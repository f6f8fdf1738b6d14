//! System interfaces: the only place that talks to the kernel, and with the SIMD
//! checksum the only place with `unsafe`.
//!
//! Everything here offers a safe interface. The rule that keeps it safe is ownership:
//! memory that the kernel may read or write belongs to a value of this module, and the
//! module lends it out only while no request refers to it.

pub mod adopt;
pub mod affinity;
pub mod buffers;
pub mod clock;
pub mod cmsg;
pub mod egress;
pub mod encap;
pub mod engine;
pub mod epoch;
pub mod ethtool;
pub mod event;
mod ifreq;
mod incoming;
mod outgoing;
pub mod passed;
pub mod path;
pub mod poll;
pub mod port;
pub mod redirect;
pub mod refusals;
pub mod ring;
pub mod sender;
pub mod shares;
pub mod statfs;
pub mod tap;
pub mod tc;
pub mod trains;
pub mod tun;
pub mod udp;
