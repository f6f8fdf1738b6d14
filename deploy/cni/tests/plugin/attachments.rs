//! Several interfaces of one container, as multus and kubevirt ask for them, and what becomes
//! of them when files are gone or the configuration is another.

use crate::call::V4;
use crate::host::{Host, skips};
use serde_json::{Value, json};
use std::fs;

/// Networks and interfaces of container `c1`.
type Attached<'a> = &'a [(&'a str, &'a str)];

/// Attach all, then detach them in this order, each twice; the others stay as they are.
fn attach_and_detach(host: &Host, attached: Attached<'_>, order: &[usize], more: &Value) {
    let call = |command: &str, (network, ifname): (&str, &str)| {
        let conf = host.conf(network, more.clone());
        host.call(command, ("c1", ifname), &conf).result()
    };
    let mut networks: Vec<_> = attached.iter().map(|(network, _)| *network).collect();
    networks.dedup();
    let leases = || networks.iter().map(|n| host.leases(n).len()).sum::<usize>();
    for &one in attached {
        call("ADD", one);
    }
    assert_eq!(leases(), attached.len());
    for (gone, &number) in order.iter().enumerate() {
        for _ in 0..2 {
            call("DEL", attached[number]);
            assert_eq!(
                leases(),
                attached.len() - gone - 1,
                "{attached:?} {order:?}"
            );
            for &other in &order[gone + 1..] {
                assert!(host.has(attached[other].1), "{:?}", attached[other]);
            }
            assert!(!host.has(attached[number].1), "{:?}", attached[number]);
        }
    }
    host.assert_clean(&networks);
}

#[test]
fn two_networks_of_one_container_leave_nothing_in_any_order() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let attached = [("a", "eth0"), ("b", "net1")];
    attach_and_detach(&host, &attached, &[0, 1], &json!({}));
    attach_and_detach(&host, &attached, &[1, 0], &json!({}));
}

/// The bridge masquerades here: it has one chain of rules for both interfaces.
#[test]
fn one_network_twice_leaves_nothing_in_any_order() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let masq = json!({"delegate": {"bridge": "cni-a", "ipMasq": true}});
    let attached = [("a", "eth0"), ("a", "net1")];
    attach_and_detach(&host, &attached, &[0, 1], &masq);
    attach_and_detach(&host, &attached, &[1, 0], &masq);
    let three = [("a", "eth0"), ("a", "net1"), ("a", "net2")];
    attach_and_detach(&host, &three, &[1, 2, 0], &json!({}));
}

#[test]
fn attached_and_detached_at_the_same_time_leaves_nothing() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let attached = [("a", "eth0"), ("b", "net1"), ("a", "net2"), ("b", "net3")];
    for command in ["ADD", "DEL"] {
        std::thread::scope(|scope| {
            for (network, ifname) in attached {
                let conf = host.conf(network, json!({}));
                let host = &host;
                scope.spawn(move || host.call(command, ("c1", ifname), &conf).result());
            }
        });
        let left = if command == "ADD" { 2 } else { 0 };
        assert_eq!(host.leases("a").len() + host.leases("b").len(), 2 * left);
    }
    host.assert_clean(&["a", "b"]);
}

#[test]
fn what_flannels_plugin_kept_is_used_for_its_own_network_only() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let (a, b) = (host.conf("a", json!({})), host.conf("b", json!({})));
    host.call("ADD", ("c1", "eth0"), &a).result();
    host.as_flannels_plugin_keeps("a", "c1", "eth0");
    host.call("ADD", ("c1", "net1"), &b).result();
    for _ in 0..2 {
        host.call("DEL", ("c1", "net1"), &b).result();
        assert_eq!((host.leases("a").len(), host.leases("b").len()), (1, 0));
        assert!(host.has("eth0") && !host.has("net1"));
        assert_eq!(host.kept(), ["c1"]);
    }
    host.call("DEL", ("c1", "eth0"), &a).result();
    host.assert_clean(&["a", "b"]);

    // One network twice: flannel's plugin kept one file for both.
    host.call("ADD", ("c1", "eth0"), &a).result();
    host.call("ADD", ("c1", "net1"), &a).result();
    host.as_flannels_plugin_keeps("a", "c1", "eth0");
    let _ = fs::remove_file(host.bench.path("data/.networks/a/c1:net1"));
    for ifname in ["net1", "eth0"] {
        host.call("DEL", ("c1", ifname), &a).result();
    }
    assert_eq!(host.leases("a").len(), 0);
    assert_eq!(host.kept(), [] as [&str; 0]);
}

