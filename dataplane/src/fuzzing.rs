//! Entry points of the fuzz targets, as plain functions over bytes.
//!
//! Each takes any bytes and panics on a broken promise. `fuzz/fuzz_targets` wraps them for
//! libFuzzer, and `tests/corpora.rs` replays the corpora in `fuzz/corpus` through them.

mod wire;

/// Read `data` as every protocol of [`crate::wire`] and from the VXLAN header inwards,
/// call all accessors and setters, and build the ICMP errors that answer it.
pub fn wire(data: &[u8]) {
    wire::run(data);
}
