//! `weft version`.

use std::io::Write;
use std::process::ExitCode;

/// Name and version, as every place prints them.
pub(crate) const TEXT: &str = concat!("weft ", env!("CARGO_PKG_VERSION"));

/// Print the version on standard output.
pub(crate) fn run() -> ExitCode {
    match writeln!(std::io::stdout(), "{TEXT}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
