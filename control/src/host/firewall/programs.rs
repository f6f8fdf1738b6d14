//! Looking for the programs before anything depends on them.

use super::process::run;
use super::{Firewall, FirewallError, Flavour, Programs};

impl Firewall {
    /// See whether the programs that masquerading needs are there and can read the kernel's
    /// rules of these families, IPv4 and IPv6. Changes nothing.
    pub async fn check_programs(
        flavour: Flavour,
        families: [bool; 2],
    ) -> Result<(), FirewallError> {
        let checked = Firewall::check_with(&Programs::default(), flavour, families).await;
        checked.map_err(FirewallError::for_masquerade)
    }

    pub(super) async fn check_with(
        programs: &Programs,
        flavour: Flavour,
        families: [bool; 2],
    ) -> Result<(), FirewallError> {
        let nothing = |_: &str| false;
        if flavour == Flavour::Nftables {
            return run(&programs.nft, &["list", "tables"], "", nothing)
                .await
                .map(drop);
        }
        let wanted = programs.iptables.iter().zip(families);
        for (program, _) in wanted.filter(|(_, wanted)| *wanted) {
            run(program, &["--version"], "", nothing).await?;
            run(&format!("{program}-save"), &["-t", "nat"], "", nothing).await?;
            // Of nothing to restore.
            run(&format!("{program}-restore"), &["--noflush"], "", nothing).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;

    #[test]
    fn programs_are_looked_for_and_nothing_changes() {
        netns::run(async |_| {
            for flavour in [Flavour::Iptables, Flavour::Nftables] {
                let found = Firewall::check_programs(flavour, [true, true]).await;
                assert!(found.is_ok(), "{found:?}");
            }
            let rules = run("nft", &["list", "ruleset"], "", |line| {
                !line.starts_with('#')
            })
            .await;
            let rules = rules.unwrap();
            assert!(
                !rules.iter().any(|line| line.contains("chain")),
                "{rules:?}"
            );
        });
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_missing_program_is_named_and_only_where_it_is_needed() {
        let programs = Programs {
            iptables: ["true".to_owned(), "/nowhere/ip6tables".to_owned()],
            nft: "/nowhere/nft".to_owned(),
            leftovers: Vec::new(),
        };
        let check = async |flavour, families| {
            let checked = Firewall::check_with(&programs, flavour, families).await;
            checked.map_err(|error| error.to_string())
        };
        let error = check(Flavour::Nftables, [true, false]).await.unwrap_err();
        assert!(error.contains("/nowhere/nft"), "{error}");
        let error = check(Flavour::Iptables, [true, false]).await.unwrap_err();
        assert!(error.contains("no true-save"), "{error}");
        let error = check(Flavour::Iptables, [false, true]).await.unwrap_err();
        assert!(error.contains("no /nowhere/ip6tables"), "{error}");
        assert_eq!(check(Flavour::Iptables, [false, false]).await, Ok(()));
    }
}
