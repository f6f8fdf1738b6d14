//! With the real programs, in network namespaces.

use super::super::netns;
use super::*;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const VARIANTS: [&str; 2] = ["legacy", "nft"];

/// More than any machine needs.
const LIMIT: Duration = Duration::from_secs(60);

/// The iptables programs of one variant.
fn variant(name: &str) -> Programs {
    Programs {
        iptables: ["ip", "ip6"].map(|family| format!("{family}tables-{name}")),
        ..Programs::default()
    }
}

fn spec() -> FirewallSpec {
    FirewallSpec {
        v4: Some(Ends {
            network: "10.42.0.0/16".parse().unwrap(),
            subnet: "10.42.1.0/24".parse().unwrap(),
        }),
        v6: None,
        masquerade: true,
        random_fully: true,
        forward: true,
        tap: None,
    }
}

fn dual() -> FirewallSpec {
    FirewallSpec {
        v6: Some(Ends {
            network: "fd00:10:244::/56".parse().unwrap(),
            subnet: "fd00:10:244:1::/64".parse().unwrap(),
        }),
        ..spec()
    }
}

async fn install(programs: &Programs, flavour: Flavour, spec: &FirewallSpec) -> Firewall {
    Firewall::install_within(LIMIT, programs, flavour, spec).await
}

/// Run a test for both variants of iptables, each in a namespace of its own.
fn for_both(test: impl AsyncFn(Programs) + Copy + Send + 'static) {
    for name in VARIANTS {
        netns::run(async move |_| test(variant(name)).await);
    }
}

fn output(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.success(),
        if text.is_empty() { error } else { text },
    )
}

/// The standard output of a command that must succeed.
fn sh(command: &str) -> String {
    let (ok, text) = output(command);
    assert!(ok, "{command}: {text}");
    text
}

/// What upstream's end-to-end tests compare of the nat table.
fn nat(program: &str) -> String {
    let jumps = sh(&format!("{program} -t nat -S POSTROUTING"));
    let jumps = jumps.lines().filter(|line| line.contains("FLANNEL"));
    let jumps: Vec<&str> = jumps.collect();
    let chain = sh(&format!("{program} -t nat -S FLANNEL-POSTRTG"));
    jumps.join("\n") + "\n" + &chain
}

fn filter(program: &str) -> String {
    let forward = sh(&format!("{program} -S FORWARD"));
    forward + &sh(&format!("{program} -S FLANNEL-FWD"))
}

const NAT_V4: &str = r#"-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-N FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.42.1.0/24 -d 10.42.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.42.0.0/16 -d 10.42.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.42.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"#;

const NAT_V6: &str = r#"-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-N FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd00:10:244:1::/64 -d fd00:10:244::/56 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd00:10:244::/56 -d fd00:10:244:1::/64 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s fd00:10:244::/56 -d fd00:10:244:1::/64 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd00:10:244::/56 ! -d ff00::/8 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s fd00:10:244::/56 -d fd00:10:244::/56 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"#;

const KUBE: &str =
    r#"-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD"#;

const JUMP: &str = r#"-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD"#;

const FWD_V4: &str = r#"-N FLANNEL-FWD
-A FLANNEL-FWD -s 10.42.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.42.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
"#;

const FWD_V6: &str = r#"-N FLANNEL-FWD
-A FLANNEL-FWD -s fd00:10:244::/56 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d fd00:10:244::/56 -m comment --comment "flanneld forward" -j ACCEPT
"#;

/// FORWARD with kube-proxy's rule before ours.
fn golden_filter(chain: &str) -> String {
    format!("-P FORWARD ACCEPT\n{KUBE}\n{JUMP}\n{chain}")
}

/// What kube-proxy has set up before.
fn kube_forward(program: &str) {
    sh(&format!("{program} -w -N KUBE-FORWARD"));
    sh(&format!("{program} -w {KUBE}"));
}

#[test]
fn e1_iptables_rules_as_flannel_lists_them() {
    for_both(async |programs| {
        let v4 = &programs.iptables[0];
        kube_forward(v4);
        // A second start puts the same rules in the same place.
        for _ in 0..2 {
            install(&programs, Flavour::Iptables, &spec()).await;
            assert_eq!(nat(v4), NAT_V4);
            assert_eq!(filter(v4), golden_filter(FWD_V4));
        }
        let v6 = sh(&format!("{}-save", programs.iptables[1]));
        assert!(!v6.contains("FLANNEL"), "no IPv6 network, no rules: {v6}");
    });
}

