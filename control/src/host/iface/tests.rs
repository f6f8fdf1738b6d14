//! Every way to choose, in a namespace of its own with real links, addresses and routes.

mod overlay;
mod public_ip;

use super::*;
use crate::host::netns::{self, ip};

const V4: PerFamily<bool> = PerFamily {
    v4: true,
    v6: false,
};
const V6: PerFamily<bool> = PerFamily {
    v4: false,
    v6: true,
};
const DUAL: PerFamily<bool> = PerFamily { v4: true, v6: true };

/// Run a test on a host with two interfaces, each with addresses of both families, and
/// default routes through the first.
fn on_host<F>(test: F)
where
    F: AsyncFnOnce(Netlink) + Send + 'static,
{
    netns::run(async |netlink| {
        run("link set lo up");
        for name in ["eth0", "dummy0"] {
            netns::link(&netlink, name).await;
            // Addresses and routes made by the kernel itself would come at their own time.
            run(&format!("link set {name} addrgenmode none"));
            run(&format!("link set {name} up"));
        }
        for (addr, device) in [
            ("192.168.1.10/24", "eth0"),
            ("2001:db8:1::10/64", "eth0"),
            ("1.10.100.1/32", "dummy0"),
            ("192.168.200.128/32", "dummy0"),
            ("172.16.30.18/24", "dummy0"),
            ("172.16.31.200/32", "dummy0"),
            ("fe80::5/64", "dummy0"),
            ("2001:db8:2::18/64", "dummy0"),
        ] {
            let nodad = if addr.contains("::") { " nodad" } else { "" };
            run(&format!("address add {addr} dev {device}{nodad}"));
        }
        run("route add default via 192.168.1.1");
        run("-6 route add default via 2001:db8:1::1");
        test(netlink).await;
    });
}

fn run(args: &str) {
    ip(&args.split(' ').collect::<Vec<_>>());
}

/// Name, addresses of its own and advertised addresses, or the error.
async fn chosen(netlink: &Netlink, options: &InterfaceOptions, wanted: PerFamily<bool>) -> String {
    match choose(netlink, options, wanted).await {
        Ok(underlay) => {
            assert_eq!(underlay.mtu, 1500);
            let link = netlink.link(&underlay.name).await.unwrap().unwrap();
            assert_eq!(underlay.index, link.index);
            let mut text = underlay.name;
            for family in Family::BOTH {
                let (local, advertised) = (underlay.local.of(family), underlay.public.of(family));
                if let Some(local) = local {
                    text += &format!(" {local}");
                }
                if let Some(advertised) = advertised.filter(|_| advertised != local) {
                    text += &format!(" as {advertised}");
                }
            }
            text
        }
        Err(error) => {
            let text = error.to_string();
            assert!(!text.contains('\n'), "{text}");
            text
        }
    }
}

fn iface(values: &[&str]) -> InterfaceOptions {
    InterfaceOptions {
        iface: values.iter().map(|&value| value.to_owned()).collect(),
        ..InterfaceOptions::default()
    }
}

fn regex(values: &[&str]) -> InterfaceOptions {
    InterfaceOptions {
        iface_regex: values.iter().map(|&value| value.to_owned()).collect(),
        ..InterfaceOptions::default()
    }
}

fn reach(addr: &str) -> InterfaceOptions {
    InterfaceOptions {
        can_reach: addr.parse().ok(),
        ..InterfaceOptions::default()
    }
}

impl InterfaceOptions {
    fn public(mut self, addr: &str) -> InterfaceOptions {
        let addr: IpAddr = addr.parse().unwrap();
        match Family::of(addr) {
            Family::V4 => self.public.v4 = Some(addr),
            Family::V6 => self.public.v6 = Some(addr),
        }
        self
    }
}

#[test]
fn u23_interface_by_regex_on_address() {
    on_host(async |netlink| {
        let by_v4 = regex(&[r"192\.168\.200\.\d+"]);
        assert_eq!(chosen(&netlink, &by_v4, V4).await, "dummy0 192.168.200.128");
        assert_eq!(
            chosen(&netlink, &by_v4, DUAL).await,
            "dummy0 192.168.200.128 2001:db8:2::18"
        );
        let by_v6 = regex(&["^2001:db8:2:"]);
        assert_eq!(chosen(&netlink, &by_v6, V6).await, "dummy0 2001:db8:2::18");
        // A pattern for an address of the family that is not wanted is none for a name.
        assert!(
            chosen(&netlink, &by_v6, V4)
                .await
                .contains("matches nothing")
        );
        let both = regex(&["^(172.16.31.200|2001:db8:2::18)$"]);
        assert_eq!(
            chosen(&netlink, &both, DUAL).await,
            "dummy0 172.16.31.200 2001:db8:2::18"
        );
    });
}

