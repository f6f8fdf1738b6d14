//! The rules that flannel puts into the host's firewall, in its two flavours, byte for byte
//! as `iptables -S` and `nft list` show them there. Beside them weft has one chain of its own,
//! for what it encapsulates and the kernel then forwards.
//!
//! [`Firewall::install`] removes those of the other flavour and of the other variant of
//! iptables, and writes its own, each table in one transaction. [`Firewall::keep`] looks after
//! them from then on. They stay when the process ends, so that connections of pods live on.
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
mod table;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::convert::Infallible;
use std::time::Duration;
use table::{Purpose, Table, Tool};
use tracing::{debug, info, warn};

/// The shortest pause between two checks.
const MIN_PERIOD: Duration = Duration::from_secs(1);

/// The tool that rules are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `iptables` and `ip6tables`, of either variant.
    Iptables,
    /// `nft` (`EnableNFTables`).
    Nftables,
}

/// The two networks that rules speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<N> {
    /// The network of all pods.
    pub network: N,
    /// The part of it that is this node's.
    pub subnet: N,
}

/// Which rules are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The IPv4 networks, if pods have IPv4 addresses.
    pub v4: Option<Ends<Ipv4Net>>,
    /// The IPv6 networks, if pods have IPv6 addresses.
    pub v6: Option<Ends<Ipv6Net>>,
    /// Whether what leaves the network gets the node's address (`-ip-masq`).
    pub masquerade: bool,
    /// Whether ports are chosen at random then, if the tool can do that.
    pub random_fully: bool,
    /// Whether packets of pods pass the FORWARD chain (`-iptables-forward-rules`).
    pub forward: bool,
    /// The device by which encapsulated super-packets of IPv4 come into the FORWARD chain, if
    /// there is one. They pass it where those of pods do.
    pub tap: Option<String>,
}

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

/// The rules in force, and what is needed to check them. None by default.
#[derive(Debug, Default)]
pub struct Firewall {
    tables: Vec<Table>,
}

impl Firewall {
    /// Remove the rules of the other flavour and variant, and write those of `plan`.
    ///
    /// What keeps masquerading from working is an error. What keeps forward rules from being
    /// written is logged, and [`Firewall::check`] tries again.
    pub async fn install(flavour: Flavour, plan: &Plan) -> Result<Firewall, FirewallError> {
        Firewall::install_with(&Programs::default(), flavour, plan).await
    }

    async fn install_with(
        programs: &Programs,
        flavour: Flavour,
        plan: &Plan,
    ) -> Result<Firewall, FirewallError> {
        remove_other(programs, flavour).await;
        let mut tables = match flavour {
            Flavour::Iptables => iptables_tables(programs, plan).await?,
            Flavour::Nftables => nftables_tables(programs, plan).await,
        };
        for table in &mut tables {
            table.install().await?;
        }
        Ok(Firewall { tables })
    }

    /// Look whether all rules are there, once and in order; put right what is not, and say
    /// so in one line. A fault or an error that comes again in the next check is not logged
    /// again.
    ///
    /// Costs one process for each table that is right.
    pub async fn check(&mut self) {
        for table in &mut self.tables {
            table.check().await;
        }
    }

    /// [`Firewall::check`] each `period`, for ever. Can be dropped at any await.
    pub async fn keep(mut self, period: Duration) -> Infallible {
        loop {
            tokio::time::sleep(period.max(MIN_PERIOD)).await;
            self.check().await;
        }
    }
}

/// Remove the rules of the other flavour, and those of the other variant of iptables: both
/// variants' are in force. Leftovers are no reason not to start: they are logged.
async fn remove_other(programs: &Programs, flavour: Flavour) {
    let leftovers = &programs.leftovers;
    let others = match flavour {
        Flavour::Iptables => {
            let removed = nftables::remove_all(&programs.nft).await;
            report_removal("nftables", &programs.nft, removed);
            iptables::other_variants(&programs.iptables, leftovers).await
        }
        Flavour::Nftables => leftovers.clone(),
    };
    for program in others {
        let removed = iptables::remove_all(&program).await;
        report_removal("iptables", &program, removed);
    }
}

fn report_removal(kind: &str, program: &str, removed: Result<bool, FirewallError>) {
    match removed {
        Ok(true) => info!("removed the {kind} rules of an earlier start ({program})"),
        Ok(false) => {}
        Err(error) => warn!("cannot remove the {kind} rules of an earlier start: {error}"),
    }
}

async fn iptables_tables(programs: &Programs, plan: &Plan) -> Result<Vec<Table>, FirewallError> {
    let mut tables = Vec::new();
    for (program, ends) in programs.iptables.iter().zip(plan.ends()) {
        let Some(ends) = ends.filter(|_| plan.masquerade || plan.forward) else {
            continue;
        };
        let version = match iptables::Version::of(program).await {
            Ok(version) => {
                debug!("{}", version.text);
                Some(version)
            }
            Err(error) if plan.masquerade => return Err(error.for_masquerade()),
            // The forward rules wait for it; all of today's versions are modern.
            Err(_) => None,
        };
        let modern = version.is_none_or(|version| version.modern);
        let table = |name, purpose, chains| {
            let tool = Tool::Iptables(iptables::Table {
                program: program.clone(),
                name,
                waits: modern,
            });
            Table::new(tool, chains, purpose)
        };
        if plan.masquerade {
            let random_fully = plan.random_fully && modern;
            let rules = rules::masquerade(&ends, Flavour::Iptables, random_fully);
            let chain = iptables::masquerade_chain(&rules);
            tables.push(table("nat", Purpose::Masquerade, vec![chain]));
        }
        if plan.forward {
            let mut chains = vec![iptables::forward_chain(ends.network)];
            let tap = plan
                .tap
                .as_deref()
                .filter(|_| ends.network.addr().is_ipv4());
            chains.extend(tap.map(iptables::tap_chain));
            tables.push(table("filter", Purpose::Forward, chains));
        }
    }
    Ok(tables)
}

async fn nftables_tables(programs: &Programs, plan: &Plan) -> Vec<Table> {
    let nft = &programs.nft;
    let random_fully =
        plan.masquerade && plan.random_fully && nftables::knows_fully_random(nft).await;
    let table = |(v6, ends): (bool, Option<Ends<IpNet>>)| {
        let mut chains = Vec::new();
        let mut purpose = Purpose::Nothing;
        if let Some(ends) = ends {
            if plan.forward {
                purpose = Purpose::Forward;
                chains.push(nftables::forward_chain(ends.network));
            }
            if plan.masquerade {
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
        .zip(plan.ends())
        .map(table)
        .collect()
}

impl Plan {
    /// The networks of IPv4 and of IPv6.
    fn ends(&self) -> [Option<Ends<IpNet>>; 2] {
        let v4 = self.v4.map(|ends| Ends {
            network: ends.network.trunc().into(),
            subnet: ends.subnet.trunc().into(),
        });
        let v6 = self.v6.map(|ends| Ends {
            network: ends.network.trunc().into(),
            subnet: ends.subnet.trunc().into(),
        });
        [v4, v6]
    }
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