#[test]
fn e12_iptables_rules_of_both_families() {
    for_both(async |programs| {
        let [v4, v6] = &programs.iptables;
        kube_forward(v4);
        kube_forward(v6);
        install(&programs, Flavour::Iptables, &dual()).await;
        assert_eq!((nat(v4), nat(v6)), (NAT_V4.into(), NAT_V6.into()));
        assert_eq!(filter(v4), golden_filter(FWD_V4));
        assert_eq!(filter(v6), golden_filter(FWD_V6));
    });
}

/// The text of `nft list chain`.
fn nft(family: &str, table: &str, chain: &str) -> String {
    sh(&format!("nft list chain {family} {table} {chain}"))
}

const POSTRTG_V4: &str = "table ip flannel-ipv4 {
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

const FORWARD_V4: &str = "table ip flannel-ipv4 {
	chain forward {
		comment \"chain to accept flannel traffic\"
		type filter hook forward priority filter; policy accept;
		ip saddr 10.42.0.0/16 accept
		ip daddr 10.42.0.0/16 accept
	}
}
";

const POSTRTG_V6: &str = "table ip6 flannel-ipv6 {
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

const FORWARD_V6: &str = "table ip6 flannel-ipv6 {
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
        let v4 = &programs.iptables[0];
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
        let iptables = programs.iptables[0].clone();
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
        let (there, _) = output(&format!("{} -S WEFT-FWD", programs.iptables[1]));
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
        let v4 = &programs.iptables[0];
        let mut old = spec();
        old.v4 = Some(Ends {
            network: "10.7.0.0/16".parse().unwrap(),
            subnet: "10.7.9.0/24".parse().unwrap(),
        });
        install(&programs, Flavour::Iptables, &old).await;
        install(&programs, Flavour::Iptables, &spec()).await;
        assert_eq!(nat(v4), NAT_V4);
        assert!(!sh(&format!("{v4} -S")).contains("10.7."));
    });
}

/// Damage as commands with `{}` for the program, each on its own repaired by a check.
const DAMAGE: [&str; 9] = [
    "{} -w -t nat -D FLANNEL-POSTRTG 3",
    "{} -w -t nat -D POSTROUTING 2",
    "{} -w -t nat -F POSTROUTING && {} -w -t nat -A POSTROUTING -s 192.0.2.1/32 -j ACCEPT",
    "{} -w -t nat -F FLANNEL-POSTRTG",
    "{} -w -t nat -D POSTROUTING 2 && {} -w -t nat -F FLANNEL-POSTRTG && {} -w -t nat -X FLANNEL-POSTRTG",
    "{} -w -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG",
    "{} -w -t nat -A FLANNEL-POSTRTG -s 10.42.1.0/24 -d 10.42.0.0/16 -m comment --comment 'flanneld masq' -j RETURN",
    "{} -w -t nat -D FLANNEL-POSTRTG 1 && {} -w -t nat -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment 'flanneld masq' -j RETURN",
    "{} -w -t nat -D POSTROUTING 2 && {} -w -t nat -A POSTROUTING -o eth9 -j FLANNEL-POSTRTG",
];

#[test]
fn u22_damage_is_repaired_and_foreign_rules_stay() {
    for_both(async |programs| {
        let v4 = &programs.iptables[0];
        let foreign = "-A POSTROUTING -s 192.0.2.1/32 -j ACCEPT\n";
        sh(&format!("{v4} -w -t nat {foreign}"));
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        let whole = sh(&format!("{v4} -t nat -S"));
        for damage in DAMAGE {
            sh(&damage.replace("{}", v4));
            assert_ne!(sh(&format!("{v4} -t nat -S")), whole, "{damage}");
            firewall.check().await;
            assert_eq!(nat(v4), NAT_V4, "{damage}");
            let kept = sh(&format!("{v4} -t nat -S POSTROUTING"));
            assert!(kept.contains(foreign), "{damage}: {kept}");
        }
        firewall.check().await;
        assert!(firewall.tables.iter().all(|table| table.logged.is_none()));
    });
}

