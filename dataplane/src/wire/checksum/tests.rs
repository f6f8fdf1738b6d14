use super::*;
use proptest::prelude::*;

/// RFC 1071 section 4.1, word by word.
fn naive(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The same once more, by another hand.
fn etherparse(bytes: &[u8]) -> u16 {
    etherparse::checksum::Sum16BitWords::new()
        .add_slice(bytes)
        .ones_complement()
        .to_be()
}

fn assert_all_agree(bytes: &[u8]) {
    let expected = naive(bytes);
    assert_eq!(sum(bytes).fold(), expected, "{} bytes", bytes.len());
    assert_eq!(sum_portable(bytes).fold(), expected);
    assert_eq!(Sum(sum_lanes(bytes)).fold(), expected);
    assert_eq!(Sum(sum_words(bytes)).fold(), expected);
    assert_eq!(sum(bytes).finish(), etherparse(bytes));
    #[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
    if let Some(wide) = x86::sum(bytes) {
        assert_eq!(Sum(wide).fold(), expected, "AVX2, {} bytes", bytes.len());
    }
}

/// Bytes with long runs of the values that make carries.
fn noise(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            match state & 0x300 {
                0 => 0xff,
                _ => state as u8,
            }
        })
        .collect()
}

#[test]
fn the_example_of_rfc_1071() {
    let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
    assert_eq!(sum(&bytes).fold(), 0xddf2);
    assert_eq!(sum(&bytes).finish(), 0x220d);
    assert_eq!(sum(&[]).fold(), 0);
    assert_eq!(sum(&[0xab]).fold(), 0xab00);
}

#[test]
fn every_length_at_every_alignment() {
    let bytes = noise(300 + 33, 7);
    for len in 0..=300 {
        for start in 0..=33 {
            assert_all_agree(&bytes[start..start + len]);
        }
    }
}

#[test]
fn super_packet_lengths() {
    let bytes = noise(65_536 + 1, 9);
    for (start, len) in [
        (0, 65_536),
        (1, 65_536),
        (1, 65_535),
        (0, 65_501),
        (1, 9_001),
    ] {
        assert_all_agree(&bytes[start..start + len]);
    }
}

#[test]
fn runs_of_ones_carry_all_the_way() {
    for len in 0..=300 {
        assert_all_agree(&vec![0xff; len]);
        assert_all_agree(&vec![0x00; len]);
    }
    assert_all_agree(&vec![0xff; 65_535]);
    let all_ones = Sum(u64::MAX);
    assert_eq!(all_ones.add(all_ones).fold(), 0xffff);
    assert_eq!(all_ones.add_u16(1).fold(), 1);
    assert_eq!(all_ones.add_u32(0x0001_0001).fold(), 2);
}

#[test]
fn a_udp_checksum_is_never_zero() {
    let sum = sum(&[0xff, 0xff]);
    assert_eq!(sum.finish(), 0);
    assert_eq!(sum.finish_udp(), 0xffff);
    assert_eq!(Sum::default().add_u16(1).finish_udp(), 0xfffe);
}

#[test]
fn pseudo_headers_are_those_of_the_rfcs() {
    let v4 = [10, 0, 0, 1, 192, 168, 255, 254, 0, 17, 0xff, 0xe3];
    let sum_v4 = pseudo_v4(
        [10, 0, 0, 1].into(),
        [192, 168, 255, 254].into(),
        17,
        0xffe3,
    );
    assert_eq!(sum_v4.fold(), naive(&v4));

    let src: Ipv6Addr = "2001:db8::ff00:42:8329".parse().unwrap();
    let dst: Ipv6Addr = "fe80::1".parse().unwrap();
    let mut v6 = [src.octets(), dst.octets()].concat();
    v6.extend([0, 1, 0x86, 0xa0, 0, 0, 0, 58]);
    assert_eq!(pseudo_v6(src, dst, 58, 100_000).fold(), naive(&v6));
}

proptest! {
    #[test]
    fn pieces_sum_like_the_whole(
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        cut in any::<prop::sample::Index>(),
    ) {
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1));
        let tail_sum = match head.len() % 2 {
            0 => sum(tail),
            _ => sum(tail).at_odd_offset(),
        };
        prop_assert_eq!(sum(head).add(tail_sum).fold(), naive(&bytes));
    }

    #[test]
    fn fields_sum_like_their_bytes(a: u16, b: u32, c: u16) {
        let bytes = [&a.to_be_bytes()[..], &b.to_be_bytes(), &c.to_be_bytes()].concat();
        let fields = Sum::default().add_u16(a).add_u32(b).add_u16(c);
        prop_assert_eq!(fields.fold(), naive(&bytes));
    }

    #[test]
    fn data_with_its_checksum_is_valid(mut bytes in proptest::collection::vec(any::<u8>(), 2..300)) {
        bytes[..2].fill(0);
        let checksum = sum(&bytes).finish();
        bytes[..2].copy_from_slice(&checksum.to_be_bytes());
        prop_assert!(sum(&bytes).is_valid());
        bytes[1] ^= 1;
        prop_assert!(!sum(&bytes).is_valid());
    }

    /// RFC 1624: what is never 0xffff computed afresh must not become so by an update.
    #[test]
    fn an_update_equals_computing_afresh(
        mut bytes in proptest::collection::vec(any::<u8>(), 20..=20),
        at in 1usize..10,
        new in prop_oneof![Just(0), Just(0xffff), any::<u16>()],
    ) {
        bytes[0] = 0x45;
        let before = sum(&bytes).finish();
        let old = u16::from_be_bytes([bytes[2 * at], bytes[2 * at + 1]]);
        bytes[2 * at..2 * at + 2].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(update(before, old, new), sum(&bytes).finish());
    }

    #[test]
    fn a_wide_update_equals_computing_afresh(
        mut bytes in proptest::collection::vec(any::<u8>(), 20..=20),
        at in 1usize..5,
        new in prop_oneof![Just(0), Just(u32::MAX), any::<u32>()],
    ) {
        bytes[0] = 0x45;
        let before = sum(&bytes).finish();
        let old = take_word(&bytes[4 * at..]);
        bytes[4 * at..4 * at + 4].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(update_u32(before, old, new), sum(&bytes).finish());
    }
}

fn take_word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
