//! Tests that cannot run on this machine.

use crate::{ip, tools};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Whether this process may make namespaces: it runs as root and has `ip`.
/// Otherwise the reason in one line, for tests that have to be skipped.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    ip("netns list").err().map(|e| e.to_string())
}

/// Whether no namespace can be made here. If so the test is skipped (see [`skip`]).
pub fn skips_test_without_namespaces() -> bool {
    skip_if(unavailable())
}

/// Whether the lab cannot run here, for want of root or of its programs. If so the test is
/// skipped (see [`skip`]).
pub fn skips_test() -> bool {
    skips_test_without(&[])
}

/// As [`skips_test`], also where one of these files, or programs in `PATH`, is missing. Each
/// comes with the Debian package that has it.
pub fn skips_test_without(files: &[(&str, &str)]) -> bool {
    let missing = || tools::missing().map(|missing| missing.to_string());
    let absent = || {
        let there = |file: &str| Path::new(file).exists() || tools::in_path(file);
        let absent = files.iter().find(|(file, _)| !there(file));
        absent.map(|(file, package)| format!("there is no {file}; try `apt-get install {package}`"))
    };
    skip_if(unavailable().or_else(missing).or_else(absent))
}

fn skip_if(reason: Option<String>) -> bool {
    if let Some(reason) = &reason {
        skip(reason);
    }
    reason.is_some()
}

/// Say that a test is skipped, and, so that `make test` can count it, append the reason to the
/// file that `WEFT_SKIPPED` names.
pub fn skip(reason: &str) {
    // Not with eprintln, whose output the test harness swallows where tests pass.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    if let Some(path) = std::env::var_os("WEFT_SKIPPED") {
        let file = File::options().append(true).open(path);
        // Only the count suffers if that cannot be written.
        let _ = file.and_then(|mut file| writeln!(file, "{reason}"));
    }
}