#[test]
fn u22_damage_to_nftables_is_repaired() {
    netns::run(async |_| {
        let mut firewall = install(&Programs::default(), Flavour::Nftables, &dual()).await;
        let damage = [
            "delete table ip flannel-ipv4",
            "delete chain ip flannel-ipv4 postrtg",
            "flush chain ip6 flannel-ipv6 forward",
            "add rule ip flannel-ipv4 forward ip saddr 10.42.0.0/16 accept",
            "insert rule ip flannel-ipv4 forward ip daddr 10.42.0.0/16 accept",
        ];
        for damage in damage {
            sh(&format!("nft '{damage}'"));
            firewall.check().await;
            assert_eq!(nft("ip", "flannel-ipv4", "postrtg"), POSTRTG_V4);
            assert_eq!(nft("ip", "flannel-ipv4", "forward"), FORWARD_V4);
            assert_eq!(nft("ip6", "flannel-ipv6", "forward"), FORWARD_V6);
        }
        let before = sh("nft -a list ruleset");
        firewall.check().await;
        assert_eq!(sh("nft -a list ruleset"), before, "handles and all");
    });
}

#[test]
fn u22_a_jump_keeps_its_place() {
    for_both(async |programs| {
        let v4 = &programs.iptables[0];
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        sh(&format!("{v4} -w -A FORWARD -i eth9 -j DROP"));
        sh(&format!("{v4} -w -D FLANNEL-FWD 1"));
        firewall.check().await;
        let forward = format!("-P FORWARD ACCEPT\n{JUMP}\n-A FORWARD -i eth9 -j DROP\n");
        assert_eq!(filter(v4), forward + FWD_V4);
    });
}

/// A program of that name in `dir` that notes each call in `dir/calls`.
fn noting(dir: &Path, name: &str, real: &str) {
    let path = dir.join(name);
    let calls = dir.join("calls");
    let text = format!("echo {name} >>{}\nexec {real} \"$@\"", calls.display());
    weft_lab::script(path, &text).unwrap();
}

fn calls(dir: &Path) -> Vec<String> {
    let calls = fs::read_to_string(dir.join("calls")).unwrap_or_default();
    let _ = fs::remove_file(dir.join("calls"));
    calls.lines().map(str::to_owned).collect()
}

#[test]
fn u22_a_check_of_complete_rules_changes_nothing() {
    for name in VARIANTS {
        netns::run(async move |_| {
            let dir = tempfile::tempdir().unwrap();
            for suffix in ["", "-save", "-restore"] {
                let real = format!("iptables-{name}{suffix}");
                noting(dir.path(), &format!("iptables{suffix}"), &real);
            }
            let mut programs = variant(name);
            programs.iptables[0] = dir.path().join("iptables").display().to_string();
            let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
            calls(dir.path());
            firewall.check().await;
            let expected = match name {
                // Each chain, and the one that leads to it.
                "nft" => vec!["iptables"; 4],
                _ => vec!["iptables-save"; 2],
            };
            assert_eq!(calls(dir.path()), expected, "one look at each table");
            sh(&format!("iptables-{name} -w -t nat -F FLANNEL-POSTRTG"));
            firewall.check().await;
            let calls = calls(dir.path());
            let restores = calls.iter().filter(|call| *call == "iptables-restore");
            assert_eq!(restores.count(), 1, "one transaction: {calls:?}");
            assert_eq!(nat(&format!("iptables-{name}")), NAT_V4);
        });
    }
}

#[test]
fn rules_of_others_are_not_listed() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        let listed = dir.path().join("listed");
        for suffix in ["", "-save", "-restore"] {
            let real = format!("iptables-nft{suffix} \"$@\" | tee -a {}", listed.display());
            let real = format!("sh -c '{real}' --");
            noting(dir.path(), &format!("iptables{suffix}"), &real);
        }
        let rules: String = (0..3000)
            .map(|n| format!("-A KUBE-X -s 10.7.{}.{} -j RETURN\n", n / 256, n % 256))
            .collect();
        let foreign = dir.path().join("foreign");
        fs::write(&foreign, format!("*nat\n:KUBE-X - [0:0]\n{rules}COMMIT\n")).unwrap();
        sh(&format!(
            "iptables-nft-restore --noflush {}",
            foreign.display()
        ));
        let mut programs = variant("nft");
        programs.iptables[0] = dir.path().join("iptables").display().to_string();
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        fs::remove_file(&listed).unwrap();
        firewall.check().await;
        assert!(firewall.tables.iter().all(|table| table.logged.is_none()));
        let listed = fs::read_to_string(&listed).unwrap();
        assert!(listed.contains("FLANNEL-POSTRTG") && !listed.contains("KUBE-X"));
    });
}