#[test]
fn u23_interface_by_regex_on_name() {
    on_host(async |netlink| {
        let by_name = regex(&[r"dummy\d+$"]);
        assert_eq!(chosen(&netlink, &by_name, V4).await, "dummy0 1.10.100.1");
        // Addresses of all interfaces come before names.
        let either = regex(&[r"eth0|172\.16\.30\.18"]);
        assert_eq!(chosen(&netlink, &either, V4).await, "dummy0 172.16.30.18");
        let in_order = regex(&["wlan", "^eth0$", "^dummy0$"]);
        assert_eq!(chosen(&netlink, &in_order, V4).await, "eth0 192.168.1.10");
        // An interface without an address does not end the search.
        netns::link(&netlink, "dummy-1").await;
        let several = regex(&["^dummy-1$|^eth0$"]);
        assert_eq!(chosen(&netlink, &several, V4).await, "eth0 192.168.1.10");
    });
}

#[test]
fn u23_interface_by_name() {
    on_host(async |netlink| {
        let dummy = iface(&["dummy0"]);
        assert_eq!(chosen(&netlink, &dummy, V4).await, "dummy0 1.10.100.1");
        assert_eq!(chosen(&netlink, &dummy, V6).await, "dummy0 2001:db8:2::18");
        assert_eq!(
            chosen(&netlink, &dummy, DUAL).await,
            "dummy0 1.10.100.1 2001:db8:2::18"
        );
        let first = iface(&["wlan0", "9.9.9.9", "eth0", "dummy0"]);
        assert_eq!(chosen(&netlink, &first, V4).await, "eth0 192.168.1.10");
    });
}

#[test]
fn u23_interface_by_address() {
    on_host(async |netlink| {
        let v4 = iface(&["172.16.30.18"]);
        assert_eq!(chosen(&netlink, &v4, V4).await, "dummy0 172.16.30.18");
        let v6 = iface(&["2001:db8:2::18"]);
        assert_eq!(chosen(&netlink, &v6, V6).await, "dummy0 2001:db8:2::18");
        // It still names the interface if it is of the other family.
        assert_eq!(chosen(&netlink, &v6, V4).await, "dummy0 1.10.100.1");
    });
}

#[test]
fn u23_interface_by_address_in_dual_stack() {
    on_host(async |netlink| {
        for (value, expected) in [
            ("172.16.30.18", "dummy0 172.16.30.18 2001:db8:2::18"),
            ("2001:db8:2::18", "dummy0 1.10.100.1 2001:db8:2::18"),
        ] {
            assert_eq!(chosen(&netlink, &iface(&[value]), DUAL).await, expected);
        }
        run("address add 2001:db8:2::19/64 dev dummy0 nodad");
        let public = iface(&["172.16.30.18"]).public("2001:db8:2::18");
        assert_eq!(
            chosen(&netlink, &public, DUAL).await,
            "dummy0 172.16.30.18 2001:db8:2::18",
            "the advertised address is the one that is used"
        );
        run("address flush dev eth0 scope global");
        run("address add 192.168.1.10/24 dev eth0");
        let error = chosen(&netlink, &iface(&["eth0"]), DUAL).await;
        assert!(
            error.contains("interface eth0 has no usable IPv6 address"),
            "{error}"
        );
    });
}

#[test]
fn u23_interface_that_can_reach_an_address() {
    on_host(async |netlink| {
        for (addr, wanted, expected) in [
            ("172.16.30.99", V4, "dummy0 172.16.30.18"),
            ("203.0.113.1", V4, "eth0 192.168.1.10"),
            ("2001:db8:2::99", V6, "dummy0 2001:db8:2::18"),
            ("172.16.30.99", DUAL, "dummy0 172.16.30.18 2001:db8:2::18"),
            ("172.16.31.200", V4, "dummy0 172.16.31.200"),
        ] {
            assert_eq!(chosen(&netlink, &reach(addr), wanted).await, expected);
        }
        run("route add 203.0.113.0/24 dev dummy0 src 172.16.31.200");
        let with_source = chosen(&netlink, &reach("203.0.113.1"), V4).await;
        assert_eq!(with_source, "dummy0 172.16.31.200");
        run("route del default");
        let error = chosen(&netlink, &reach("9.9.9.9"), V4).await;
        assert!(
            error.contains("-iface-can-reach 9.9.9.9: there is no route to it"),
            "{error}"
        );
    });
}

