use super::*;
use crate::offload::testing::{Spec, fix_ipv4_checksum};
use etherparse::Ipv4HeaderSlice;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// Record route, not copied, and router alert, copied, with a no-operation between.
const OPTIONS: [u8; 12] = [7, 7, 4, 0, 0, 0, 0, 1, 0x94, 4, 0, 0];

/// A packet that may be fragmented.
fn packet(payload: usize, options: &[u8]) -> Vec<u8> {
    let spec = Spec {
        df: false,
        ident: 0xbeef,
        ip_options: options.to_vec(),
        ..Spec::udp4(payload)
    };
    spec.build()
}

/// All fragments of `bytes`, `lead` bytes of whose payload lie apart.
fn cut(bytes: &[u8], lead: usize, limit: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
    let header_len = usize::from(bytes[0] & 0xf) * 4;
    let split = header_len + lead;
    let mut fragmenter = Fragmenter::new(&bytes[..split], split..bytes.len(), limit)?;
    let mut fragments = Vec::new();
    let mut slot = [0xee; MAX_HEADER_LEN];
    while let Some((len, payload)) = fragmenter.fragment(&mut slot) {
        let mut fragment = slot[..len].to_vec();
        fragment.extend(&bytes[payload]);
        fragments.push(fragment);
    }
    assert!(fragmenter.is_done());
    Ok(fragments)
}

/// Put fragments together as a receiver does, with etherparse to read them. Returns the
/// payload and where it begins.
fn reassemble(fragments: &[Vec<u8>]) -> (usize, Vec<u8>, bool) {
    let mut parts = BTreeMap::new();
    let mut more_behind = false;
    for fragment in fragments {
        let header = Ipv4HeaderSlice::from_slice(fragment).unwrap();
        assert_eq!(usize::from(header.total_len()), fragment.len());
        assert_eq!(
            header.to_header().calc_header_checksum(),
            header.header_checksum()
        );
        assert!(!header.dont_fragment());
        let payload = &fragment[header.slice().len()..];
        let at = usize::from(header.fragments_offset().value()) * 8;
        parts.insert(at, (payload.to_vec(), header.more_fragments()));
    }
    assert_eq!(parts.len(), fragments.len(), "no two at one place");
    let start = *parts.keys().next().unwrap();
    let mut whole = Vec::new();
    for (i, (at, (payload, more))) in parts.iter().enumerate() {
        assert_eq!(*at, start + whole.len(), "a gap or an overlap");
        whole.extend(payload);
        let last = i + 1 == parts.len();
        assert!(*more || last);
        more_behind = *more;
    }
    (start, whole, more_behind)
}

#[test]
fn fragments_carry_the_packet_and_fit() {
    let bytes = packet(4000, &[]);
    let fragments = cut(&bytes, 0, 1350).unwrap();
    let lens: Vec<_> = fragments.iter().map(Vec::len).collect();
    // 1,328 is the largest multiple of 8 that leaves room for the header.
    assert_eq!(lens, [1348, 1348, 1348, 4008 - 3 * 1328 + 20]);
    assert_eq!(reassemble(&fragments), (0, bytes[20..].to_vec(), false));
    for fragment in &fragments {
        // Version, length of header, ToS; identification; TTL, protocol; addresses.
        assert_eq!(fragment[..2], bytes[..2]);
        assert_eq!(fragment[4..6], bytes[4..6]);
        assert_eq!(fragment[8..10], bytes[8..10]);
        assert_eq!(fragment[12..20], bytes[12..20]);
    }
}

#[test]
fn a_packet_that_just_fits_stays_whole() {
    let bytes = packet(1002, &[]);
    assert_eq!(cut(&bytes, 8, bytes.len()).unwrap(), vec![bytes.clone()]);
    assert_eq!(cut(&bytes, 8, bytes.len() - 1).unwrap().len(), 2);
}

#[test]
fn only_options_with_the_copied_flag_are_in_later_fragments() {
    let bytes = packet(3000, &OPTIONS);
    let fragments = cut(&bytes, 8, 1000).unwrap();
    assert_eq!(fragments[0][20..32], OPTIONS);
    for fragment in &fragments[1..] {
        assert_eq!(
            fragment[20..32],
            [1, 1, 1, 1, 1, 1, 1, 1, 0x94, 4, 0, 0],
            "no-operations in place of what is not copied"
        );
    }
    assert_eq!(reassemble(&fragments), (0, bytes[32..].to_vec(), false));
}