/// Nothing but `host-local`'s directory outlives the reboot.
#[test]
fn after_a_reboot_addresses_are_given_back() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let (a, b) = (host.conf("a", json!({})), host.conf("b", json!({})));
    host.call("ADD", ("c1", "eth0"), &a).result();
    host.call("ADD", ("c1", "net1"), &b).result();
    host.call("ADD", ("c2", "net2"), &a).result();
    fs::remove_dir_all(host.bench.path("data")).unwrap();
    fs::remove_file(host.bench.path("subnet.env")).unwrap();
    for _ in 0..2 {
        for netns in ["/run/netns/gone", ""] {
            host.call_in(netns, "DEL", ("c1", "eth0"), &a).result();
            host.call_in(netns, "DEL", ("c1", "net1"), &b).result();
        }
    }
    assert_eq!((host.leases("a").len(), host.leases("b").len()), (1, 0));
    fs::remove_dir_all(host.bench.path("ipam")).unwrap();
    host.call_in("", "DEL", ("c2", "net2"), &a).result();
    host.call_in("", "DEL", ("c2", "net2"), &a).result();
}

#[test]
fn another_configuration_detaches_as_the_old_one_attached() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    for more in [
        json!({"delegate": {"type": "ptp"}}),
        json!({"delegate": {"name": "refused in ADD"}}),
        json!({"ipam": {"type": "absent"}}),
        json!({"subnetFile": "/nonexistent"}),
    ] {
        for network in ["a", "b"] {
            let conf = host.conf(network, json!({}));
            host.call("ADD", ("c1", &format!("net-{network}")), &conf)
                .result();
        }
        for network in ["a", "b"] {
            let conf = host.conf(network, more.clone());
            host.call("DEL", ("c1", &format!("net-{network}")), &conf)
                .result();
        }
        host.assert_clean(&["a", "b"]);
    }
    // The files are not where it looks, but the address is.
    host.call("ADD", ("c1", "eth0"), &host.conf("a", json!({})))
        .result();
    let moved = host.conf("a", json!({"dataDir": host.bench.path("moved")}));
    host.call("DEL", ("c1", "eth0"), &moved).result();
    assert_eq!(host.leases("a").len(), 0);
}

/// The interface's name may be another network's by the time of a second DEL.
#[test]
fn a_second_del_leaves_the_interface_of_another_network() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let (a, b) = (host.conf("a", json!({})), host.conf("b", json!({})));
    host.call("ADD", ("c1", "eth0"), &a).result();
    host.call("DEL", ("c1", "eth0"), &a).result();
    host.call("ADD", ("c1", "eth0"), &b).result();
    host.call("DEL", ("c1", "eth0"), &a).result();
    assert!(host.has("eth0") && host.leases("b").len() == 1);
    host.call("DEL", ("c1", "eth0"), &b).result();
    host.assert_clean(&["a", "b"]);
}

#[test]
fn check_sees_what_debians_bridge_sees() {
    if skips() {
        return;
    }
    let host = Host::new(&V4);
    let mut results = Vec::new();
    for (network, ifname) in [("a", "eth0"), ("b", "net1")] {
        let mut conf = host.conf(network, json!({}));
        conf["prevResult"] = host.call("ADD", ("c1", ifname), &conf).result();
        results.push((ifname, conf));
    }
    for (ifname, conf) in &results {
        host.call("CHECK", ("c1", ifname), conf).result();
    }
    host.pod.ip("address flush dev net1").unwrap();
    host.call("CHECK", ("c1", "eth0"), &results[0].1).result();
    assert_eq!(
        host.call("CHECK", ("c1", "net1"), &results[1].1).error().0,
        999
    );
    for (ifname, conf) in &results {
        host.call("DEL", ("c1", ifname), conf).result();
        host.call("CHECK", ("c1", ifname), conf).error();
    }
}
