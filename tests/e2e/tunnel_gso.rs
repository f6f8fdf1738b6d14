//! Super-packets that leave whole through the TAP, and when they must not.

use crate::cluster::{Cluster, ENGINES, NEWS, WORKERS, lines_with};
use crate::errors::Errors;
use crate::traffic::{connect, tcp};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weft_lab::{Regime, skips_test, wait_until};

/// Send TCP from one node to another until the first one's log says `words`.
fn send_until(cluster: &Cluster, from: usize, to: usize, words: &[&str]) {
    let log = cluster.agents[&from].log_file();
    let said = wait_until(NEWS, || {
        tcp(cluster.pod(from), cluster.pod(to), 1, 5_000_000);
        !lines_with(&log, words).is_empty()
    });
    assert!(said, "{words:?} is not in {}", log.display());
}

/// Send TCP from one node to another until super-packets leave whole.
pub(crate) fn send_until_whole(cluster: &Cluster, from: usize, to: usize) {
    send_until(cluster, from, to, &["super-packets leave whole"]);
}

/// Super-packets that left whole while both nodes exchanged TCP.
fn sent_whole(cluster: &Cluster) -> u64 {
    sent_whole_to(cluster, 2)
}

/// Super-packets of node 1 that left whole while it exchanged TCP with another.
fn sent_whole_to(cluster: &Cluster, other: usize) -> u64 {
    let before = cluster.counter(1, "super_sends");
    tcp(cluster.pod(1), cluster.pod(other), 3, 5_000_000);
    tcp(cluster.pod(other), cluster.pod(1), 3, 5_000_000);
    cluster.counter(1, "super_sends").saturating_sub(before)
}

/// Wait until super-packets of node 1 leave whole again.
fn await_whole(cluster: &Cluster) {
    let whole = wait_until(NEWS, || sent_whole(cluster) > 100);
    assert!(whole, "super-packets do not leave whole any more");
}

/// Let a firewall of node 1 drop what it forwards and `matches`.
fn drop_forwarded(cluster: &Cluster, matches: &str) {
    let node = &cluster.lab.node(1).ns;
    for rule in [
        "add table ip firewall",
        "add chain ip firewall forward { type filter hook forward priority 0; policy accept; }",
        &format!("add rule ip firewall forward {matches} drop"),
    ] {
        node.run(&["nft", rule]).unwrap();
    }
}

pub(crate) fn leaves_whole(cluster: &Cluster) {
    let errors = Errors::of(cluster);
    send_until_whole(cluster, 1, 2);
    // Fifteen megabytes are 230 super-packets of full length.
    let whole = sent_whole(cluster);
    assert!(whole > 100, "{whole} super-packets left whole");
    errors.assert_none_since(cluster);
}

#[test]
fn super_packets_leave_whole_where_the_underlay_takes_them() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        leaves_whole(&Cluster::of_weft_with(2, Regime::R1, &[WORKERS, engine]));
    }
}

#[test]
fn the_kernel_takes_whole_super_packets_as_its_own() {
    if skips_test() {
        return;
    }
    leaves_whole(&Cluster::weft_and_kernel_with(Regime::R1, &[WORKERS]));
}

#[test]
fn super_packets_are_cut_before_they_leave_where_the_kernel_would_have_to() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R3, &[WORKERS]);
    send_until(
        &cluster,
        1,
        2,
        &["the underlay device does not take super-packets"],
    );
    assert_eq!(sent_whole(&cluster), 0);
}

#[test]
fn the_way_closes_and_opens_with_the_offloads_of_the_underlay() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    send_until_whole(&cluster, 1, 2);
    cluster.lab.set_regime(Regime::R2).unwrap();
    send_until(
        &cluster,
        1,
        2,
        &["the underlay device does not take super-packets"],
    );
    assert_eq!(sent_whole(&cluster), 0);
}

#[test]
fn what_the_kernel_cuts_of_them_is_right_too() {
    if skips_test() {
        return;
    }
    leaves_whole(&Cluster::of_weft_with(
        2,
        Regime::R3,
        &[WORKERS, "-tunnel-gso=on"],
    ));
}