#[test]
fn two_daemons_share_the_chains() {
    let mut other = spec();
    other.v4 = Some(Ends {
        network: "10.7.0.0/16".parse().unwrap(),
        subnet: "10.7.9.0/24".parse().unwrap(),
    });
    for (flavour, listing) in [
        (Flavour::Iptables, "iptables-save"),
        (Flavour::Nftables, "nft list ruleset"),
    ] {
        let other = other.clone();
        netns::run(async move |_| {
            let programs = Programs::default();
            let mut one = install(&programs, flavour, &spec()).await;
            let mut two = install(&programs, flavour, &other).await;
            let rules = || {
                let listing = sh(listing);
                let rules = listing.lines().filter(|line| !line.starts_with(['#', ':']));
                rules.map(str::to_owned).collect::<Vec<_>>()
            };
            // The start of the second has emptied the chains.
            one.check().await;
            let before = rules();
            let has = |text: &str| before.iter().filter(|rule| rule.contains(text)).count();
            assert_eq!((has("10.42."), has("10.7.")), (7, 7), "{before:?}");
            assert_eq!(has("mark"), 1, "{before:?}");
            let place = |text: &str| before.iter().position(|rule| rule.contains(text));
            assert!(place("mark") < place(" 224.0.0.0/4"), "{before:?}");
            for _ in 0..2 {
                two.check().await;
                assert_eq!(rules(), before, "the first one's are left alone");
                one.check().await;
                assert_eq!(rules(), before, "the second one's are left alone");
            }
            // Each repairs only its own, behind the rule that they share.
            sh(match flavour {
                Flavour::Iptables => "iptables -w -t nat -F FLANNEL-POSTRTG",
                Flavour::Nftables => "nft flush chain ip flannel-ipv4 postrtg",
            });
            two.check().await;
            one.check().await;
            let repaired = rules();
            assert_eq!(repaired.len(), before.len(), "{repaired:?}");
            two.check().await;
            one.check().await;
            assert_eq!(rules(), repaired);
        });
    }
}

