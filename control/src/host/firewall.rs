//! The rules that flannel puts into the host's firewall, in its two flavours, byte for byte
//! as `iptables -S` and `nft list` show them there. Beside them weft has one chain of its own,
//! for what it encapsulates and the kernel then forwards.
//!
//! [`Firewall::install`] removes those of the other flavour and of the other variant of
//! iptables, and writes its own, each table in one transaction. [`Firewall::keep`] looks after
//! them from then on, and goes on with what could not be done at the start: a node without
//! rules still carries packets. They stay when the process ends, so that connections of pods
//! live on.
//!
//! Rules of others are never touched. A rule that was there already under our name is
//! replaced at the start; later on only ours are, so that two daemons for two networks can
//! share the chains.

mod chain;
mod chains;
mod error;
mod fate;
mod iptables;
#[cfg(feature = "fuzzing")]
mod listing;
mod nftables;
mod packets;
mod port;
mod process;
mod programs;
mod removal;
mod rules;
mod spec;
mod table;
mod tables;
mod verdict;

use super::events::HostEvents;
pub use chains::{HostChain, host_chains};
pub use error::FirewallError;
pub use fate::{Fate, fate};
#[cfg(feature = "fuzzing")]
pub use listing::read_listing;
pub use packets::PacketKind;
pub use port::rules_on_port;
use programs::Programs;
use removal::Others;
pub use spec::{FirewallOptions, FirewallSpec, Flavour};
use std::convert::Infallible;
use std::time::Duration;
use table::RuleTable;
use tracing::warn;

/// The shortest pause between two checks.
const MIN_PERIOD: Duration = Duration::from_secs(1);

/// The longest pause before what could not be done is tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(5);

/// How long a start waits for its rules. It takes a fraction of a second unless somebody else
/// holds the lock of the iptables programs.
const START_LIMIT: Duration = Duration::from_secs(5);

/// The rules in force, and what is needed to check them. None by default.
#[derive(Debug, Default)]
pub struct Firewall {
    /// Whose rules are to go.
    others: Option<Others>,
    tables: Vec<RuleTable>,
}

impl Firewall {
    /// Remove the rules of the other flavour and variant, and write those of `spec`.
    ///
    /// What cannot be done, or not within a few seconds, is logged, and [`Firewall::check`]
    /// tries again.
    pub async fn install(flavour: Flavour, spec: &FirewallSpec) -> Firewall {
        let programs = Programs::default();
        Firewall::install_within(START_LIMIT, &programs, flavour, spec).await
    }

    async fn install_within(
        limit: Duration,
        programs: &Programs,
        flavour: Flavour,
        spec: &FirewallSpec,
    ) -> Firewall {
        let mut firewall = Firewall {
            others: Some(Others::of(programs, flavour)),
            tables: tables::wanted(programs, flavour, spec).await,
        };
        if tokio::time::timeout(limit, firewall.check()).await.is_err() {
            warn!(
                code = "W0701",
                "the firewall rules are not written after {} s (does another program hold the lock of iptables?): going on without them, and trying again",
                limit.as_secs()
            );
        }
        firewall
    }

    /// Look whether all rules are there, once and in order; put right what is not, and say
    /// so in one line. A fault or an error that comes again in the next check is not logged
    /// again. Can be dropped at any await.
    ///
    /// Costs one process for each table that is right, or one for each chain.
    pub async fn check(&mut self) {
        if let Some(others) = &mut self.others
            && others.remove().await
        {
            self.others = None;
        }
        for table in &mut self.tables {
            table.check().await;
        }
    }

    fn is_complete(&self) -> bool {
        self.others.is_none() && self.tables.iter().all(RuleTable::is_installed)
    }

    /// [`Firewall::check`] each `period`, and at once when the kernel tells of a change to our chains,
    /// for ever. Can be dropped at any await.
    pub async fn keep(mut self, period: Duration) -> Infallible {
        let mut events = self.events();
        loop {
            let pause = match self.is_complete() {
                true => period,
                false => period.min(RETRY_PERIOD),
            };
            tokio::select! {
                () = tokio::time::sleep(pause.max(MIN_PERIOD)) => {}
                _ = events.next() => {}
            }
            self.check().await;
        }
    }

    /// Changes to our chains and those that lead to them. Of those of iptables-legacy the kernel tells
    /// nobody, but its programs lock a file.
    fn events(&self) -> HostEvents {
        let names = self.tables.iter().flat_map(RuleTable::names_in_nftables);
        let names: Vec<&str> = names.collect();
        match (names.is_empty(), self.tables.is_empty()) {
            (false, _) => HostEvents::of_nftables(names),
            (true, false) => HostEvents::of_lock(&iptables::lock()),
            (true, true) => HostEvents::none(),
        }
    }
}

#[cfg(test)]
mod tests;
