//! Which send socket an inner flow uses.

use crate::route::table::EXITS;
use crate::wire::ip::{IpPacket, protocol};

/// The send sockets: as many for each group of peers, so that the outer source port can follow
/// the inner flow.
#[derive(Clone, Copy, Debug)]
pub struct SendPool {
    buckets: u8,
    exits: u8,
}

impl SendPool {
    /// `buckets` sockets for each group (at least 1), and as many groups as a byte can number, up
    /// to [`EXITS`].
    pub fn new(buckets: u8) -> SendPool {
        let buckets = buckets.max(1);
        SendPool {
            buckets,
            exits: EXITS.min(u8::MAX / buckets),
        }
    }

    /// Sockets in all.
    pub fn sockets(self) -> usize {
        usize::from(self.buckets) * usize::from(self.exits)
    }

    /// Number of the socket for the flow that `ip` belongs to, whose payload begins with `ports`,
    /// among those of the group `exit`.
    #[inline]
    pub fn socket(self, ip: &IpPacket<'_>, ports: Option<[u8; 4]>, exit: u8) -> u8 {
        let bucket = bucket(ip, ports, self.buckets);
        match exit {
            // Nearly always, and a division costs as much as all the rest.
            0 => bucket,
            _ => exit % self.exits * self.buckets + bucket,
        }
    }
}

/// The send bucket, below `buckets`, of the flow that `ip` belongs to; `ports` are the first bytes
/// of its payload.
///
/// Addresses, protocol and, where every packet of the flow has them, ports: a fragment has
/// none or only the first has, so all fragments of one packet must do without.
#[inline]
pub fn bucket(ip: &IpPacket<'_>, ports: Option<[u8; 4]>, buckets: u8) -> u8 {
    if buckets <= 1 {
        return 0;
    }
    let (mut hash, fragment) = match ip {
        IpPacket::V4(packet) => {
            let addresses = u64::from(packet.src().to_bits()) << 32;
            (
                addresses | u64::from(packet.dst().to_bits()),
                packet.is_fragment(),
            )
        }
        IpPacket::V6(packet) => {
            let (src, dst) = (packet.src().to_bits(), packet.dst().to_bits());
            let mixed = src.rotate_left(64) ^ dst.wrapping_mul(MIX as u128 | 1);
            (mixed as u64 ^ (mixed >> 64) as u64, false)
        }
    };
    let kind = ip.protocol();
    hash ^= u64::from(kind) << 56;
    if !fragment
        && matches!(kind, protocol::TCP | protocol::UDP)
        && let Some(ports) = ports
    {
        hash = mix(hash) ^ u64::from(u32::from_be_bytes(ports));
    }
    // The high half of a product depends on all bits below; scaling it avoids a division.
    ((u64::from((mix(hash) >> 32) as u32) * u64::from(buckets)) >> 32) as u8
}

/// 2^64 divided by the golden ratio, whose multiples spread evenly (Knuth 6.4).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn mix(value: u64) -> u64 {
    let product = value.wrapping_mul(MIX);
    (product ^ (product >> 32)).wrapping_mul(MIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_peers_share_no_socket() {
        for buckets in [0, 1, 8, 63, 64, 100, 255] {
            let pool = SendPool::new(buckets);
            assert!((1..=255).contains(&pool.sockets()));
            let groups = (0..EXITS).map(|exit| {
                let flows = (1..20_000).map(|port| tcp(port, false));
                let socket = |bytes: Vec<u8>| {
                    let ip = IpPacket::new(&bytes).unwrap();
                    pool.socket(&ip, ip.ports(), exit)
                };
                flows.map(socket).collect::<std::collections::BTreeSet<_>>()
            });
            let groups: Vec<_> = groups.collect();
            let all: std::collections::BTreeSet<_> = groups.iter().flatten().collect();
            assert!(
                all.iter()
                    .all(|&&socket| usize::from(socket) < pool.sockets())
            );
            assert_eq!(all.len(), pool.sockets(), "{buckets}");
            if pool.exits == EXITS {
                let sum: usize = groups.iter().map(|group| group.len()).sum();
                assert_eq!(sum, all.len(), "{buckets}");
            }
        }
    }

    fn tcp(src_port: u16, fragment: bool) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[0] = 0x45;
        bytes[3] = 40;
        bytes[6] = if fragment { 0x20 } else { 0 };
        bytes[9] = protocol::TCP;
        bytes[12..20].copy_from_slice(&[10, 244, 1, 2, 10, 244, 2, 2]);
        bytes[20..22].copy_from_slice(&src_port.to_be_bytes());
        bytes[22..24].copy_from_slice(&5201u16.to_be_bytes());
        bytes
    }

    fn bucket_of(bytes: &[u8], buckets: u8) -> u8 {
        let ip = IpPacket::new(bytes).unwrap();
        bucket(&ip, ip.ports(), buckets)
    }

    #[test]
    fn flows_spread_evenly() {
        let mut hits = [0; 16];
        for port in 32_768..33_768 {
            hits[usize::from(bucket_of(&tcp(port, false), 16))] += 1;
        }
        assert!(hits.iter().all(|&n| (30..=100).contains(&n)), "{hits:?}");
    }

    #[test]
    fn a_flow_stays_and_fragments_ignore_ports() {
        assert_eq!(bucket_of(&tcp(1, false), 16), bucket_of(&tcp(1, false), 16));
        for port in 0..50 {
            assert_eq!(
                bucket_of(&tcp(port, true), 16),
                bucket_of(&tcp(1, true), 16)
            );
        }
    }

    #[test]
    fn one_bucket_needs_no_hash() {
        assert_eq!(bucket_of(&tcp(1, false), 1), 0);
        assert_eq!(bucket_of(&tcp(1, false), 0), 0);
    }
}
