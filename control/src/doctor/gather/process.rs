//! What a process may do.

use crate::doctor::facts::ProcessFacts;
use std::fs;

/// Names of weft's processes, by which one of another pid namespace is told from a stranger.
const NAMES: [&str; 2] = ["weft", "flanneld"];

/// The process of this number, if it is an agent that can be seen from here.
pub(super) fn of(pid: u32) -> Option<ProcessFacts> {
    read(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

/// What the file `status` of a process says.
fn read(text: &str) -> Option<ProcessFacts> {
    let value = |name: &str| {
        let mut lines = text.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
    };
    NAMES.contains(&value("Name")?).then_some(())?;
    Some(ProcessFacts {
        capabilities: u64::from_str_radix(value("CapEff")?, 16).ok()?,
        // Kernels without it have no filters.
        seccomp: value("Seccomp")
            .and_then(|mode| mode.parse().ok())
            .unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agents_process_is_read_and_a_strangers_is_not() {
        let text = "Name:\tweft\nUmask:\t0022\nCapEff:\t000001c000003000\nSeccomp:\t2\n";
        let facts = read(text).unwrap();
        assert_eq!((facts.capabilities, facts.seccomp), (0x1c0_0000_3000, 2));
        assert_eq!(read(&text.replace("weft", "bash")), None);
        assert_eq!(read("Name:\tweft\n"), None);
        assert_eq!(of(u32::MAX), None);
    }
}
