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
mod iptables;
mod nftables;
mod process;
mod programs;
mod rules;
mod spec;
mod table;

use ipnet::{IpNet, Ipv4Net};
pub use spec::{Ends, FirewallOptions, FirewallSpec, Flavour};
use std::convert::Infallible;
use std::time::Duration;
use table::{Purpose, Table, Tool};
use tracing::{debug, info, warn};

/// The shortest pause between two checks.
const MIN_PERIOD: Duration = Duration::from_secs(1);

/// The longest pause before what could not be done is tried again.
const RETRY_PERIOD: Duration = Duration::from_secs(5);

/// How long a start waits for its rules. It takes a fraction of a second unless somebody else
/// holds the lock of the iptables programs.
const START_LIMIT: Duration = Duration::from_secs(5);

/// Why rules cannot be written or read. One line.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// A program is not installed.
    #[error("there is no {program} in PATH; install the package {package}{instead}")]
    Missing {
        /// Its name.
        program: String,
        /// The package it comes with.
        package: &'static str,
        /// What can be done instead.
        instead: &'static str,
    },
    /// A program says no.
    #[error("{command}: {reason}")]
    Failed {
        /// The command line.
        command: String,
        /// What it said.
        reason: String,
    },
    /// Another program changes the same rules, or they are listed in another spelling.
    #[error("{table} is not as it was written: {fault}")]
    NotAsWritten {
        /// The table.
        table: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Masquerading was asked for and cannot be had.
    #[error("cannot masquerade: {0}; or leave out -ip-masq")]
    Masquerade(Box<FirewallError>),
}

impl FirewallError {
    fn missing(program: &str) -> FirewallError {
        let (package, instead) = if program.contains("tables") {
            ("iptables", ", or set EnableNFTables")
        } else {
            ("nftables", ", or leave out EnableNFTables")
        };
        FirewallError::Missing {
            program: program.to_owned(),
            package,
            instead,
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self, FirewallError::Missing { .. })
    }

    /// Whether it shows that there are no rules, for want of the program or of its part of the
    /// kernel: no nfnetlink, or no nf_tables in it.
    fn shows_none(&self) -> bool {
        let without = [
            "Protocol not supported",
            "Operation not supported",
            "Invalid argument",
        ];
        match self {
            FirewallError::Failed { reason, .. } => without.iter().any(|of| reason.contains(of)),
            _ => self.is_missing(),
        }
    }

    fn for_masquerade(self) -> FirewallError {
        FirewallError::Masquerade(Box::new(self))
    }
}

/// The programs to use, by name or path.
#[derive(Clone, Debug)]
struct Programs {
    /// For IPv4 and for IPv6.
    iptables: [String; 2],
    nft: String,
    /// All that may have left iptables rules of ours.
    leftovers: Vec<String>,
}

impl Default for Programs {
    fn default() -> Self {
        let variants = ["tables", "tables-legacy", "tables-nft"];
        let named = |variant| ["ip", "ip6"].map(|family| format!("{family}{variant}"));
        Programs {
            iptables: named(variants[0]),
            nft: "nft".into(),
            leftovers: variants.into_iter().flat_map(named).collect(),
        }
    }
}

/// What rules that cannot be listed are to a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unreadable {
    /// None: a node whose own rules are right is not to be kept waiting by another tool.
    Nothing,
    /// A reason to say that they may be left.
    Failure,
}

impl Unreadable {
    /// What a removal has done that met with this error.
    fn removed(self, error: FirewallError) -> Result<Vec<&'static str>, FirewallError> {
        if self == Unreadable::Failure && !error.shows_none() {
            return Err(error);
        }
        debug!("no rules of an earlier start: {error}");
        Ok(Vec::new())
    }
}

/// The rules in force, and what is needed to check them. None by default.
#[derive(Debug, Default)]
pub struct Firewall {
    /// Whose rules are to go.
    others: Option<Others>,
    tables: Vec<Table>,
}

