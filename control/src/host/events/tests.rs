//! Changes of a real kernel, in network namespaces.

use super::*;
use crate::host::netns;
use std::process::Command;
use std::time::Duration;
use tokio::time::timeout;

/// For changes that come, on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);

/// For those that do not.
const QUIET: Duration = Duration::from_millis(500);

async fn next(events: &mut HostEvents) -> Vec<Change> {
    let changes = timeout(LIMIT, events.next()).await.unwrap();
    changes.into_iter().collect()
}

async fn is_quiet(events: &mut HostEvents) -> bool {
    timeout(QUIET, events.next()).await.is_err()
}

fn shell(line: &str) {
    weft_lab::run(Command::new("sh").args(["-c", line])).unwrap();
}

#[test]
fn each_kind_of_change_is_told_once_and_then_no_more() {
    netns::run(async |netlink| {
        netns::link(&netlink, "eth0").await;
        shell("ip link set lo up && ip link set eth0 up");
        let mut events = HostEvents::of_network();
        for (line, expected) in [
            ("ip link set eth0 mtu 1400", Change::Link),
            ("ip address add 192.0.2.1/24 dev eth0", Change::Address),
            ("ip route add 10.9.0.0/16 dev eth0", Change::Route),
            ("ip -6 route add blackhole fd00::/64", Change::Route),
            ("ip rule add to 10.9.0.0/16 lookup 77", Change::Route),
            ("tc qdisc add dev eth0 clsact", Change::Queueing),
            (
                "tc qdisc add dev eth0 root pfifo limit 10",
                Change::Queueing,
            ),
            ("ip link set eth0 down", Change::Link),
        ] {
            shell(line);
            let changes = next(&mut events).await;
            assert!(changes.contains(&expected), "{line}: {changes:?}");
            // Link-local addresses, for instance, take the kernel a while.
            let still = async { while !is_quiet(&mut events).await {} };
            timeout(LIMIT, still).await.unwrap();
        }
    });
}

#[test]
fn changes_of_one_moment_are_told_together() {
    netns::run(async |netlink| {
        netns::link(&netlink, "eth0").await;
        let mut events = HostEvents::of_network();
        shell("ip link set eth0 up && ip address add 192.0.2.1/24 dev eth0");
        let changes = next(&mut events).await;
        assert!(
            changes.starts_with(&[Change::Link, Change::Address]),
            "{changes:?}"
        );
    });
}

#[test]
fn a_storm_of_routes_costs_a_few_looks() {
    netns::run(async |netlink| {
        netns::link(&netlink, "eth0").await;
        shell("ip link set lo up && ip link set eth0 up");
        let mut events = HostEvents::of_network();
        let lines = (0..100_000).map(|i| {
            let [_, a, b, c] = u32::to_be_bytes(i);
            format!("route add 10.{a}.{b}.{c}/32 dev lo\n")
        });
        let lines: String = lines.collect();
        let begin = Instant::now();
        let storm = tokio::task::spawn_blocking(move || netns::batch(&lines));
        let mut looks = 0;
        while !storm.is_finished() || looks == 0 {
            let changes = next(&mut events).await;
            assert!(changes.contains(&Change::Route), "{changes:?}");
            looks += 1;
        }
        let took = begin.elapsed();
        eprintln!("{looks} looks at 100,000 routes that came in {took:?}");
        assert!(
            looks <= 25 + 2 * took.as_secs() as u32,
            "{looks} in {took:?}"
        );
    });
}

#[test]
fn only_what_names_our_chains_is_told_of_the_firewall() {
    netns::run(async |_| {
        shell("iptables-nft -N FLANNEL-FWD && iptables-nft -N KUBE-FORWARD");
        let mut events = HostEvents::of_nftables(["FORWARD", "FLANNEL-FWD", "flannel-ipv4"]);
        for (line, is_told) in [
            ("iptables-nft -A KUBE-FORWARD -j ACCEPT", false),
            ("iptables-nft -A FLANNEL-FWD -j ACCEPT", true),
            ("iptables-nft -S", false),
            ("iptables-nft -A FORWARD -j FLANNEL-FWD", true),
            ("iptables-nft -F", true),
            ("nft add table ip flannel-ipv4", true),
            ("nft add table ip other", false),
            ("nft list ruleset", false),
            ("nft flush ruleset", true),
        ] {
            shell(line);
            match is_told {
                true => assert_eq!(next(&mut events).await, [Change::Firewall], "{line}"),
                false => assert!(is_quiet(&mut events).await, "{line}"),
            }
        }
    });
}

#[tokio::test(flavor = "current_thread")]
async fn what_was_done_under_a_lock_is_told_when_it_is_let_go() {
    let lock = tempfile::NamedTempFile::new().unwrap();
    let mut events = HostEvents::of_lock(lock.path());
    assert!(is_quiet(&mut events).await);
    for _ in 0..3 {
        shell(&format!("flock {} true", lock.path().display()));
        assert_eq!(next(&mut events).await, [Change::Firewall]);
    }
    assert!(is_quiet(&mut events).await);
    let mut events = HostEvents::of_lock("/nowhere/xtables.lock".as_ref());
    assert!(is_quiet(&mut events).await);
}

#[tokio::test(flavor = "current_thread")]
async fn where_there_are_none_nothing_is_ever_told() {
    assert!(is_quiet(&mut HostEvents::none()).await);
}