#[test]
fn the_lock_of_another_program_is_waited_for() {
    netns::run(async |_| {
        let mut holder = Command::new("flock")
            .args(["/run/xtables.lock", "sh", "-c", "echo; sleep 1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut locked = [0];
        let mut stdout = holder.stdout.take().unwrap();
        std::io::Read::read_exact(&mut stdout, &mut locked).unwrap();
        install(&variant("legacy"), Flavour::Iptables, &spec()).await;
        let ended = holder.try_wait().unwrap();
        assert!(ended.is_some(), "the lock is still held");
        assert_eq!(nat("iptables-legacy"), NAT_V4);
    });
}

#[test]
fn another_program_may_write_at_the_same_time() {
    for_both(async |programs| {
        let v4 = &programs.iptables[0];
        let payload = "*nat\n:KUBE-X - [0:0]\n-A KUBE-X -j RETURN\nCOMMIT\n\
                       *filter\n:KUBE-X - [0:0]\n-A KUBE-X -j RETURN\nCOMMIT\n";
        let loops = format!(
            "for i in $(seq 40); do printf '{payload}' | {v4}-restore -w --noflush || exit 1; done"
        );
        let loops = loops.replace('\n', "\\n");
        let mut kube = Command::new("sh").args(["-c", &loops]).spawn().unwrap();
        let mut rounds = 0;
        while rounds < 5 || kube.try_wait().unwrap().is_none() {
            install(&programs, Flavour::Iptables, &spec()).await;
            assert_eq!(nat(v4), NAT_V4);
            rounds += 1;
        }
        assert!(kube.wait().unwrap().success(), "and it is not disturbed");
        assert!(sh(&format!("{v4} -t nat -S")).contains("-A KUBE-X -j RETURN"));
    });
}

#[test]
fn each_flavour_removes_the_other() {
    netns::run(async |_| {
        let legacy = variant("legacy");
        let current = variant("nft");
        let foreign = "-A FORWARD -s 192.0.2.1/32 -j ACCEPT";
        sh(&format!("iptables-legacy -w {foreign}"));
        install(&legacy, Flavour::Iptables, &dual()).await;
        let saved = ["ip", "ip6"].map(|family| sh(&format!("{family}tables-legacy-save")));
        install(&current, Flavour::Iptables, &dual()).await;
        for (family, saved) in ["ip", "ip6"].into_iter().zip(saved) {
            sh(&format!("echo '{saved}' | {family}tables-legacy-restore"));
        }
        // What flanneld's own clean-up leaves in the wrong table.
        sh("iptables-nft -t nat -N FLANNEL-FWD");

        install(&current, Flavour::Nftables, &dual()).await;
        for program in [
            "iptables-legacy",
            "ip6tables-legacy",
            "iptables-nft",
            "ip6tables-nft",
        ] {
            let saved = sh(&format!("{program}-save"));
            assert!(!saved.contains("FLANNEL"), "{program}: {saved}");
        }
        assert!(sh("iptables-legacy -S FORWARD").contains(foreign));
        assert_eq!(nft("ip6", "flannel-ipv6", "postrtg"), POSTRTG_V6);

        install(&current, Flavour::Iptables, &dual()).await;
        let tables = sh("nft list tables");
        assert!(!tables.contains("flannel"), "{tables}");
        assert_eq!(nat("iptables-nft"), NAT_V4);
    });
}

#[test]
fn each_variant_of_iptables_removes_the_other() {
    for (ours, other) in [("nft", "legacy"), ("legacy", "nft")] {
        netns::run(async move |_| {
            let foreign = "-A FORWARD -s 192.0.2.1/32 -j ACCEPT";
            sh(&format!("iptables-{other} -w {foreign}"));
            let [old, new] = [other, ours].map(variant);
            install(&old, Flavour::Iptables, &dual()).await;
            install(&new, Flavour::Iptables, &dual()).await;
            for program in &old.iptables {
                let saved = sh(&format!("{program}-save"));
                assert!(!saved.contains("FLANNEL"), "{program}: {saved}");
            }
            assert!(sh(&format!("iptables-{other} -S FORWARD")).contains(foreign));
            let [v4, v6] = &new.iptables;
            assert_eq!((nat(v4), nat(v6)), (NAT_V4.into(), NAT_V6.into()));
            // A restart with the same variant finds nothing to remove.
            let others = iptables::other_variants(&new.iptables, &new.leftovers).await;
            assert_eq!(others.len(), 2, "{others:?}");
            for program in &others {
                assert!(
                    iptables::remove(program, &iptables::CHAINS, Unreadable::Failure)
                        .await
                        .unwrap()
                        .is_empty()
                );
            }
        });
    }
}

#[test]
fn looking_for_other_variants_creates_no_tables() {
    for (ours, other) in [("nft", "legacy"), ("legacy", "nft")] {
        netns::run(async move |_| {
            let mut spec = spec();
            spec.forward = false;
            install(&variant(ours), Flavour::Iptables, &spec).await;
            let nft = sh("nft list tables");
            let legacy = fs::read_to_string("/proc/thread-self/net/ip_tables_names");
            let legacy = legacy.unwrap_or_default();
            let expected = match other {
                "legacy" => ("table ip nat\n", ""),
                _ => ("", "nat\n"),
            };
            assert_eq!((nft.as_str(), legacy.as_str()), expected);
        });
    }
}

#[test]
fn looking_for_leftovers_creates_no_tables() {
    netns::run(async |_| {
        install(&Programs::default(), Flavour::Nftables, &spec()).await;
        let tables = sh("nft list tables");
        assert_eq!(tables, "table ip flannel-ipv4\ntable ip6 flannel-ipv6\n");
        let legacy = fs::read_to_string("/proc/thread-self/net/ip_tables_names");
        assert_eq!(legacy.unwrap_or_default(), "");
    });
}

fn no_programs() -> Programs {
    Programs {
        iptables: ["/nowhere/iptables", "/nowhere/ip6tables"].map(String::from),
        nft: "/nowhere/nft".into(),
        leftovers: vec!["/nowhere/iptables".into()],
    }
}

#[test]
fn what_cannot_be_read_does_not_count_as_removed() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let script = |name: &str, text: &str| weft_lab::script(path(name), text).unwrap();
        let programs = Programs {
            nft: path("nft"),
            leftovers: vec![path("iptables")],
            ..no_programs()
        };
        let nothing = (Vec::<String>::new(), Vec::<String>::new());
        assert_eq!(Firewall::remove_by(&programs, false).await, nothing);
        script("iptables", "echo 'iptables v1.8.9 (legacy)'");
        for (reason, counts) in [
            ("Another app is currently holding the xtables lock", true),
            (
                "Could not fetch rule set generation id: Invalid argument",
                false,
            ),
            ("cache initialization failed: Protocol not supported", false),
        ] {
            for name in ["iptables-save", "nft"] {
                script(name, &format!("echo '{reason}' >&2; exit 1"));
            }
            let (removed, failures) = Firewall::remove_by(&programs, false).await;
            let told = failures.iter().filter(|line| line.ends_with(reason));
            assert_eq!((removed.len(), told.count()), (0, 2 * usize::from(counts)));
            assert_eq!(failures.len(), 2 * usize::from(counts), "{failures:?}");
        }
        // What nft has put into a table of iptables'.
        script("nft", "");
        for (table, failures) in [("nat", 1), ("mangle", 0)] {
            let line = format!("# Table `{table}' is incompatible, use 'nft' tool.");
            script(
                "iptables-save",
                &format!("echo \"{}\"", line.replace('`', "\\`")),
            );
            let outcome = Firewall::remove_by(&programs, false).await;
            assert_eq!(
                (outcome.0.len(), outcome.1.len()),
                (0, failures),
                "{outcome:?}"
            );
        }
    });
}

