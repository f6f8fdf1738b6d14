//! What both engines make of received datagrams and of writes to the TUN.

use crate::offload::coalesce::{Coalescer, Write};
use crate::stats::{Count, DropReason, WorkerStats};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Room for the source address, IPv4 or IPv6.
pub(super) const NAME_SPACE: usize = size_of::<libc::sockaddr_in6>();

/// Count a write that moved `result` bytes, or failed with a negated errno. Tells whether the
/// kernel refused it for being a super-packet: some stable kernels take none on a TUN.
pub(super) fn note_written(stats: &WorkerStats, write: &Write, result: i32) -> bool {
    if result == write.bytes() as i32 {
        stats.add(Count::TunWrites, 1);
        stats.add(Count::TunWriteBytes, write.ip_len() as u64);
        return false;
    }
    stats.count_drops(DropReason::WriteFailed, write.segments() as u64);
    result == -libc::EINVAL && write.is_super()
}

/// Learn from write `refused`, which the kernel would not have.
pub(super) fn note_refusal(coalescer: &mut Coalescer, refused: Option<usize>, stats: &WorkerStats) {
    if let Some(index) = refused
        && coalescer.note_refusal(index)
    {
        stats.add(Count::MergesRefused, 1);
    }
}

/// The address in a `sockaddr_in` or `sockaddr_in6`, whose first field is the family in
/// native byte order, and whose second is the port.
pub(super) fn source(name: &[u8]) -> Option<IpAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    match i32::from(family) {
        libc::AF_INET => {
            let octets: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        }
        libc::AF_INET6 => {
            let octets: [u8; 16] = *name.get(8..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(unsafe_code)]
mod tests {
    use super::*;
    use socket2::SockAddr;
    use std::net::SocketAddr;

    fn bytes(address: &str) -> Vec<u8> {
        let address = SockAddr::from(address.parse::<SocketAddr>().unwrap());
        // SAFETY: the address is `len` initialised bytes.
        unsafe {
            std::slice::from_raw_parts(address.as_ptr().cast(), address.len() as usize).to_vec()
        }
    }

    #[test]
    fn source_addresses() {
        assert_eq!(source(&bytes("10.1.2.3:4")), Some([10, 1, 2, 3].into()));
        assert_eq!(source(&bytes("[fd00::1]:4")), "fd00::1".parse().ok());
        assert_eq!(source(&[]), None);
        assert_eq!(source(&bytes("10.1.2.3:4")[..6]), None);
        assert_eq!(source(&[1, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