/// Rules of the other flavour, and of the other variant of iptables, that may still be there.
#[derive(Debug)]
struct Others {
    programs: Programs,
    flavour: Flavour,
    /// What kept them from being removed.
    logged: Option<String>,
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
        let tables = match flavour {
            Flavour::Iptables => iptables_tables(programs, spec).await,
            Flavour::Nftables => nftables_tables(programs, spec).await,
        };
        let others = Others {
            programs: programs.clone(),
            flavour,
            logged: None,
        };
        let mut firewall = Firewall {
            others: Some(others),
            tables,
        };
        if tokio::time::timeout(limit, firewall.check()).await.is_err() {
            warn!(
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

    /// Remove the rules of both flavours and of all variants of iptables, or (`wefts_alone`) those
    /// that flanneld does not have; what was removed, and why something could not be.
    pub async fn remove(wefts_alone: bool) -> (Vec<String>, Vec<String>) {
        Firewall::remove_by(&Programs::default(), wefts_alone).await
    }

    async fn remove_by(programs: &Programs, wefts_alone: bool) -> (Vec<String>, Vec<String>) {
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
        for program in iptables::other_variants(&[], leftovers).await {
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

    fn is_complete(&self) -> bool {
        self.others.is_none() && self.tables.iter().all(Table::is_installed)
    }

    /// [`Firewall::check`] each `period`, for ever. Can be dropped at any await.
    pub async fn keep(mut self, period: Duration) -> Infallible {
        loop {
            let pause = match self.is_complete() {
                true => period,
                false => period.min(RETRY_PERIOD),
            };
            tokio::time::sleep(pause.max(MIN_PERIOD)).await;
            self.check().await;
        }
    }
}

impl Others {
    /// Remove the rules of the other flavour, and those of the other variant of iptables: both
    /// variants' are in force. Whether nothing of them is left.
    async fn remove(&mut self) -> bool {
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
                iptables::other_variants(iptables, leftovers).await
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
            warn!("{reason}; trying again");
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

async fn iptables_tables(programs: &Programs, spec: &FirewallSpec) -> Vec<Table> {
    let mut tables = Vec::new();
    for (program, ends) in programs.iptables.iter().zip(spec.ends()) {
        let Some(ends) = ends.filter(|_| spec.masquerade || spec.forward) else {
            continue;
        };
        // The rules wait for a missing program; all of today's versions are modern.
        let (modern, by_chain) = match iptables::Version::of(program).await {
            Ok(version) => {
                debug!("{}", version.text);
                (version.modern, version.nft)
            }
            Err(_) => (true, false),
        };
        let table = |name, purpose, chains| {
            let tool = Tool::Iptables(iptables::Table {
                program: program.clone(),
                name,
                waits: modern,
                by_chain,
            });
            Table::new(tool, chains, purpose)
        };
        if spec.masquerade {
            let random_fully = spec.random_fully && modern;
            let rules = rules::masquerade(&ends, Flavour::Iptables, random_fully);
            let chain = iptables::masquerade_chain(&rules);
            tables.push(table("nat", Purpose::Masquerade, vec![chain]));
        }
        if spec.forward {
            let mut chains = vec![iptables::forward_chain(ends.network)];
            let tap = spec
                .tap
                .as_deref()
                .filter(|_| ends.network.addr().is_ipv4());
            chains.extend(tap.map(iptables::tap_chain));
            tables.push(table("filter", Purpose::Forward, chains));
        }
    }
    tables
}

async fn nftables_tables(programs: &Programs, spec: &FirewallSpec) -> Vec<Table> {
    let nft = &programs.nft;
    let random_fully =
        spec.masquerade && spec.random_fully && nftables::knows_fully_random(nft).await;
    let table = |(v6, ends): (bool, Option<Ends<IpNet>>)| {
        let mut chains = Vec::new();
        let mut purpose = Purpose::Nothing;
        if let Some(ends) = ends {
            if spec.forward {
                purpose = Purpose::Forward;
                chains.push(nftables::forward_chain(ends.network));
            }
            if spec.masquerade {
                purpose = Purpose::Masquerade;
                let rules = rules::masquerade(&ends, Flavour::Nftables, random_fully);
                chains.insert(0, nftables::masquerade_chain(&rules));
            }
        }
        let tool = Tool::Nftables(nftables::Table::new(nft, v6));
        Table::new(tool, chains, purpose)
    };
    [false, true]
        .into_iter()
        .zip(spec.ends())
        .map(table)
        .collect()
}

/// Read `text` as a listing of either tool, as a check and a removal do. For fuzzing.
pub(crate) fn read_listing(text: &str) {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let network = IpNet::V4(Ipv4Net::new_assert([10, 5, 0, 0].into(), 16));
    let subnet = IpNet::V4(Ipv4Net::new_assert([10, 5, 1, 0].into(), 24));
    let ends = Ends { network, subnet };
    let rules = rules::masquerade(&ends, Flavour::Iptables, true);
    iptables::read_any(&lines, &iptables::masquerade_chain(&rules));
    iptables::read_any(&lines, &iptables::forward_chain(network));
    nftables::read_any(&lines);
}

#[cfg(test)]
mod tests;