#[test]
fn u23_names_come_before_patterns_and_those_before_routes() {
    on_host(async |netlink| {
        let mut options = reach("203.0.113.1");
        options.iface_regex = vec!["^dummy".to_owned()];
        assert_eq!(chosen(&netlink, &options, V4).await, "dummy0 1.10.100.1");
        options.iface = vec!["172.16.30.18".to_owned()];
        assert_eq!(chosen(&netlink, &options, V4).await, "dummy0 172.16.30.18");
        options.iface = vec!["wlan0".to_owned()];
        options.iface_regex = vec!["^wlan".to_owned()];
        assert_eq!(chosen(&netlink, &options, V4).await, "eth0 192.168.1.10");
        options.can_reach = None;
        let error = chosen(&netlink, &options, V4).await;
        assert_eq!(
            error,
            "no usable interface: -iface wlan0: matches nothing; -iface-regex ^wlan: matches \
             nothing (`ip -brief address` lists those of this host)"
        );
    });
}

#[test]
fn the_default_route_names_the_interface() {
    on_host(async |netlink| {
        let none = InterfaceOptions::default();
        assert_eq!(chosen(&netlink, &none, V4).await, "eth0 192.168.1.10");
        assert_eq!(
            chosen(&netlink, &none, DUAL).await,
            "eth0 192.168.1.10 2001:db8:1::10"
        );
        run("route add default via 172.16.30.1 metric 7");
        assert_eq!(chosen(&netlink, &none, V4).await, "eth0 192.168.1.10");
        run("route del default via 192.168.1.1");
        assert_eq!(chosen(&netlink, &none, V4).await, "dummy0 1.10.100.1");
        let error = chosen(&netlink, &none, DUAL).await;
        assert!(
            error.contains("IPv4 default route is on dummy0, the IPv6 one on eth0"),
            "{error}"
        );
        run("-6 route add default dev dummy0 metric 2000");
        assert_eq!(
            chosen(&netlink, &none, DUAL).await,
            "dummy0 1.10.100.1 2001:db8:2::18",
            "that both families have one on the same interface is enough"
        );
        run("route del default");
        let error = chosen(&netlink, &none, V4).await;
        assert!(error.contains("no IPv4 default route"), "{error}");
        assert!(error.ends_with("such addresses: eth0, dummy0"), "{error}");
        assert_eq!(chosen(&netlink, &none, V6).await, "eth0 2001:db8:1::10");
    });
}

#[test]
fn addresses_are_taken_best_first() {
    on_host(async |netlink| {
        for args in [
            "address flush dev dummy0",
            "address add 169.254.7.7/16 dev dummy0 scope link",
            "address add 10.0.1.1/24 dev dummy0 preferred_lft 0 valid_lft 600",
            "address add 10.0.2.1/24 dev dummy0 preferred_lft 500 valid_lft 600",
            "address add 10.0.3.1/24 dev dummy0",
            "address add 10.0.3.2/24 dev dummy0",
            "address add fe80::7/64 dev dummy0 nodad",
            "address add 2001:db8:3::1/64 dev dummy0 nodad preferred_lft 0 valid_lft 600",
            "address add 2001:db8:3::2/64 dev dummy0 nodad preferred_lft 500 valid_lft 600",
            "address add 2001:db8:3::3/64 dev dummy0 nodad",
        ] {
            run(args);
        }
        for (best, rest) in [
            ("10.0.3.1/24", "2001:db8:3::3/64"),
            ("10.0.2.1/24", "2001:db8:3::2/64"),
            ("169.254.7.7/16", "fe80::7/64"),
        ] {
            let plain = [best, rest].map(|addr| addr.split('/').next().unwrap());
            let expected = format!("dummy0 {} {}", plain[0], plain[1]);
            assert_eq!(chosen(&netlink, &iface(&["dummy0"]), DUAL).await, expected);
            // With the first address of a subnet its secondary ones go.
            run(&format!("address del {best} dev dummy0"));
            run(&format!("address del {rest} dev dummy0"));
        }
        let error = chosen(&netlink, &iface(&["dummy0"]), DUAL).await;
        assert!(
            error.contains("dummy0 has no usable IPv4 address"),
            "{error}"
        );
    });
}

#[test]
fn u23_an_empty_value_stands_for_the_choice_without_any() {
    on_host(async |netlink| {
        let default = "eth0 192.168.1.10";
        for options in [
            iface(&[""]),
            regex(&[""]),
            iface(&["wlan0", ""]),
            iface(&["", "dummy0"]),
            regex(&["", "^dummy"]),
            InterfaceOptions {
                can_reach: "172.16.30.99".parse().ok(),
                ..iface(&[""])
            },
        ] {
            let found = chosen(&netlink, &options, V4).await;
            assert_eq!(found, default, "{options:?}");
        }
        let named = chosen(&netlink, &iface(&["dummy0", ""]), V4).await;
        assert_eq!(named, "dummy0 1.10.100.1");
        run("route del default");
        let without = chosen(&netlink, &InterfaceOptions::default(), V4).await;
        assert!(without.contains("default route"), "{without}");
        assert_eq!(chosen(&netlink, &iface(&[""]), V4).await, without);
        assert_eq!(chosen(&netlink, &iface(&["", "dummy0"]), V4).await, named);
    });
}