#[test]
fn without_programs_only_the_flags_that_need_them_fail() {
    netns::run(async |_| {
        let refused = |flavour| async move {
            let checked = Firewall::check_with(&no_programs(), flavour, [true, false]).await;
            checked.unwrap_err().for_masquerade().to_string()
        };
        assert_eq!(
            refused(Flavour::Iptables).await,
            "cannot masquerade: there is no /nowhere/iptables in PATH; \
             install the package iptables, or set EnableNFTables; or leave out -ip-masq"
        );
        assert_eq!(
            refused(Flavour::Nftables).await,
            "cannot masquerade: there is no /nowhere/nft in PATH; \
             install the package nftables, or leave out EnableNFTables; or leave out -ip-masq"
        );
        let forward = FirewallSpec {
            masquerade: false,
            ..dual()
        };
        for flavour in [Flavour::Iptables, Flavour::Nftables] {
            let mut firewall = install(&no_programs(), flavour, &forward).await;
            let logged = |firewall: &Firewall| firewall.tables[0].logged.clone().unwrap();
            let before = logged(&firewall);
            assert!(before.contains("/nowhere/"), "{before}");
            firewall.check().await;
            assert_eq!(logged(&firewall), before, "known already");
        }
        let nothing = FirewallSpec {
            forward: false,
            ..forward
        };
        install(&no_programs(), Flavour::Iptables, &nothing).await;
        install(&no_programs(), Flavour::Nftables, &nothing).await;
    });
}

#[test]
fn programs_that_come_later_are_used() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        let program = |name: &str| dir.path().join(name).display().to_string();
        let programs = Programs {
            iptables: ["iptables", "ip6tables"].map(program),
            ..no_programs()
        };
        let forward = FirewallSpec {
            masquerade: false,
            ..spec()
        };
        let mut firewall = install(&programs, Flavour::Iptables, &forward).await;
        for suffix in ["-save", "-restore"] {
            let real = format!("iptables-nft{suffix}");
            noting(dir.path(), &format!("iptables{suffix}"), &real);
        }
        firewall.check().await;
        let expected = format!("-P FORWARD ACCEPT\n{JUMP}\n{FWD_V4}");
        assert_eq!(filter("iptables-nft"), expected);
    });
}

