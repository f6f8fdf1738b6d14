//! Programs as filters of the clsact qdisc, which is how they are attached below Linux 6.6.

use super::await_starts;
use super::switch::fast_path;
use crate::cluster::{Cluster, NEWS, lines_with};
use crate::errors::Errors;
use crate::pods::{exchange, exchange_fragments};
use crate::traffic::tcp;
use weft_lab::{Regime, skips_test, wait_until};

const HOOK: &str = "-fast-path-hook=clsact";

/// Where ours are.
const UNDERLAY: &str = "dev eth0 ingress";
const TUNNEL: &str = "dev flannel.1 egress";

/// Priorities of filters: others' before ours and behind.
const OTHERS: [u32; 2] = [9, 40_000];
const AMONG: [u32; 3] = [9, 0x7765, 40_000];

fn tc(cluster: &Cluster, number: usize, words: &str, program: &[&str]) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    let command = [&["tc"], &words[..], program].concat();
    cluster.lab.node(number).ns.run(&command).unwrap()
}

/// Others' filters, which look at each packet and leave it to the next one.
fn add_others(cluster: &Cluster, number: usize, place: &str) {
    for priority in OTHERS {
        let filter = format!("filter add {place} pref {priority} protocol all bpf bytecode");
        tc(cluster, number, &filter, &["1,6 0 0 0"]);
    }
}

/// The priorities of the filters in a place, in their order.
fn priorities(cluster: &Cluster, number: usize, place: &str) -> Vec<u32> {
    let shown = tc(cluster, number, &format!("filter show {place}"), &[]);
    let filters = shown.lines().filter(|line| line.contains(" handle 0x"));
    let priority = |line: &str| {
        let mut words = line.split_whitespace().skip_while(|&word| word != "pref");
        words.nth(1).unwrap().parse().unwrap()
    };
    filters.map(priority).collect()
}

fn assert_among_others(cluster: &Cluster) {
    for place in [UNDERLAY, TUNNEL] {
        assert_eq!(priorities(cluster, 1, place), AMONG, "{place}");
    }
}

#[test]
fn filters_live_among_those_of_others_from_their_start_to_their_removal() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    tc(&cluster, 1, "qdisc add dev eth0 clsact", &[]);
    add_others(&cluster, 1, UNDERLAY);
    let mut cluster = cluster.filled(&[HOOK, "-fast-path=on"]);
    await_starts(&cluster, &[(1, 0), (2, 0)]);
    add_others(&cluster, 1, TUNNEL);
    assert_among_others(&cluster);

    let errors = Errors::of(&cluster);
    exchange(&cluster, 1, 2);
    exchange_fragments(&cluster, 1, 2);
    errors.assert_none_since(&cluster);
    let carried = ["fast_sends", "fast_receives"].map(|name| cluster.counter(1, name));
    assert!(carried.iter().all(|&count| count > 1_000), "{carried:?}");

    // They go on without their agent, and the next one's take their places.
    cluster.agents.get_mut(&1).unwrap().kill().unwrap();
    assert_among_others(&cluster);
    tcp(cluster.pod(1), cluster.pod(2), 2, 2 << 20);
    tcp(cluster.pod(2), cluster.pod(1), 2, 2 << 20);
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_again().unwrap();
    agent.wait_written().unwrap();
    await_starts(&cluster, &[(1, 1)]);
    assert_among_others(&cluster);
    exchange(&cluster, 1, 2);

    // Switched off they are gone within a second or so, and come back in between.
    fast_path(&cluster, 1, "off");
    let gone = || [UNDERLAY, TUNNEL].map(|place| priorities(&cluster, 1, place)) == [OTHERS; 2];
    assert!(wait_until(NEWS, gone));
    cluster.await_path(1, 2);
    fast_path(&cluster, 1, "on");
    assert_among_others(&cluster);

    // Removed with all else of weft's, and with nothing else.
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent
        .start_with(vec![HOOK.to_owned(), "-remove".to_owned()])
        .unwrap();
    let status = agent.wait(NEWS).unwrap();
    let log = agent.log_file();
    assert!(status.success(), "{:?}", lines_with(&log, &["WARN"]));
    assert_eq!(priorities(&cluster, 1, UNDERLAY), OTHERS);
    let qdiscs = tc(&cluster, 1, "qdisc show dev eth0", &[]);
    assert!(qdiscs.contains("clsact"), "it was there before: {qdiscs}");
    assert!(cluster.lab.node(1).ns.ip("link show flannel.1").is_err());
}
