//! Rules of an earlier start, of another flavour or variant.

use super::listings::{POSTRTG_V6, nft};
use super::*;

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
            for (_, program) in old.iptables.iter() {
                let saved = sh(&format!("{program}-save"));
                assert!(!saved.contains("FLANNEL"), "{program}: {saved}");
            }
            assert!(sh(&format!("iptables-{other} -S FORWARD")).contains(foreign));
            let PerFamily { v4, v6 } = &new.iptables;
            assert_eq!((nat(v4), nat(v6)), (NAT_V4.into(), NAT_V6.into()));
            // A restart with the same variant finds nothing to remove.
            let others = iptables::other_variants([v4, v6], &new.leftovers).await;
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
