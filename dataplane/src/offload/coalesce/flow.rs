//! Flows, and where the latest write of each is.

use crate::wire::ip::IpPacket;

/// Addresses, ports and protocol: what tells TCP and UDP flows apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    addresses: [u64; 4],
    /// Both ports, above them the protocol, above that whether it is IPv6.
    ports: u64,
}

impl Flow {
    /// The flow of a packet whose transport header starts with the bytes `ports`.
    #[inline]
    pub(super) fn new(ip: &IpPacket<'_>, protocol: u8, ports: [u8; 4]) -> Flow {
        let (addresses, v6) = match ip {
            IpPacket::V4(packet) => {
                let src = u64::from(packet.src().to_bits());
                let dst = u64::from(packet.dst().to_bits());
                ([src << 32 | dst, 0, 0, 0], 0)
            }
            IpPacket::V6(packet) => {
                let (src, dst) = (packet.src().to_bits(), packet.dst().to_bits());
                let halves = [src >> 64, src, dst >> 64, dst];
                (halves.map(|half| half as u64), 1)
            }
        };
        let ports = u64::from(u32::from_be_bytes(ports));
        Flow {
            addresses,
            ports: v6 << 40 | u64::from(protocol) << 32 | ports,
        }
    }

    /// Multiply and fold word by word: enough to spread flows over a small table.
    #[inline]
    fn hash(&self) -> u64 {
        const K: u64 = 0x9e37_79b9_7f4a_7c15;
        self.addresses.iter().fold(self.ports, |hash, word| {
            let product = u128::from(hash ^ word ^ K) * u128::from(K);
            product as u64 ^ (product >> 64) as u64
        })
    }
}

const EMPTY: u16 = u16::MAX;

/// Where in the [`Index`] a flow is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot(usize);

/// Open-addressing table from flow to the number of its latest write.
///
/// It holds numbers only; the flows are with the writes. At least twice as many slots as
/// writes, so probing ends.
pub(super) struct Index {
    slots: Box<[u16]>,
}

impl Index {
    /// A table for at most `writes` flows (below 65,535).
    pub(super) fn new(writes: usize) -> Index {
        let slots = (2 * writes).next_power_of_two().max(2);
        Index {
            slots: vec![EMPTY; slots].into_boxed_slice(),
        }
    }

    /// The slot of `flow` and the number in it; `flow_of` gives the flow of a number.
    #[inline]
    pub(super) fn find<'a>(
        &self,
        flow: &Flow,
        flow_of: impl Fn(usize) -> Option<&'a Flow>,
    ) -> (Slot, Option<usize>) {
        let mask = self.slots.len() - 1;
        let mut at = flow.hash() as usize & mask;
        for _ in 0..self.slots.len() {
            match self.slots[at] {
                EMPTY => break,
                number if flow_of(usize::from(number)) == Some(flow) => {
                    return (Slot(at), Some(usize::from(number)));
                }
                _ => at = (at + 1) & mask,
            }
        }
        (Slot(at), None)
    }

    /// Put a number into a slot that [`Index::find`] gave.
    #[inline]
    pub(super) fn set(&mut self, slot: Slot, number: usize) {
        self.slots[slot.0] = number as u16;
    }

    /// Empty a slot. Only as part of emptying all: probing runs across it.
    #[inline]
    pub(super) fn empty(&mut self, slot: Slot) {
        self.slots[slot.0] = EMPTY;
    }
}
