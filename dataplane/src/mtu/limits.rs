//! How long an inner packet may be on a path of a known MTU.

use crate::wire::frame::Wire;
use crate::wire::{ipv4, ipv6};
use std::net::IpAddr;

/// Bytes of IP and UDP header around a frame.
pub fn outer_headers(peer: IpAddr) -> usize {
    let ip = match peer.to_canonical() {
        IpAddr::V4(_) => ipv4::MIN_HEADER_LEN,
        IpAddr::V6(_) => ipv6::HEADER_LEN,
    };
    ip + crate::wire::udp::HEADER_LEN
}

/// The longest inner packet that a path of this MTU carries in one outer packet.
pub fn inner_limit(wire: Wire, peer: IpAddr, mtu: u16) -> usize {
    usize::from(mtu).saturating_sub(outer_headers(peer) + wire.header_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overheads() {
        let v4: IpAddr = [127, 0, 0, 1].into();
        let v6: IpAddr = "fd00::1".parse().unwrap();
        assert_eq!(inner_limit(Wire::Vxlan, v4, 1500), 1450);
        assert_eq!(inner_limit(Wire::Vxlan, v6, 1500), 1430);
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(inner_limit(Wire::Vxlan, mapped, 1500), 1450);
        assert_eq!(inner_limit(Wire::Vxlan, v6, 60), 0);
        assert_eq!(inner_limit(Wire::Ip, v4, 1500), 1472);
    }
}
