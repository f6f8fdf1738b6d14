//! What is written, as the tools list it.

use super::*;

#[test]
fn e1_iptables_rules_as_flannel_lists_them() {
    for_both(async |programs| {
        let v4 = &programs.iptables.v4;
        kube_forward(v4);
        // A second start puts the same rules in the same place.
        for _ in 0..2 {
            install(&programs, Flavour::Iptables, &spec()).await;
            assert_eq!(nat(v4), NAT_V4);
            assert_eq!(filter(v4), golden_filter(FWD_V4));
        }
        let v6 = sh(&format!("{}-save", programs.iptables.v6));
        assert!(!v6.contains("FLANNEL"), "no IPv6 network, no rules: {v6}");
    });
}

#[test]
fn e12_iptables_rules_of_both_families() {
    for_both(async |programs| {
        let PerFamily { v4, v6 } = &programs.iptables;
        kube_forward(v4);
        kube_forward(v6);
        install(&programs, Flavour::Iptables, &dual()).await;
        assert_eq!((nat(v4), nat(v6)), (NAT_V4.into(), NAT_V6.into()));
        assert_eq!(filter(v4), golden_filter(FWD_V4));
        assert_eq!(filter(v6), golden_filter(FWD_V6));
    });
}

/// The text of `nft list chain`.
pub(super) fn nft(family: &str, table: &str, chain: &str) -> String {
    sh(&format!("nft list chain {family} {table} {chain}"))
}

pub(super) const POSTRTG_V4: &str = "table ip flannel-ipv4 {
	chain postrtg {
		comment \"chain to manage traffic masquerading by flannel\"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip saddr 10.42.1.0/24 ip daddr 10.42.0.0/16 return
		ip saddr 10.42.0.0/16 ip daddr 10.42.1.0/24 return
		ip saddr != 10.42.1.0/24 ip daddr 10.42.0.0/16 return
		ip saddr 10.42.0.0/16 ip daddr != 224.0.0.0/4 masquerade fully-random
		ip saddr != 10.42.0.0/16 ip daddr 10.42.0.0/16 masquerade fully-random
	}
}
";

pub(super) const FORWARD_V4: &str = "table ip flannel-ipv4 {
	chain forward {
		comment \"chain to accept flannel traffic\"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.42.0.0/16 accept
		ip daddr 10.42.0.0/16 accept
	}
}
";

pub(super) const POSTRTG_V6: &str = "table ip6 flannel-ipv6 {
	chain postrtg {
		comment \"chain to manage traffic masquerading by flannel\"
		type nat hook postrouting priority srcnat; policy accept;
		meta mark 0x00004000 return
		ip6 saddr fd00:10:244:1::/64 ip6 daddr fd00:10:244::/56 return
		ip6 saddr fd00:10:244::/56 ip6 daddr fd00:10:244:1::/64 return
		ip6 saddr != fd00:10:244:1::/64 ip6 daddr fd00:10:244::/56 return
		ip6 saddr fd00:10:244::/56 ip6 daddr != ff00::/8 masquerade fully-random
		ip6 saddr != fd00:10:244::/56 ip6 daddr fd00:10:244::/56 masquerade fully-random
	}
}
";

pub(super) const FORWARD_V6: &str = "table ip6 flannel-ipv6 {
	chain forward {
		comment \"chain to accept flannel traffic\"
		type filter hook forward priority filter; policy accept;
		ip6 saddr fd00:10:244::/56 accept
		ip6 daddr fd00:10:244::/56 accept
	}
}
";

#[test]
fn e2_nftables_rules_as_flannel_lists_them() {
    netns::run(async |_| {
        for _ in 0..2 {
            install(&Programs::default(), Flavour::Nftables, &spec()).await;
            assert_eq!(nft("ip", "flannel-ipv4", "postrtg"), POSTRTG_V4);
            assert_eq!(nft("ip", "flannel-ipv4", "forward"), FORWARD_V4);
        }
        let v6 = sh("nft list table ip6 flannel-ipv6");
        let expected = "table ip6 flannel-ipv6 {\n\tcomment \"rules for flannel-ipv6\"\n}\n";
        assert_eq!(v6, expected, "there, as in flannel, and empty");
    });
}

#[test]
fn e13_nftables_rules_of_both_families() {
    netns::run(async |_| {
        install(&Programs::default(), Flavour::Nftables, &dual()).await;
        assert_eq!(nft("ip", "flannel-ipv4", "postrtg"), POSTRTG_V4);
        assert_eq!(nft("ip", "flannel-ipv4", "forward"), FORWARD_V4);
        assert_eq!(nft("ip6", "flannel-ipv6", "postrtg"), POSTRTG_V6);
        assert_eq!(nft("ip6", "flannel-ipv6", "forward"), FORWARD_V6);
    });
}

