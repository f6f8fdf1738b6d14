//! What others do to rules is put right.

use super::listings::{FORWARD_V4, FORWARD_V6, POSTRTG_V4, nft};
use super::*;

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
        let v4 = &programs.iptables.v4;
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
        let v4 = &programs.iptables.v4;
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        sh(&format!("{v4} -w -A FORWARD -i eth9 -j DROP"));
        sh(&format!("{v4} -w -D FLANNEL-FWD 1"));
        firewall.check().await;
        let forward = format!("-P FORWARD ACCEPT\n{JUMP}\n-A FORWARD -i eth9 -j DROP\n");
        assert_eq!(filter(v4), forward + FWD_V4);
    });
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
            programs.iptables.v4 = dir.path().join("iptables").display().to_string();
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
        programs.iptables.v4 = dir.path().join("iptables").display().to_string();
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
    other.networks.v4 = own("10.7.0.0/16", "10.7.9.0/24");
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
        let v4 = &programs.iptables.v4;
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
fn rules_in_another_spelling_do_not_pile_up() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        noting(dir.path(), "iptables-restore", "iptables-nft-restore");
        let list = "sh -c 'iptables-nft \"$@\" | sed s/RETURN/return/' --";
        noting(dir.path(), "iptables", list);
        let mut programs = variant("nft");
        programs.iptables.v4 = dir.path().join("iptables").display().to_string();
        let mut firewall = install(&programs, Flavour::Iptables, &spec()).await;
        firewall.check().await;
        firewall.check().await;
        assert_eq!(nat("iptables-nft"), NAT_V4);
        let logged = firewall.tables[0].logged.as_ref().unwrap();
        assert!(logged.contains("is not as it was written"), "{logged}");
    });
}

/// With no look in between that comes without notice.
#[test]
fn damage_is_repaired_when_it_is_done() {
    for_both(async |programs| {
        let v4 = &programs.iptables.v4;
        let firewall = install(&programs, Flavour::Iptables, &spec()).await;
        let whole = || sh(&format!("{v4}-save -t nat | grep FLANNEL"));
        let before = whole();
        let flushes = async {
            for _ in 0..3 {
                sh(&format!("{v4} -w -t nat -F"));
                let begin = std::time::Instant::now();
                while sh(&format!("{v4}-save -t nat | grep FLANNEL || true")) != before {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                eprintln!("{v4} -t nat -F: repaired after {:?}", begin.elapsed());
            }
        };
        tokio::select! {
            // It listens before anything is flushed.
            biased;
            never = firewall.keep(10 * LIMIT) => match never {},
            done = tokio::time::timeout(LIMIT, flushes) => done.unwrap(),
        }
    });
}
