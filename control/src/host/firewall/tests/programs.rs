//! Programs that are missing, slow or refuse.

use super::*;

#[test]
fn without_programs_only_the_flags_that_need_them_fail() {
    netns::run(async |_| {
        let refused = |flavour| async move {
            let checked = Firewall::check_with(&no_programs(), flavour, V4).await;
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
            iptables: PerFamily {
                v4: program("iptables"),
                v6: program("ip6tables"),
            },
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
    programs.iptables.v4 = dir.join("iptables").display().to_string();
    programs.leftovers.clear();
    (programs, lock)
}

#[test]
fn a_lock_that_another_holds_at_the_start_delays_the_rules_alone() {
    netns::run(async |_| {
        let dir = tempfile::tempdir().unwrap();
        let (programs, lock) = locked_programs(dir.path());
        let checked = Firewall::check_with(&programs, Flavour::Iptables, V4).await;
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
        let program = |name: &str| dir.path().join(name).display().to_string();
        let programs = Programs {
            iptables: PerFamily {
                v4: program("iptables"),
                v6: program("ip6tables"),
            },
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
