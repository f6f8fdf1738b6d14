//! Removing rules: those of the other flavour and variant at the start, and all of them when
//! what the agent has left is taken away.

use super::error::{FirewallError, Unreadable};
use super::programs::Programs;
use super::{Firewall, Flavour, iptables, nftables};
use tracing::{info, warn};

/// Rules of the other flavour, and of the other variant of iptables, that may still be there.
#[derive(Debug)]
pub(super) struct Others {
    programs: Programs,
    flavour: Flavour,
    /// What kept them from being removed.
    logged: Option<String>,
}

impl Firewall {
    /// Remove the rules of both flavours and of all variants of iptables, or (`wefts_alone`) those
    /// that flanneld does not have; what was removed, and why something could not be.
    pub async fn remove(wefts_alone: bool) -> (Vec<String>, Vec<String>) {
        Firewall::remove_by(&Programs::default(), wefts_alone).await
    }

    pub(super) async fn remove_by(
        programs: &Programs,
        wefts_alone: bool,
    ) -> (Vec<String>, Vec<String>) {
        let Programs { nft, leftovers, .. } = programs;
        let failure = Unreadable::Failure;
        let mut removals = Vec::new();
        if !wefts_alone {
            removals.push(("tables", nft.clone(), nftables::remove(nft, failure).await));
        }
        let chains = match wefts_alone {
            true => iptables::WEFTS_CHAINS,
            false => &iptables::CHAINS,
        };
        for program in iptables::other_variants([], leftovers).await {
            let removed = iptables::remove(&program, chains, failure).await;
            removals.push(("chains", program, removed));
        }
        let (mut done, mut failures) = (Vec::new(), Vec::new());
        for (kind, program, removed) in removals {
            match removed {
                Ok(names) if names.is_empty() => {}
                Ok(names) => {
                    let names = names.join(", ");
                    done.push(format!("the firewall {kind} {names} ({program})"));
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        (done, failures)
    }
}

impl Others {
    /// Those that an agent which writes rules of `flavour` is to remove.
    pub(super) fn of(programs: &Programs, flavour: Flavour) -> Others {
        Others {
            programs: programs.clone(),
            flavour,
            logged: None,
        }
    }

    /// Remove the rules of the other flavour, and those of the other variant of iptables: both
    /// variants' are in force. Whether nothing of them is left.
    pub(super) async fn remove(&mut self) -> bool {
        let Programs {
            iptables,
            nft,
            leftovers,
        } = &self.programs;
        let mut failed = Vec::new();
        let programs = match self.flavour {
            Flavour::Iptables => {
                let removed = nftables::remove(nft, Unreadable::Nothing).await;
                failed.extend(failure("nftables", nft, removed));
                iptables::other_variants([&iptables.v4, &iptables.v6], leftovers).await
            }
            Flavour::Nftables => leftovers.clone(),
        };
        for program in programs {
            let chains = &iptables::CHAINS;
            let removed = iptables::remove(&program, chains, Unreadable::Nothing).await;
            failed.extend(failure("iptables", &program, removed));
        }
        let failed = (!failed.is_empty()).then(|| failed.join("; "));
        if let Some(reason) = failed.as_ref().filter(|_| failed != self.logged) {
            warn!(code = "W0704", "{reason}; trying again");
        }
        self.logged = failed;
        self.logged.is_none()
    }
}

/// Log a removal; why there was none.
fn failure(kind: &str, program: &str, removed: Result<Vec<&str>, FirewallError>) -> Option<String> {
    match removed {
        Ok(names) if names.is_empty() => {}
        Ok(_) => info!("removed the {kind} rules of an earlier start ({program})"),
        Err(error) => {
            return Some(format!(
                "cannot remove the {kind} rules of an earlier start: {error}"
            ));
        }
    }
    None
}