#[test]
fn a_firewall_that_stops_them_costs_nothing_but_the_speed() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    drop_forwarded(&cluster, "iifname weft.1");
    send_until(&cluster, 1, 2, &["WARN", "do not get out whole", "FORWARD"]);
    assert_eq!(sent_whole(&cluster), 0);
}

/// Drop what is forwarded to node 2 while there is traffic to node 3, and `then`.
fn with_one_peer_blocked(cluster: &Cluster, then: impl FnOnce()) {
    let done = AtomicBool::new(false);
    let node = cluster.lab.node(2).underlay.to_string();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                tcp(cluster.pod(1), cluster.pod(3), 1, 5_000_000);
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            drop_forwarded(cluster, &format!("ip daddr {node}"));
            send_until(cluster, 1, 2, &["WARN", &node, "do not get out whole"]);
            then();
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_peer_that_the_firewall_keeps_them_from_costs_itself_and_others_nothing() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = Cluster::of_weft_with(3, Regime::R1, &[WORKERS, engine]);
        for other in [2, 3] {
            let whole = wait_until(NEWS, || sent_whole_to(&cluster, other) > 100);
            assert!(whole, "super-packets to node {other} do not leave whole");
        }
        with_one_peer_blocked(&cluster, || {
            let begun = Instant::now();
            tcp(cluster.pod(1), cluster.pod(2), 1, 5_000_000);
            // A black hole lets through what is retransmitted: less than 20 kB in a second.
            assert!(begun.elapsed() < NEWS, "{:?}", begun.elapsed());
            assert!(cluster.counter(1, "super_sends_lost") > 0);
            assert!(cluster.counter(1, "probes_lost") > 0);
        });
        let whole = sent_whole_to(&cluster, 3);
        assert!(whole > 100, "{whole} super-packets left whole to node 3");
        assert_eq!(sent_whole_to(&cluster, 2), 0);
    }
}

#[test]
fn a_tap_that_was_set_down_or_removed_comes_back() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS, engine]);
        let log = cluster.agents[&1].log_file();
        await_whole(&cluster);
        for (step, said) in [
            ("link set weft.1 down", "weft.1 was set down"),
            ("link delete weft.1", "weft.1 was removed"),
        ] {
            cluster.lab.node(1).ns.ip(step).unwrap();
            send_until(&cluster, 1, 2, &["WARN", said]);
            cluster.await_path(1, 2);
            await_whole(&cluster);
            // What the TAP refused left in trains.
            assert_eq!(cluster.counter(1, "drop_send_failed"), 0);
        }
        for wrong in ["trains", "refuses whole"] {
            let lines = lines_with(&log, &["WARN", wrong]);
            assert!(lines.is_empty(), "{lines:?}");
        }
    }
}

#[test]
fn a_check_of_source_addresses_on_all_devices_lets_them_pass() {
    if skips_test() {
        return;
    }
    for value in ["0", "1", "2"] {
        let cluster = Cluster::empty(2, Regime::R1);
        for number in [1, 2] {
            let node = &cluster.lab.node(number).ns;
            node.sysctl("net/ipv4/conf/all/rp_filter", value).unwrap();
        }
        let cluster = cluster.filled(&[WORKERS]);
        leaves_whole(&cluster);
        let log = cluster.agents[&1].log_file();
        let lines = lines_with(&log, &["do not get out whole"]);
        assert!(lines.is_empty(), "{lines:?}");
    }
}

#[test]
fn a_check_that_becomes_strict_meanwhile_lets_them_pass_again() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    await_whole(&cluster);
    for number in [1, 2] {
        let node = &cluster.lab.node(number).ns;
        node.sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    }
    // The next probe is lost, takes the way around, and leaves.
    let lost = cluster.counter(1, "super_sends_lost");
    for _ in 0..3 {
        sent_whole(&cluster);
        std::thread::sleep(Duration::from_millis(1_100));
    }
    await_whole(&cluster);
    assert!(cluster.counter(1, "super_sends_lost") > lost, "{lost}");
}