/// `iptables-legacy` with a lock of its own, for whoever is to hold it.
fn locked_programs(dir: &Path) -> (Programs, fs::File) {
    let path = dir.join("lock");
    let lock = fs::File::create(&path).unwrap();
    lock.lock().unwrap();
    for suffix in ["", "-save", "-restore"] {
        let real = format!("iptables-legacy{suffix}");
        let real = format!("env XTABLES_LOCKFILE={} {real}", path.display());
        noting(dir, &format!("iptables{suffix}"), &real);
    }
    let mut programs = variant("legacy");
    programs.iptables[0] = dir.join("iptables").display().to_string();
    programs.leftovers.clear();
    (programs, lock)
}

#[test]
fn a_lock_that_another_holds_at_the_start_delays_the_rules_alone() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        let (programs, lock) = locked_programs(dir.path());
        let checked = Firewall::check_with(&programs, Flavour::Iptables, [true, false]).await;
        assert!(checked.is_ok(), "nothing is missing: {checked:?}");
        let limit = Duration::from_millis(500);
        let (flavour, spec) = (Flavour::Iptables, spec());
        let mut firewall = Firewall::install_within(limit, &programs, flavour, &spec).await;
        assert!(!firewall.is_complete());
        drop(lock);
        firewall.check().await;
        assert!(firewall.is_complete());
        assert_eq!(nat("iptables-legacy"), NAT_V4);
    });
}

#[test]
fn rules_that_are_refused_at_the_start_are_tried_again() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        let programs = Programs {
            iptables: ["iptables", "ip6tables"]
                .map(|name| dir.path().join(name).display().to_string()),
            ..no_programs()
        };
        for suffix in ["", "-save"] {
            let real = format!("iptables-nft{suffix}");
            noting(dir.path(), &format!("iptables{suffix}"), &real);
        }
        noting(dir.path(), "iptables-restore", "false");
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        let logged = firewall.tables[0].logged.clone().unwrap();
        assert!(logged.contains("iptables-restore"), "{logged}");
        noting(dir.path(), "iptables-restore", "iptables-nft-restore");
        firewall.check().await;
        assert!(firewall.is_complete() && firewall.tables[0].logged.is_none());
        assert_eq!(nat("iptables-nft"), NAT_V4);
    });
}

#[test]
fn rules_in_another_spelling_do_not_pile_up() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        noting(dir.path(), "iptables-restore", "iptables-nft-restore");
        let list = "sh -c 'iptables-nft \"$@\" | sed s/RETURN/return/' --";
        noting(dir.path(), "iptables", list);
        let mut programs = variant("nft");
        programs.iptables[0] = dir.path().join("iptables").display().to_string();
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        firewall.check().await;
        firewall.check().await;
        assert_eq!(nat("iptables-nft"), NAT_V4);
        let logged = firewall.tables[0].logged.as_ref().unwrap();
        assert!(logged.contains("is not as it was written"), "{logged}");
    });
}

#[test]
fn prefixes_that_end_inside_a_byte() {
    for flavour in [Flavour::Iptables, Flavour::Nftables] {
        netns::run(async move |_| {
            let spec = FirewallSpec {
                v4: Some(Ends {
                    network: "10.42.16.0/20".parse().unwrap(),
                    subnet: "10.42.20.16/28".parse().unwrap(),
                }),
                v6: Some(Ends {
                    network: "fd00:10:244:4000::/50".parse().unwrap(),
                    subnet: "fd00:10:244:4000:8000::/66".parse().unwrap(),
                }),
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
        v4: Some(Ends {
            network: "0.0.0.0/0".parse().unwrap(),
            subnet: "10.42.1.0/24".parse().unwrap(),
        }),
        v6: Some(Ends {
            network: "::/0".parse().unwrap(),
            subnet: "fd00:10:244:1::/64".parse().unwrap(),
        }),
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
        let nat = nat(&programs.iptables[0]);
        assert!(
            nat.contains("-A FLANNEL-POSTRTG -s 10.42.1.0/24 -m comment"),
            "{nat}"
        );
        assert!(
            nat.contains("-A FLANNEL-POSTRTG ! -d 224.0.0.0/4 -m comment"),
            "{nat}"
        );
        let accepts = filter(&programs.iptables[1]).matches("-j ACCEPT").count();
        assert_eq!(accepts, 1, "from anywhere to anywhere");
    });
    netns::run(async move |_| {
        unchanged(install(&Programs::default(), Flavour::Nftables, &spec()).await).await;
    });
}
