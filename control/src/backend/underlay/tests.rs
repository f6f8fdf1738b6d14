//! An interface that others change, in network namespaces.

use super::*;
use crate::family::PerFamily;
use crate::host::iface::{InterfaceOptions, choose};
use crate::host::netlink::Netlink;
use crate::host::netns;

fn ip(line: &str) {
    netns::ip(&line.split(' ').collect::<Vec<_>>());
}

/// A host with the interfaces eth0 and eth1, whose underlay is eth0: named, or without a name that of
/// the default route.
async fn host(netlink: Netlink, named: bool) -> Host {
    for (name, addr) in [("eth0", "192.0.2.1/24"), ("eth1", "203.0.113.1/24")] {
        netns::link(&netlink, name).await;
        ip(&format!("address add {addr} dev {name}"));
        ip(&format!("link set {name} up"));
    }
    ip("route add default via 192.0.2.254 metric 100");
    let names = if named {
        vec!["eth0".to_owned()]
    } else {
        Vec::new()
    };
    let options = InterfaceOptions {
        iface: names,
        ..InterfaceOptions::default()
    };
    let wanted = PerFamily {
        v4: true,
        v6: false,
    };
    let underlay = choose(&netlink, &options, wanted).await.unwrap();
    Host {
        netlink,
        underlay,
        mark: None,
    }
}

#[test]
fn changes_of_addresses_and_mtu_are_noticed_and_so_is_their_end() {
    netns::run(async |netlink| {
        let mut host = host(netlink, true).await;
        let mut check = UnderlayCheck::default();
        for (change, there, mtu) in [
            ("link set eth0 mtu 1500", true, None),
            ("link set eth0 mtu 1400", true, Some(1400)),
            ("address flush dev eth0", false, Some(1400)),
            ("link set eth0 mtu 1500", false, None),
            ("address add 192.0.2.2/24 dev eth0", false, None),
            ("address add 192.0.2.1/32 dev lo", true, None),
        ] {
            ip(change);
            check.look(&mut host).await;
            assert_eq!((check.is_there(), check.mtu), (there, mtu), "{change}");
        }
    });
}

#[test]
fn one_that_is_down_or_gone_or_without_a_carrier_is_closed() {
    netns::run(async |netlink| {
        let mut host = host(netlink, true).await;
        let mut check = UnderlayCheck::default();
        for (change, closed) in [
            ("link set eth0 down", Some("down")),
            ("link set eth0 up", None),
            ("link set p.eth0 down", Some("without a carrier")),
            ("link set p.eth0 up", None),
            ("link del eth0", Some("gone")),
            ("link add eth0 type bridge", Some("down")),
        ] {
            ip(change);
            check.look(&mut host).await;
            assert_eq!(check.closed, closed, "{change}");
        }
        let anew = host.netlink.link("eth0").await.unwrap().unwrap();
        assert_eq!(host.underlay.index, anew.index);
    });
}

#[test]
fn it_is_the_same_by_another_name_even_if_another_one_takes_its_name() {
    netns::run(async |netlink| {
        let mut host = host(netlink, true).await;
        let index = host.underlay.index;
        let mut check = UnderlayCheck::default();
        for line in [
            "link set eth0 down",
            "link set eth0 name eth9",
            "link set eth9 up",
            "link set eth1 down",
            "link set eth1 name eth0",
        ] {
            ip(line);
        }
        check.look(&mut host).await;
        let (name, now) = (host.underlay.name.as_str(), host.underlay.index);
        assert_eq!((name, now, check.closed), ("eth9", index, None));
    });
}

#[test]
fn a_default_route_that_moves_is_noticed_where_it_was_chosen_by() {
    for named in [false, true] {
        netns::run(async |netlink| {
            let mut host = host(netlink, named).await;
            let mut check = UnderlayCheck::default();
            let elsewhere = Some("eth1").filter(|_| !named);
            for (change, astray) in [
                ("route add default via 203.0.113.254 metric 200", None),
                ("route del default via 192.0.2.254", elsewhere),
                ("route add default via 192.0.2.254", None),
                ("route add default via 203.0.113.254 metric 50", None),
                ("route del default via 192.0.2.254", elsewhere),
                ("route flush 0/0", None),
            ] {
                ip(change);
                check.look(&mut host).await;
                assert_eq!(check.astray.v4.as_deref(), astray, "{change}");
            }
        });
    }
}
