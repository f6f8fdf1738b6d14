//! What the programs share with their loader: `dataplane/bpf/layout.h` has the same in C.

#![allow(unsafe_code)]

use aya::Pod;

/// Constant while a program is loaded. Addresses and ports are in network byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Settings {
    pub(super) tunnel: u32,
    pub(super) underlay: u32,
    pub(super) vxlan: u32,
    pub(super) vni: u32,
    pub(super) strict: u32,
    pub(super) local: [u8; 4],
    pub(super) network: [u8; 4],
    pub(super) network_mask: [u8; 4],
    pub(super) own: [u8; 4],
    pub(super) own_mask: [u8; 4],
    pub(super) port: [u8; 2],
    pub(super) mac: [u8; 6],
    pub(super) lifetime: u64,
}

/// What changes while programs run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// `CLOCK_MONOTONIC_COARSE` in ns when the agent last looked.
    pub(super) beat: u64,
    /// The same, of when the workers last carried everything; 0: they did not before.
    pub(super) opened: u64,
    /// The same: what workers got since then may still wait for them; 0: nothing does.
    pub(super) backlog: u64,
    /// Take all that can be taken, whatever is cheaper.
    pub(super) all: u32,
    /// TCP super-packets leave by the fast path, not in trains.
    pub(super) super_packets: u32,
    /// Interface index of the way into the merging pair, or 0.
    pub(super) merger: u32,
    /// Leave everything to the workers.
    pub(super) closed: u32,
    /// Bytes before the packet on the way out: 14 in a test run, else 0.
    pub(super) l2: u32,
    /// Bytes of an outer IP packet on the underlay.
    pub(super) mtu: u32,
}

/// The peer of a prefix in the table is one of its routes'.
pub(super) const ROLE_ROUTE: u32 = 0;

/// The address in the table is a peer's.
pub(super) const ROLE_SENDER: u32 = 1;

/// Bits of the role in a key of the table.
pub(super) const ROLE_BITS: u32 = u32::BITS;

/// A key of the table without its length: the role as the processor has it, and an address.
pub(super) type TableKey = [u8; 8];

/// Nothing may be sent to this peer from here.
pub(super) const RECEIVE_ONLY: u16 = 1;

/// A value of the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) addr: [u8; 4],
    pub(super) flags: u16,
    pub(super) port: [u8; 2],
    pub(super) mac: [u8; 6],
    pub(super) pad: [u8; 2],
    /// Bytes of an outer IP packet on the path, or 0: the underlay's.
    pub(super) mtu: u32,
}

// SAFETY: all fields are integers, every pattern of bits is one of their values, and there is no
// padding that is not a field: the sizes are asserted below.
unsafe impl Pod for Settings {}
// SAFETY: as above.
unsafe impl Pod for State {}
// SAFETY: as above.
unsafe impl Pod for Peer {}
// SAFETY: as above; an array of integers.
unsafe impl Pod for Counts {}

const _: () = assert!(size_of::<Settings>() == 56);
const _: () = assert!(size_of::<State>() == 48);
const _: () = assert!(size_of::<Peer>() == 20);

/// Number of counters.
pub(super) const COUNTERS: usize = 22;

/// The counters of one core.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts(pub(super) [u64; COUNTERS]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; COUNTERS])
    }
}

#[cfg(test)]
mod tests;
