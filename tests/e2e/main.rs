//! weft as a whole: agents, a real etcd, pods and kernel VXLAN peers in network namespaces.
//!
//! Every test builds a lab of its own, which goes with it. Without root they are skipped,
//! each with a line `SKIPPED: <name>: <reason>` on stderr.
#![allow(clippy::unwrap_used)]

/// Leave a test that cannot make namespaces here, and say so.
macro_rules! need_lab {
    () => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here).trim_end_matches("::here");
        if !crate::can_run(test) {
            return;
        }
    }};
}

mod capture;
mod cluster;
mod errors;
mod interop;
mod pods;
mod probe;
mod traffic;
mod wire;

use std::io::Write;

/// Whether tests can make namespaces. If not, the reason is written past the test harness,
/// which swallows what passing tests print.
fn can_run(test: &str) -> bool {
    match weft_benches::lab::unavailable() {
        Some(reason) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {reason}");
            false
        }
        None => true,
    }
}