#[test]
fn malformed_options_are_left_as_they_are() {
    for options in [[7, 1, 0, 0], [7, 0, 0, 0], [7, 200, 4, 0], [1, 1, 1, 7]] {
        let bytes = packet(100, &options);
        for fragment in cut(&bytes, 0, 60).unwrap() {
            assert_eq!(fragment[20..24], options);
        }
    }
}

#[test]
fn fragments_of_a_fragment_keep_its_place_and_what_follows_it() {
    let bytes = packet(8000, &[]);
    // As a router with a larger MTU would have cut it.
    let first = cut(&bytes, 0, 3020).unwrap();
    assert_eq!(first.len(), 3);
    let mut all = Vec::new();
    for fragment in &first {
        let again = cut(fragment, 0, 620).unwrap();
        let last = fragment == &first[2];
        let (start, payload, more) = reassemble(&again);
        assert_eq!(payload, fragment[20..]);
        assert_eq!(more, !last);
        assert_eq!(
            start,
            usize::from(
                Ipv4HeaderSlice::from_slice(fragment)
                    .unwrap()
                    .fragments_offset()
                    .value()
            ) * 8
        );
        all.extend(again);
    }
    assert_eq!(reassemble(&all), (0, bytes[20..].to_vec(), false));
}

#[test]
fn what_cannot_be_fragmented_is_refused() {
    let bytes = packet(2000, &[]);
    let mut forbidden = bytes.clone();
    forbidden[6] = 0x40;
    assert_eq!(cut(&forbidden, 0, 600), Err(FragmentError::DontFragment));
    assert_eq!(cut(&bytes, 0, 27), Err(FragmentError::TooShort(27)));
    assert_eq!(cut(&bytes, 9, 600), Err(FragmentError::Lead));
    assert_eq!(cut(&bytes[..1000], 0, 600), Err(FragmentError::Length));
    let mut late = bytes.clone();
    late[6..8].copy_from_slice(&0x1fffu16.to_be_bytes());
    fix_ipv4_checksum(&mut late);
    assert_eq!(cut(&late, 0, 600), Err(FragmentError::Beyond));
    let header = Fragmenter::new(&bytes[..19], 19..2000, 600);
    assert_eq!(
        header.unwrap_err(),
        FragmentError::Malformed(Malformed::Truncated)
    );
}

#[test]
fn a_slot_too_short_changes_nothing() {
    let bytes = packet(100, &[]);
    let mut fragmenter = Fragmenter::new(&bytes[..28], 28..128, 60).unwrap();
    assert_eq!(fragmenter.fragment(&mut [0; 27]), None);
    let mut slot = [0; 28];
    assert_eq!(fragmenter.fragment(&mut slot), Some((28, 28..60)));
    assert_eq!(fragmenter.fragment(&mut slot), Some((20, 60..100)));
    assert_eq!(fragmenter.fragment(&mut slot), Some((20, 100..128)));
    assert_eq!(fragmenter.fragment(&mut slot), None);
}

proptest! {
    #[test]
    fn fragments_put_together_are_the_packet(
        payload in 0usize..9000,
        options in prop::collection::vec(any::<u8>(), 0..=10).prop_map(|words| words.repeat(4)),
        lead in 0usize..=8,
        limit in 68usize..3000,
        offset in 0u16..500,
        more: bool,
    ) {
        let mut bytes = packet(payload, &options);
        bytes[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
        fix_ipv4_checksum(&mut bytes);
        let header_len = 20 + options.len();
        let fragments = cut(&bytes, lead, limit).unwrap();
        prop_assert!(fragments.iter().all(|fragment| fragment.len() <= limit));
        let full = (limit - header_len) / 8 * 8;
        for fragment in &fragments[..fragments.len() - 1] {
            prop_assert_eq!(fragment.len() - header_len, full);
        }
        let (start, whole, behind) = reassemble(&fragments);
        prop_assert_eq!(start, usize::from(offset) * 8);
        prop_assert_eq!(&whole, &bytes[header_len..]);
        prop_assert_eq!(behind, more);
        prop_assert_eq!(&fragments[0][12..header_len], &bytes[12..header_len]);
    }
}
