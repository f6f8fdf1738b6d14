//! The programs that rules are written with, and looking for them before anything depends on
//! them.

use super::process::run;
use super::{Firewall, FirewallError, Flavour};
use crate::family::PerFamily;

/// The programs to use, by name or path.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    /// Those for each family.
    pub(super) iptables: PerFamily<String>,
    pub(super) nft: String,
    /// All that may have left iptables rules of ours.
    pub(super) leftovers: Vec<String>,
}

impl Default for Programs {
    fn default() -> Self {
        let names = ["", "-legacy", "-nft"].map(iptables);
        let leftovers = names.iter().flat_map(|names| [&names.v4, &names.v6]);
        Programs {
            leftovers: leftovers.cloned().collect(),
            iptables: iptables(""),
            nft: "nft".into(),
        }
    }
}

/// The programs of a variant of iptables, by the end of their names.
pub(super) fn iptables(variant: &str) -> PerFamily<String> {
    PerFamily {
        v4: format!("iptables{variant}"),
        v6: format!("ip6tables{variant}"),
    }
}

impl Firewall {
    /// See whether the programs that masquerading needs are there and can read the kernel's
    /// rules of these families. Changes nothing.
    pub async fn check_programs(
        flavour: Flavour,
        families: PerFamily<bool>,
    ) -> Result<(), FirewallError> {
        let checked = Firewall::check_with(&Programs::default(), flavour, families).await;
        checked.map_err(FirewallError::for_masquerade)
    }

    pub(super) async fn check_with(
        programs: &Programs,
        flavour: Flavour,
        families: PerFamily<bool>,
    ) -> Result<(), FirewallError> {
        let nothing = |_: &str| false;
        if flavour == Flavour::Nftables {
            return run(&programs.nft, &["list", "tables"], "", nothing)
                .await
                .map(drop);
        }
        let all = programs.iptables.iter();
        for (_, program) in all.filter(|(family, _)| *families.of(*family)) {
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
                let found =
                    Firewall::check_programs(flavour, PerFamily { v4: true, v6: true }).await;
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
            iptables: PerFamily {
                v4: "true".to_owned(),
                v6: "/nowhere/ip6tables".to_owned(),
            },
            nft: "/nowhere/nft".to_owned(),
            leftovers: Vec::new(),
        };
        let check = async |flavour, families| {
            let checked = Firewall::check_with(&programs, flavour, families).await;
            checked.map_err(|error| error.to_string())
        };
        let error = check(
            Flavour::Nftables,
            PerFamily {
                v4: true,
                v6: false,
            },
        )
        .await
        .unwrap_err();
        assert!(error.contains("/nowhere/nft"), "{error}");
        let error = check(
            Flavour::Iptables,
            PerFamily {
                v4: true,
                v6: false,
            },
        )
        .await
        .unwrap_err();
        assert!(error.contains("no true-save"), "{error}");
        let error = check(
            Flavour::Iptables,
            PerFamily {
                v4: false,
                v6: true,
            },
        )
        .await
        .unwrap_err();
        assert!(error.contains("no /nowhere/ip6tables"), "{error}");
        assert_eq!(
            check(
                Flavour::Iptables,
                PerFamily {
                    v4: false,
                    v6: false
                }
            )
            .await,
            Ok(())
        );
    }
}
