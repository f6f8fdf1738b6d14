//! Devices of pods: never the underlay, whatever leads to them.

use super::*;

/// On a host with devices of all kinds that pods have, each with an address.
fn on_node<F>(test: F)
where
    F: AsyncFnOnce(Netlink) + Send + 'static,
{
    on_host(async |netlink| {
        for (device, kind, addr) in [
            ("flannel.1", "tun", "10.5.9.0/32"),
            ("flannel.7", "vxlan id 7 dstport 8472", "10.7.9.0/32"),
            ("weft.1", "tun", "10.8.9.0/32"),
            ("pods", "tun", "10.6.9.0/32"),
            ("vxlan100", "vxlan id 100 dstport 4789", "10.100.9.1/24"),
            ("cni0", "bridge", "10.5.9.1/24"),
            ("docker0", "bridge", "172.17.0.1/16"),
        ] {
            match kind {
                "tun" => run(&format!("tuntap add {device} mode tun")),
                _ => run(&format!("link add {device} type {kind}")),
            }
            run(&format!("link set {device} addrgenmode none"));
            run(&format!("link set {device} up"));
            run(&format!("address add {addr} dev {device}"));
        }
        let pods = netlink.link("pods").await.unwrap().unwrap();
        let alias = "weft /other/network /run/other/subnet.env";
        netlink.set_alias(&pods, alias).await.unwrap();
        test(netlink).await;
    });
}

const DEVICES: [(&str, &str); 7] = [
    ("flannel.1", "10.5.9.0"),
    ("flannel.7", "10.7.9.0"),
    ("weft.1", "10.8.9.0"),
    ("pods", "10.6.9.0"),
    ("vxlan100", "10.100.9.1"),
    ("cni0", "10.5.9.1"),
    ("docker0", "172.17.0.1"),
];

#[test]
fn a_default_route_into_the_pods_network_does_not_count() {
    on_node(async |netlink| {
        let none = InterfaceOptions::default();
        run("route replace default via 192.168.1.1 metric 100");
        run("route del default via 192.168.1.1 metric 0");
        for (device, _) in DEVICES {
            let route = format!("default dev {device} metric 5");
            run(&format!("route add {route}"));
            for options in [&none, &iface(&[""]), &reach("203.0.113.1")] {
                let found = chosen(&netlink, options, V4).await;
                assert_eq!(found, "eth0 192.168.1.10", "{device} {options:?}");
            }
            let found = chosen(&netlink, &none, DUAL).await;
            assert_eq!(found, "eth0 192.168.1.10 2001:db8:1::10", "{device}");
            run(&format!("-6 route add {route}"));
            let found = chosen(&netlink, &none, V6).await;
            assert_eq!(found, "eth0 2001:db8:1::10", "{device}");
            run(&format!("-6 route del {route}"));
            run(&format!("route del {route}"));
        }
        // Nothing else is left.
        run("route del default");
        run("route add default dev flannel.1 metric 5");
        let error = chosen(&netlink, &none, V4).await;
        assert!(error.contains("no IPv4 default route"), "{error}");
        assert!(error.ends_with("such addresses: eth0, dummy0"), "{error}");
        let error = chosen(&netlink, &reach("203.0.113.1"), V4).await;
        assert!(error.contains("there is no route to it"), "{error}");
    });
}

#[test]
fn what_is_reached_through_the_pods_network_is_reached_by_the_next_best_route() {
    on_node(async |netlink| {
        for route in [
            "10.5.0.0/16 dev flannel.1",
            "203.0.113.0/24 dev flannel.1",
            "203.0.0.0/16 dev dummy0 src 172.16.31.200",
            "203.0.0.0/16 dev eth0 metric 7",
            "blackhole 203.0.113.0/25 metric 9",
        ] {
            run(&format!("route add {route}"));
        }
        for (addr, expected) in [
            ("203.0.113.200", "dummy0 172.16.31.200"),
            ("10.5.44.3", "eth0 192.168.1.10"),
        ] {
            assert_eq!(chosen(&netlink, &reach(addr), V4).await, expected);
        }
    });
}

#[test]
fn named_devices_of_the_pods_network_are_refused_in_one_line() {
    on_node(async |netlink| {
        for (device, addr) in DEVICES {
            let pattern = format!("^{}$", regex::escape(addr));
            for options in [
                iface(&[device]),
                iface(&[addr]),
                regex(&[&format!("^{device}$")]),
                regex(&[&pattern]),
                reach(addr),
            ] {
                let error = chosen(&netlink, &options, V4).await;
                let reason = format!("{device} is of the pods' network");
                assert!(error.contains(&reason), "{options:?}: {error}");
            }
            let public = InterfaceOptions::default().public(addr);
            for options in [public, iface(&["eth0"]).public(addr)] {
                let error = chosen(&netlink, &options, V4).await;
                let reason = format!("-public-ip {addr} is an address of {device}");
                assert!(error.starts_with(&reason), "{error}");
            }
            // The next candidate is looked at.
            let next = iface(&[device, addr, "eth0"]);
            assert_eq!(chosen(&netlink, &next, V4).await, "eth0 192.168.1.10");
        }
        // It is not the one that a pattern for several means.
        let any = regex(&["^(10|172)\\."]);
        assert_eq!(chosen(&netlink, &any, V4).await, "dummy0 172.16.30.18");
    });
}
