//! IPsec as far as it concerns who sends past it: whether there are policies.

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
use rustix::net::{recv, send, socket_with};
use std::io;

/// `XFRM_MSG_GETSPDINFO` of `linux/xfrm.h`.
const GET_INFO: u16 = 0x25;

/// Its answer.
const INFO: u16 = 0x24;

/// `XFRMA_SPD_INFO`: numbers of policies in, out and forward, and then of sockets' own.
const COUNTS: u16 = 1;

/// `NLM_F_REQUEST`
const REQUEST: u16 = 1;

/// Bytes of `struct nlmsghdr` and of the flags behind it.
const HEADER: usize = 16 + 4;

/// How many policies the network namespace of the calling thread has for what comes in, goes out
/// or is forwarded. A kernel without IPsec has none.
pub fn policies() -> io::Result<u32> {
    let kind = SocketType::RAW;
    let socket = socket_with(
        AddressFamily::NETLINK,
        kind,
        SocketFlags::CLOEXEC,
        Some(netlink::XFRM),
    );
    let socket = match socket {
        Err(Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT) => return Ok(0),
        socket => socket?,
    };
    let mut request = [0; HEADER];
    request[..4].copy_from_slice(&(HEADER as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&GET_INFO.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 512];
    // The kernel has answered when the request is sent.
    let (len, _) = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    read(&answer[..len])
}

/// The sum of what an answer counts.
fn read(answer: &[u8]) -> io::Result<u32> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "an answer of another kind");
    if number::<2>(answer, 4).map(u16::from_ne_bytes) != Some(INFO) {
        let refusal = number::<4>(answer, 16).map(i32::from_ne_bytes);
        return Err(refusal.map_or_else(odd, |errno| io::Error::from_raw_os_error(-errno)));
    }
    let mut at = HEADER;
    while let (Some(len), Some(kind)) = (number::<2>(answer, at), number::<2>(answer, at + 2)) {
        if u16::from_ne_bytes(kind) == COUNTS {
            let counts = [4, 8, 12].map(|offset| number::<4>(answer, at + offset));
            let counts = counts.into_iter().flatten().map(u32::from_ne_bytes);
            return Ok(counts.fold(0, u32::saturating_add));
        }
        // Aligned to four bytes; less than its own header is no attribute.
        at += usize::from(u16::from_ne_bytes(len))
            .max(4)
            .next_multiple_of(4);
    }
    Err(odd())
}

fn number<const LEN: usize>(bytes: &[u8], at: usize) -> Option<[u8; LEN]> {
    bytes.get(at..at + LEN)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns::{self, ip};

    #[test]
    fn policies_in_out_and_forward_count() {
        netns::run(async |_| {
            assert_eq!(policies().unwrap(), 0);
            for (number, direction) in ["in", "out", "fwd"].into_iter().enumerate() {
                let line = format!("xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir {direction}");
                ip(&line.split(' ').collect::<Vec<_>>());
                assert_eq!(policies().unwrap(), number as u32 + 1, "{direction}");
            }
            ip(&["xfrm", "policy", "flush"]);
            assert_eq!(policies().unwrap(), 0);
        });
    }

    #[test]
    fn answers_of_another_kind_are_errors() {
        let mut refusal = [0; 20];
        refusal[4] = 2;
        refusal[16..].copy_from_slice(&(-1_i32).to_ne_bytes());
        let error = read(&refusal).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        for len in [0, 4, 8, 19, 20] {
            let mut answer = vec![0; len];
            if let Some(kind) = answer.get_mut(4..6) {
                kind.copy_from_slice(&INFO.to_ne_bytes());
            }
            assert!(read(&answer).is_err(), "{len}");
        }
    }
}
