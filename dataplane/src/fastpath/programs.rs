//! The programs by their names, and how they get into the kernel.

use super::FastPathError;
use super::error::During;
use super::layout::Settings;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfLoader};
use std::io;

/// The programs, built by `dataplane/bpf/build.sh`.
static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/weft.bpf.o"));

/// From the TUN device to the underlay.
pub(super) const OUT: &str = "weft_out";
/// From the underlay to the TUN device.
pub(super) const IN: &str = "weft_in";
/// From the merging pair to the TUN device.
pub(super) const MERGED: &str = "weft_merged";
/// To the workers, while there are any.
pub(super) const WORKERS: &str = "weft_workers";

/// Load all of them with these settings.
pub(super) fn load(settings: &Settings) -> Result<Ebpf, FastPathError> {
    let mut programs = EbpfLoader::new()
        .override_global("settings", settings, true)
        .load(OBJECT)
        .during("loading the programs")?;
    for name in [OUT, IN, MERGED, WORKERS] {
        let program = program(&mut programs, name)?;
        load_one(program).during("loading the programs")?;
    }
    Ok(programs)
}

/// The program of this name.
pub(super) fn program<'a>(
    programs: &'a mut Ebpf,
    name: &str,
) -> Result<&'a mut SchedClassifier, FastPathError> {
    let program = programs.program_mut(name).ok_or_else(missing)?;
    program.try_into().during(name)
}

/// As often as libbpf tries to load a program while the kernel says `EAGAIN`.
const LOADS: usize = 5;

/// Load a program; a signal while the kernel verifies it has the kernel give up (`EAGAIN`).
pub(super) fn load_one(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    for _ in 1..LOADS {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome,
        }
    }
    program.load()
}

/// The object is built with this very code.
pub(super) fn missing() -> FastPathError {
    FastPathError::because("the object", "a part of it is missing")
}