#[test]
fn u22_only_the_rules_that_flags_ask_for() {
    for_both(async |programs| {
        let v4 = &programs.iptables.v4;
        let plain = FirewallSpec {
            random_fully: false,
            forward: false,
            ..spec()
        };
        install(&programs, Flavour::Iptables, &plain).await;
        assert_eq!(nat(v4), NAT_V4.replace(" --random-fully", ""));
        assert!(!sh(&format!("{v4} -S")).contains("FLANNEL"));
    });
    netns::run(async |_| {
        let plain = FirewallSpec {
            random_fully: false,
            forward: false,
            ..spec()
        };
        install(&Programs::default(), Flavour::Nftables, &plain).await;
        let plain = POSTRTG_V4.replace(" fully-random", "");
        assert_eq!(nft("ip", "flannel-ipv4", "postrtg"), plain);
        assert!(!sh("nft list ruleset").contains("chain forward"));
    });
}

const TAP_CHAIN: &str = r#"-N WEFT-FWD
-A WEFT-FWD -i weft.7 -m comment --comment "weft super-packets" -j ACCEPT
"#;

#[test]
fn super_packets_have_a_chain_beside_flannels_as_long_as_forward_rules_do() {
    for_both(async |programs| {
        let iptables = programs.iptables.v4.clone();
        let spec = FirewallSpec {
            tap: Some("weft.7".to_owned()),
            ..dual()
        };
        kube_forward(&iptables);
        let mut firewall = install(&programs, Flavour::Iptables, &spec).await;
        let chain = || sh(&format!("{iptables} -S WEFT-FWD"));
        assert_eq!(chain(), TAP_CHAIN);
        assert_eq!(sh(&format!("{iptables} -S FLANNEL-FWD")), {
            let plain = FirewallSpec {
                tap: None,
                ..dual()
            };
            install(&programs, Flavour::Iptables, &plain).await;
            sh(&format!("{iptables} -S FLANNEL-FWD"))
        });
        let (there, _) = output(&format!("{} -S WEFT-FWD", programs.iptables.v6));
        assert!(!there, "the device takes IPv4 only");

        sh(&format!("{iptables} -F WEFT-FWD"));
        sh(&format!("{iptables} -F FORWARD"));
        firewall.check().await;
        assert_eq!(chain(), TAP_CHAIN);
        let jumps = sh(&format!("{iptables} -S FORWARD"));
        assert_eq!(jumps.matches("-j WEFT-FWD").count(), 1, "{jumps}");
        assert_eq!(
            firewall.tables.len(),
            4,
            "no further process for each check"
        );

        install(&programs, Flavour::Nftables, &spec).await;
        let left = sh(&format!("{iptables}-save"));
        assert!(!left.contains("WEFT"), "{left}");
    });
}

#[test]
fn u22_a_new_subnet_replaces_the_rules_of_the_old_one() {
    for_both(async |programs| {
        let v4 = &programs.iptables.v4;
        let mut old = spec();
        old.networks.v4 = own("10.7.0.0/16", "10.7.9.0/24");
        install(&programs, Flavour::Iptables, &old).await;
        install(&programs, Flavour::Iptables, &spec()).await;
        assert_eq!(nat(v4), NAT_V4);
        assert!(!sh(&format!("{v4} -S")).contains("10.7."));
    });
}

#[test]
fn prefixes_that_end_inside_a_byte() {
    for flavour in [Flavour::Iptables, Flavour::Nftables] {
        netns::run(async move |_| {
            let spec = FirewallSpec {
                networks: PerFamily {
                    v4: own("10.42.16.0/20", "10.42.20.16/28"),
                    v6: own("fd00:10:244:4000::/50", "fd00:10:244:4000:8000::/66"),
                },
                ..spec()
            };
            let firewall = install(&Programs::default(), flavour, &spec).await;
            for table in &firewall.tables {
                assert!(table.verified, "{}", table.name());
            }
        });
    }
}

#[test]
fn a_network_that_is_everything() {
    let spec = || FirewallSpec {
        networks: PerFamily {
            v4: own("0.0.0.0/0", "10.42.1.0/24"),
            v6: own("::/0", "fd00:10:244:1::/64"),
        },
        ..spec()
    };
    let unchanged = async |mut firewall: Firewall| {
        for table in &firewall.tables {
            assert!(table.verified, "{}", table.name());
        }
        firewall.check().await;
        assert!(firewall.tables.iter().all(|table| table.logged.is_none()));
    };
    for_both(async move |programs| {
        unchanged(install(&programs, Flavour::Iptables, &spec()).await).await;
        let nat = nat(&programs.iptables.v4);
        assert!(
            nat.contains("-A FLANNEL-POSTRTG -s 10.42.1.0/24 -m comment"),
            "{nat}"
        );
        assert!(
            nat.contains("-A FLANNEL-POSTRTG ! -d 224.0.0.0/4 -m comment"),
            "{nat}"
        );
        let accepts = filter(&programs.iptables.v6).matches("-j ACCEPT").count();
        assert_eq!(accepts, 1, "from anywhere to anywhere");
    });
    netns::run(async move |_| {
        unchanged(install(&Programs::default(), Flavour::Nftables, &spec()).await).await;
    });
}