/// Two nodes that check source addresses strictly, of which the first has this rule in its chain
/// for source NAT.
fn strict_cluster_with(rule: &str) -> Cluster {
    let cluster = Cluster::empty(2, Regime::R1);
    for number in [1, 2] {
        let node = &cluster.lab.node(number).ns;
        node.sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    }
    let node = &cluster.lab.node(1).ns;
    for rule in [
        "add table ip sourcenat",
        "add chain ip sourcenat post { type nat hook postrouting priority 100; }",
        &format!("add rule ip sourcenat post {rule}"),
    ] {
        node.run(&["nft", rule]).unwrap();
    }
    cluster.filled(&[WORKERS])
}

#[test]
fn the_way_around_a_check_is_not_taken_past_what_the_firewall_makes_of_frames() {
    if skips_test() {
        return;
    }
    let other = strict_cluster_with("oifname lo counter");
    leaves_whole(&other);
    drop(other);
    // Below the range that sockets get theirs from.
    let cluster = strict_cluster_with("oifname eth0 udp dport 8472 snat to :20000-30000");
    send_until(&cluster, 1, 2, &["WARN", "do not get out whole", "IPsec"]);
    assert_eq!(sent_whole(&cluster), 0);
}

/// Frames cannot leave any more, and so cannot answer: what is sent is a stream that has begun.
#[test]
fn the_way_around_a_check_closes_when_ipsec_takes_the_frames() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let [node, peer] = [1, 2].map(|number| cluster.lab.node(number));
    node.ns.sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    let redirected = wait_until(NEWS, || sent_whole(&cluster) > 100);
    assert!(redirected, "super-packets do not leave whole");
    let (mut client, mut server) = connect(cluster.pod(1), cluster.pod(2));
    // One of hosts alone is found by the redirect, too, which knows no ports.
    let policy = format!(
        "src {} dst {} proto udp dport 8472 dir out",
        node.underlay, peer.underlay
    );
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let block = vec![0; 1 << 20];
            // Until the other end is gone.
            while client.write_all(&block).is_ok() {}
        });
        let ended = server.try_clone().unwrap();
        scope.spawn(move || {
            let mut block = vec![0; 1 << 20];
            while server.read(&mut block).is_ok_and(|len| len > 0) {}
        });
        let before = cluster.counter(1, "super_sends");
        let flows = wait_until(NEWS, || cluster.counter(1, "super_sends") > before + 1_000);
        let added = node
            .ns
            .ip(&format!("xfrm policy add {policy} action block"));
        let log = cluster.agents[&1].log_file();
        let words = ["WARN", "do not get out whole", "IPsec"];
        let said = wait_until(NEWS, || !lines_with(&log, &words).is_empty());
        let [then, later] = [(); 2].map(|()| {
            std::thread::sleep(Duration::from_millis(1_100));
            cluster.counter(1, "super_sends")
        });
        node.ns.ip(&format!("xfrm policy delete {policy}")).unwrap();
        ended.shutdown(Shutdown::Both).unwrap();
        drop(ended);
        added.unwrap();
        assert!(flows, "no super-packets of the stream");
        assert!(said, "{words:?} is not in {}", log.display());
        assert_eq!(then, later, "super-packets leave in clear");
    });
}

#[test]
fn a_tap_gets_its_settings_and_its_address_back() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    await_whole(&cluster);
    let node = &cluster.lab.node(1).ns;
    // As whoever applies the host's sysctls to a device that appears, and whoever manages addresses.
    let set = |name: &str, value: &str| {
        let key = format!("net/ipv4/conf/weft.1/{name}");
        node.sysctl(&key, value).unwrap();
    };
    set("rp_filter", "1");
    set("accept_local", "0");
    node.ip("address flush dev weft.1").unwrap();
    let path = |name: &str| format!("/proc/sys/net/ipv4/conf/weft.1/{name}");
    let restored = wait_until(NEWS, || {
        let value = |name| node.run(&["cat", &path(name)]).unwrap();
        let addresses = node.ip("-4 address show dev weft.1").unwrap();
        value("rp_filter").trim() == "0"
            && value("accept_local").trim() == "1"
            && addresses.contains("127.84.65.80/32")
    });
    assert!(restored, "it stays without");
    await_whole(&cluster);
}

