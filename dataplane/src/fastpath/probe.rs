//! Whether this kernel does what the programs ask of it, found out with packets of our own before
//! any pod's packet is touched: each is sent out and taken in again by test runs
//! (`BPF_PROG_TEST_RUN`), and must be what it was.

use super::error::{During, FastPathError};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions};

/// What a program returns that has redirected a packet (`TC_ACT_REDIRECT`).
pub(super) const REDIRECT: u32 = 7;

/// Bytes of an Ethernet header.
pub(super) const MAC_HEADER: usize = 14;

/// `struct __sk_buff`, of which a test run takes a few fields.
const CONTEXT_LEN: usize = 192;
const CONTEXT_GSO_SEGS: usize = 164;
const CONTEXT_GSO_SIZE: usize = 176;

/// A super-packet's segments and their payload in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gso {
    pub(super) segments: u32,
    pub(super) size: u32,
}

/// What a program made of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) action: u32,
    pub(super) bytes: Vec<u8>,
}

/// Run `program` on `bytes`, which begin with an Ethernet header.
pub(super) fn run(
    program: &SchedClassifier,
    bytes: &[u8],
    gso: Option<Gso>,
) -> Result<Outcome, FastPathError> {
    let mut out = vec![0; bytes.len() + 256];
    let mut context = [0; CONTEXT_LEN];
    if let Some(Gso { segments, size }) = gso {
        context[CONTEXT_GSO_SEGS..][..4].copy_from_slice(&segments.to_ne_bytes());
        context[CONTEXT_GSO_SIZE..][..4].copy_from_slice(&size.to_ne_bytes());
    }
    let options = TestRunOptions {
        data_in: Some(bytes),
        data_out: Some(&mut out),
        ctx_in: gso.is_some().then_some(&context[..]),
        ..TestRunOptions::default()
    };
    let result = program.test_run(options).during("a test run")?;
    out.truncate(result.data_size_out as usize);
    Ok(Outcome {
        action: result.return_value,
        bytes: out,
    })
}
