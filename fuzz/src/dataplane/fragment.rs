//! The `fragment` fuzz target: whatever is accepted is cut into fragments that fit and that
//! are the packet when they are put together.
//!
//! Input: a byte of which the lowest four bits say how much of the payload lies apart and
//! the highest whether the length and DF are put right first, a limit of 16 bits in network
//! order, an IPv4 packet.

use weft_dataplane::offload::fragment::{Fragmenter, MAX_HEADER_LEN};
use weft_dataplane::wire::ipv4;

pub(super) fn run(data: &[u8]) {
    let Some((&[mode, high, low], ip)) = data.split_first_chunk::<3>() else {
        return;
    };
    let limit = usize::from(u16::from_be_bytes([high, low]));
    let mut ip = ip.to_vec();
    if mode & 0x80 != 0 {
        put_right(&mut ip);
    }
    let Ok(packet) = ipv4::Packet::header_only(&ip[..]) else {
        return;
    };
    let header_len = packet.header_len();
    let split = header_len + usize::from(mode & 0xf);
    let Some(head) = ip.get(..split) else {
        return;
    };
    if let Ok(fragmenter) = Fragmenter::new(head, split..ip.len(), limit) {
        cut(fragmenter, &ip, header_len, limit);
    }
}

/// Make the length that of the buffer, and clear DF.
fn put_right(ip: &mut [u8]) {
    let len = ip.len();
    if let (Ok(mut packet), Ok(len)) = (ipv4::Packet::header_only(ip), u16::try_from(len)) {
        let (more, offset) = (packet.more_frags(), packet.frag_offset());
        packet.set_total_len(len);
        packet.set_fragment(false, more, offset);
    }
}

fn cut(mut fragmenter: Fragmenter, ip: &[u8], header_len: usize, limit: usize) {
    let whole = ipv4::Packet::header_only(ip).expect("it was accepted");
    let mut slot = [0; MAX_HEADER_LEN];
    let mut payload = Vec::new();
    let mut more = true;
    while let Some((len, range)) = fragmenter.fragment(&mut slot) {
        assert!(more, "a fragment behind the last");
        let mut fragment = slot[..len].to_vec();
        fragment.extend_from_slice(&ip[range]);
        assert!(fragment.len() <= limit);
        let packet = ipv4::Packet::new(&fragment[..]).expect("a fragment is a packet");
        assert_eq!(usize::from(packet.total_len()), fragment.len());
        assert!(packet.verify_checksum() && !packet.dont_frag());
        assert_eq!(packet.header_len(), header_len);
        let at = usize::from(whole.frag_offset()) + payload.len();
        assert_eq!(usize::from(packet.frag_offset()), at);
        if payload.is_empty() {
            assert_eq!(packet.options(), whole.options());
        }
        payload.extend_from_slice(packet.payload());
        let last = payload.len() == ip.len() - header_len;
        assert_eq!(packet.more_frags(), !last || whole.more_frags());
        more = !last;
    }
    assert!(fragmenter.is_done());
    assert_eq!(payload, &ip[header_len..]);
}
