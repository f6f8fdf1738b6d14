//! TCP segments, as the kernel counts them: a super-packet is as many as it will be cut into.

use weft_lab::{Error, Pod, Result};

/// Segments that a pod has sent since it was made, acknowledgements included.
pub fn sent(pod: &Pod) -> Result<u64> {
    let text = pod.ns.proc_net("snmp")?;
    counter(&text, "OutSegs").ok_or_else(|| Error::new("no Tcp OutSegs in /proc/net/snmp"))
}

/// A counter of the two `Tcp:` lines: one of names, one of values.
fn counter(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|n| n == name)?;
    values.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Ip: Forwarding OutSegs\nIp: 1 2\nTcp: RtoMin MaxConn InSegs OutSegs\n\
                    Tcp: 200 -1 7 8\nUdp: OutSegs\nUdp: 9\n";
        assert_eq!(counter(text, "OutSegs"), Some(8));
        assert_eq!(counter(text, "InSegs"), Some(7));
        assert_eq!(counter(text, "MaxConn"), None, "not a count");
        assert_eq!(counter(text, "Others"), None);
        assert_eq!(counter("Tcp: OutSegs\n", "OutSegs"), None);
    }

    #[test]
    fn the_kernel_has_the_counter() {
        let text = std::fs::read_to_string("/proc/net/snmp").unwrap();
        assert!(counter(&text, "OutSegs").is_some());
    }
}
