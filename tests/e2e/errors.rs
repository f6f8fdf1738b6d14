//! The kernel's own counters of bad packets, on all nodes and pods.

use crate::cluster::Cluster;
use std::collections::BTreeMap;
use weft_lab::Namespace;

/// Protocol and counter, as `/proc/net/snmp` and `/proc/net/netstat` name them.
const COUNTERS: [(&str, &str); 7] = [
    ("Ip", "InHdrErrors"),
    ("Icmp", "InCsumErrors"),
    ("Tcp", "InErrs"),
    ("Tcp", "InCsumErrors"),
    ("Udp", "InCsumErrors"),
    ("IpExt", "InTruncatedPkts"),
    ("IpExt", "InCsumErrors"),
];

/// What the counters showed at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Errors(BTreeMap<String, u64>);

impl Errors {
    /// Read them on all nodes and pods.
    pub(crate) fn of(cluster: &Cluster) -> Errors {
        let mut errors = BTreeMap::new();
        for node in cluster.lab.nodes() {
            let pods = node.pods.iter().map(|pod| &pod.ns);
            for ns in std::iter::once(&node.ns).chain(pods) {
                read(ns, &mut errors);
            }
        }
        Errors(errors)
    }

    /// Expect that none has grown since.
    pub(crate) fn assert_none_since(&self, cluster: &Cluster) {
        let Errors(now) = Errors::of(cluster);
        let grown = now
            .iter()
            .filter(|(name, count)| self.0.get(*name) != Some(count));
        let grown: Vec<_> = grown.collect();
        assert!(grown.is_empty(), "counters of bad packets grew: {grown:?}");
    }
}

fn read(ns: &Namespace, errors: &mut BTreeMap<String, u64>) {
    let text = ns.proc_net("snmp").unwrap() + &ns.proc_net("netstat").unwrap();
    for (protocol, counter) in COUNTERS {
        let count = find(&text, protocol, counter);
        let count = count.unwrap_or_else(|| panic!("the kernel has no {protocol} {counter}"));
        errors.insert(format!("{} {protocol}{counter}", ns.name()), count);
    }
}

/// One counter of `/proc/net/snmp` in a network namespace.
pub(crate) fn count(ns: &Namespace, protocol: &str, counter: &str) -> u64 {
    count_in(ns, "snmp", protocol, counter)
}

/// One counter of such a file of `/proc/net`.
pub(crate) fn count_in(ns: &Namespace, file: &str, protocol: &str, counter: &str) -> u64 {
    let text = ns.proc_net(file).unwrap();
    find(&text, protocol, counter).unwrap()
}

/// A line of names is followed by a line of values, both after `protocol:`.
fn find(text: &str, protocol: &str, counter: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(": ")?;
        (name == protocol).then_some(rest)
    });
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == counter)?.1.parse().ok()
}

#[test]
fn counters_are_found_by_their_names() {
    let text = "Ip: Forwarding InHdrErrors\nIp: 1 7\nTcp: InErrs\nTcp: 9\n";
    assert_eq!(find(text, "Ip", "InHdrErrors"), Some(7));
    assert_eq!(find(text, "Tcp", "InErrs"), Some(9));
    assert_eq!(find(text, "Tcp", "InCsumErrors"), None);
}
