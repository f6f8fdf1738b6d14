//! The target `wire` with made-up bytes, beside its corpus: cheap enough for every run.

use proptest::collection::vec;
use proptest::prelude::*;
use weft_fuzz::dataplane::wire;

/// Bytes that are likely to pass for an IP header, of a length that may fit.
fn ip_like() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![Just(0x45), Just(0x4f), Just(0x60), any::<u8>()];
    (first, any::<bool>(), vec(any::<u8>(), 7..200)).prop_map(|(first, fits, mut bytes)| {
        bytes[0] = first;
        let len = bytes.len();
        let (field, value) = match first >> 4 {
            6 => (4, len.saturating_sub(40)),
            _ => (2, len),
        };
        if fits {
            bytes[field..field + 2].copy_from_slice(&(value as u16).to_be_bytes());
        }
        bytes
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        wire(&bytes);
    }

    #[test]
    fn ip_like_bytes_never_panic(bytes in ip_like()) {
        wire(&bytes);
    }
}
