//! What files and system calls tell of the host.

use crate::doctor::facts::HostFacts;
use crate::host::{ipsec, kernel};
use crate::status::NodeStatus;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use weft_dataplane::sys::{clock, ethtool};

/// Settings that are looked at, below `/proc/sys`.
const SYSCTLS: [&str; 6] = [
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv4/conf/all/ignore_routes_with_linkdown",
    "net/bridge/bridge-nf-call-iptables",
    "kernel/io_uring_disabled",
];

/// Where a BPF file system belongs.
const BPFFS: &str = "/sys/fs/bpf";

pub(super) fn look(facts: &mut HostFacts, status: Option<&NodeStatus>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    facts.release = release.unwrap_or_default().trim().to_owned();
    facts.corrupts_udp_gso = kernel::corrupts_udp_gso().is_some();
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun");
    facts.tun = tun.err().map(|error| error.to_string());
    let tunnels = status.map_or(&[][..], |status| &status.tunnels);
    let devices = tunnels
        .iter()
        .map(|tunnel| format!("net/ipv4/conf/{}/rp_filter", tunnel.device));
    for path in SYSCTLS.map(str::to_owned).into_iter().chain(devices) {
        if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(&path)) {
            facts.sysctls.insert(path, value.trim().to_owned());
        }
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    facts.bpffs = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(BPFFS) && words.next() == Some("bpf")
    });
    facts.ipsec = ipsec::policies().unwrap_or(0);
    let underlay = status.map(|status| status.underlay.name.as_str());
    facts.gro = underlay.and_then(|name| Some(ethtool::features(name).ok()?.gro));
    facts.now = seconds(SystemTime::now());
    facts.synchronized = Some(clock::is_synchronized());
    let snmp = fs::read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
    facts.received = received(&snmp);
}

/// Seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Datagrams and segments received, and those with a wrong checksum, of `/proc/net/snmp`.
fn received(snmp: &str) -> (u64, u64) {
    let value = |protocol: &str, name: &str| {
        let prefix = format!("{protocol}: ");
        let mut lines = snmp.lines().filter_map(|line| line.strip_prefix(&prefix));
        let at = lines.next()?.split(' ').position(|word| word == name)?;
        lines.next()?.split(' ').nth(at)?.parse::<u64>().ok()
    };
    let sum = |names: [(&str, &str); 2]| names.map(|(p, n)| value(p, n).unwrap_or(0)).iter().sum();
    (
        sum([("Udp", "InDatagrams"), ("Tcp", "InSegs")]),
        sum([("Udp", "InCsumErrors"), ("Tcp", "InCsumErrors")]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_counters_are_read_by_their_names() {
        let snmp = "Tcp: ActiveOpens InSegs InCsumErrors\nTcp: 1 200 3\n\
            Udp: InDatagrams NoPorts InCsumErrors\nUdp: 1000 7 4\n";
        assert_eq!(received(snmp), (1200, 7));
        assert_eq!(received("Udp: InDatagrams\nUdp: x\n"), (0, 0));
        assert_eq!(received(""), (0, 0));
    }

    #[test]
    fn this_host_has_a_kernel_and_a_time() {
        let mut facts = HostFacts::default();
        look(&mut facts, None);
        assert!(!facts.release.is_empty());
        assert!(facts.now > 1_700_000_000);
        assert!(facts.sysctls.contains_key("net/ipv4/ip_forward"));
    }
}
