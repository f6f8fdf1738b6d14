//! One table of the firewall: written, checked, repaired.

use super::chain::{Chain, Fault, Listed};
use super::{FirewallError, iptables, nftables};
use tracing::{error, info, warn};

/// How often a table is tried to be written at the start, while others change it as well.
const ATTEMPTS: usize = 3;

/// One table with chains of ours: what is written in one transaction.
#[derive(Debug)]
pub(super) struct RuleTable {
    tool: Tool,
    chains: Vec<Chain>,
    purpose: Purpose,
    /// Whether the chains have been written anew since the start.
    installed: bool,
    /// Whether the last writing was found as it was written. If not, our own rules may not
    /// be recognised, and the next writing empties the chains so that they cannot grow.
    pub(super) verified: bool,
    /// What the last check found wrong.
    pub(super) logged: Option<String>,
}

#[derive(Debug)]
pub(super) enum Tool {
    Iptables(iptables::IptablesTable),
    Nftables(nftables::NftablesTable),
}

/// The most important thing that a table is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Masquerade,
    Forward,
    /// flannel makes the tables of nftables whether it has rules for them or not.
    Nothing,
}

impl RuleTable {
    /// Nothing has been written yet.
    pub(super) fn new(tool: Tool, chains: Vec<Chain>, purpose: Purpose) -> RuleTable {
        RuleTable {
            tool,
            chains,
            purpose,
            installed: false,
            verified: true,
            logged: None,
        }
    }

    /// Whether the chains have been written since the start.
    pub(super) fn is_installed(&self) -> bool {
        self.installed
    }

    /// Write the chains anew at the first time, and later repair what others have changed; each
    /// fault is logged once.
    pub(super) async fn check(&mut self) {
        match self.installed {
            true => self.look_after().await,
            false => self.install().await,
        }
    }

    async fn install(&mut self) {
        let mut result = self.write_fresh().await;
        for _ in 1..ATTEMPTS {
            match &result {
                Err(error) if !error.is_missing() => result = self.write_fresh().await,
                _ => break,
            }
        }
        let wanting = match self.purpose {
            Purpose::Masquerade => "what pods send out of the network is not masqueraded",
            Purpose::Forward => "no rules that let packets of pods through FORWARD",
            Purpose::Nothing => {
                // Of no use to anybody: not worth a word, nor another try.
                self.installed = true;
                return;
            }
        };
        self.installed = matches!(result, Ok(()) | Err(FirewallError::NotAsWritten { .. }));
        let said = match result {
            Ok(()) => {
                info!("firewall rules are in place: {}", self.name());
                self.logged = None;
                return;
            }
            Err(error) => error.to_string(),
        };
        if self.logged.as_ref() != Some(&said) {
            match self.installed {
                true => warn!(code = "W0702", "firewall: {said}"),
                false => error!(code = "W0703", "{wanting}: {said}; trying again"),
            }
            self.logged = Some(said);
        }
    }

    async fn write_fresh(&mut self) -> Result<(), FirewallError> {
        let listed = self.list().await?;
        self.verified = false;
        self.write(&listed).await
    }

    async fn look_after(&mut self) {
        if self.purpose == Purpose::Nothing {
            return;
        }
        let found = match self.repair().await {
            Ok(None) => {
                self.logged = None;
                return;
            }
            Ok(Some(fault)) => format!("{fault}; restored"),
            Err(error) => error.to_string(),
        };
        if self.logged.as_ref() != Some(&found) {
            warn!(code = "W0702", "firewall: {}: {found}", self.name());
            self.logged = Some(found);
        }
    }

    /// What was wrong and is right again.
    async fn repair(&mut self) -> Result<Option<Fault>, FirewallError> {
        let listed = self.list().await?;
        let Some(fault) = self.fault(&listed) else {
            self.verified = true;
            return Ok(None);
        };
        self.write(&listed).await?;
        Ok(Some(fault))
    }

    fn fault(&self, listed: &[Listed]) -> Option<Fault> {
        let mut chains = self.chains.iter().zip(listed);
        chains.find_map(|(chain, listed)| chain.fault(listed))
    }

    async fn list(&self) -> Result<Vec<Listed>, FirewallError> {
        match &self.tool {
            Tool::Iptables(table) => table.list(&self.chains).await,
            Tool::Nftables(table) => table.list(&self.chains).await,
        }
    }

    /// Write all chains, and look whether they are there then.
    async fn write(&mut self, listed: &[Listed]) -> Result<(), FirewallError> {
        let fresh = !self.verified;
        match &self.tool {
            Tool::Iptables(table) => {
                let script = table.script(&self.chains, listed, fresh);
                table.apply(&script).await?;
            }
            Tool::Nftables(table) => {
                let script = table.script(&self.chains, listed, fresh);
                table.apply(&script).await?;
            }
        }
        let fault = self.fault(&self.list().await?);
        self.verified = fault.is_none();
        match fault {
            None => Ok(()),
            Some(fault) => Err(FirewallError::NotAsWritten {
                table: self.name(),
                fault: fault.to_string(),
            }),
        }
    }

    /// The chains or the table that messages of nftables name when it is changed; none if it is not of
    /// nftables.
    pub(super) fn names_in_nftables(&self) -> Vec<&str> {
        match &self.tool {
            Tool::Nftables(table) => vec![table.name],
            Tool::Iptables(table) if table.by_chain => {
                let jumps = self.chains.iter().filter_map(|chain| chain.jump.as_ref());
                let from = jumps.map(|jump| jump.from);
                from.chain(self.chains.iter().map(|chain| chain.name))
                    .collect()
            }
            Tool::Iptables(_) => Vec::new(),
        }
    }

    /// Its tool and name, for the log.
    pub(super) fn name(&self) -> String {
        match &self.tool {
            Tool::Iptables(table) => format!("{} {}", table.program, table.name),
            Tool::Nftables(table) => format!("{} {}", table.program, table.name),
        }
    }
}