#[test]
fn an_underlay_device_that_is_made_anew_after_a_strict_check_takes_them_again() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let node = &cluster.lab.node(1).ns;
    let check = |value| node.sysctl("net/ipv4/conf/all/rp_filter", value).unwrap();
    check("1");
    await_whole(&cluster);
    check("0");
    let [before, after] = make_underlay_anew(&cluster);
    assert_ne!(before, after);
    cluster.await_path(1, 2);
    await_whole(&cluster);
}

/// Give the underlay device of node 1 another index: it goes to another namespace and comes back
/// when its number is taken.
fn make_underlay_anew(cluster: &Cluster) -> [String; 2] {
    let [one, two] = [1, 2].map(|number| &cluster.lab.node(number).ns);
    let index = || one.run(&["cat", "/sys/class/net/eth0/ifindex"]).unwrap();
    let before = index();
    for step in ["link set eth0 down", "link set eth0 name moved0"] {
        one.ip(step).unwrap();
    }
    one.ip(&format!("link set moved0 netns {}", two.name()))
        .unwrap();
    let number = before.trim();
    one.ip(&format!("link add taken0 index {number} type bridge"))
        .unwrap();
    two.ip(&format!("link set moved0 netns {}", one.name()))
        .unwrap();
    let address = cluster.lab.node(1).underlay;
    for step in ["link set moved0 name eth0", "link set eth0 up"] {
        one.ip(step).unwrap();
    }
    one.ip(&format!("address add {address}/24 dev eth0"))
        .unwrap();
    [before, index()]
}

#[test]
fn an_underlay_device_that_is_made_anew_takes_them_again() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    send_until_whole(&cluster, 1, 2);
    let [before, after] = make_underlay_anew(&cluster);
    assert_ne!(before, after);
    cluster.await_path(1, 2);
    // Until a probe has failed, and three in a row, which would close the way for a minute.
    for _ in 0..4 {
        sent_whole(&cluster);
        std::thread::sleep(Duration::from_millis(1_100));
    }
    let whole = wait_until(NEWS, || sent_whole(&cluster) > 100);
    assert!(whole, "super-packets do not leave whole any more");
}

#[test]
fn switched_off_there_is_no_tap() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS, "-tunnel-gso=off"]);
    assert_eq!(sent_whole(&cluster), 0);
    let links = cluster.lab.node(1).ns.ip("link show").unwrap();
    assert!(!links.contains("weft.1"), "{links}");
}

#[test]
fn the_successor_of_a_killed_agent_has_the_tap_again() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    send_until_whole(&cluster, 1, 2);
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.kill().unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    cluster.await_path(1, 2);
    let whole = wait_until(NEWS, || sent_whole(&cluster) > 0);
    assert!(whole, "super-packets do not leave whole any more");
}

/// Many nodes of flannel carry a rule that turns this off, for a fault of kernel VXLAN.
#[test]
fn a_device_whose_checksum_offload_is_turned_off_gives_super_packets_again() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let node = &cluster.lab.node(1).ns;
    let off = [
        "ethtool",
        "-K",
        "flannel.1",
        "tx-checksum-ip-generic",
        "off",
    ];
    node.run(&off).unwrap();
    let restored = wait_until(NEWS, || {
        let features = node.run(&["ethtool", "-k", "flannel.1"]).unwrap();
        ["tx-checksum-ip-generic: on", "tcp-segmentation-offload: on"]
            .iter()
            .all(|feature| features.contains(feature))
    });
    assert!(restored, "it stays off");
    let log = cluster.agents[&1].log_file();
    let lines = lines_with(&log, &["WARN", "checksum offload of flannel.1"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    await_whole(&cluster);
}
