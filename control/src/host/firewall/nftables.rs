//! The nftables flavour: a table of our own for each address family, whose chains the
//! kernel calls by itself.
//!
//! A table is read with one `nft list` and changed with one `nft -f`, which the kernel
//! takes in whole or not at all.

use super::chain::{Chain, Listed, ListedRule};
use super::error::{FirewallError, Unreadable};
use super::process::run;
use super::rules;
use super::rules::{Rule, Verdict, Within};
use crate::family::{Family, PerFamily};
use ipnet::IpNet;
use std::fmt::Write as _;

/// The names of the tables.
const TABLES: PerFamily<(&str, &str)> = PerFamily {
    v4: ("ip", "flannel-ipv4"),
    v6: ("ip6", "flannel-ipv6"),
};

const MASQUERADE: &str = "postrtg";
const FORWARD: &str = "forward";

/// The table of one address family.
#[derive(Clone, Debug)]
pub(super) struct NftablesTable {
    /// `nft`.
    pub(super) program: String,
    pub(super) family: &'static str,
    pub(super) name: &'static str,
}

/// The chain of `masquerade` rules.
pub(super) fn masquerade_chain(rules: &[Rule]) -> Chain {
    chain(MASQUERADE, rules)
}

/// The chain of rules that let packets through.
pub(super) fn forward_chain(network: IpNet) -> Chain {
    chain(FORWARD, &rules::forward(network))
}

fn chain(name: &'static str, rules: &[Rule]) -> Chain {
    Chain::new(name, None, rules, spell)
}

/// What makes a chain one that the kernel calls, and tells people what it is for.
fn properties(chain: &str) -> &'static str {
    match chain {
        MASQUERADE => {
            "type nat hook postrouting priority srcnat; policy accept; \
             comment \"chain to manage traffic masquerading by flannel\";"
        }
        // Never `drop`: the policy holds for all packets of the host.
        _ => {
            "type filter hook forward priority filter; policy accept; \
             comment \"chain to accept flannel traffic\";"
        }
    }
}

/// A rule as `nft list` prints it.
fn spell(rule: &Rule) -> String {
    let mut text = String::new();
    if rule.mark {
        text.push_str("meta mark 0x00004000 ");
    }
    let mut within = |field: &str, side: Option<Within>| {
        if let Some(Within { network, negated }) = side {
            let family = match network {
                IpNet::V4(_) => "ip",
                IpNet::V6(_) => "ip6",
            };
            let not = if negated { "!= " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{family} {field} {not}{network} ");
        }
    };
    within("saddr", rule.source);
    within("daddr", rule.destination);
    text.push_str(match rule.verdict {
        Verdict::Return => "return",
        Verdict::Accept => "accept",
        Verdict::Masquerade { random_fully: true } => "masquerade fully-random",
        Verdict::Masquerade {
            random_fully: false,
        } => "masquerade",
    });
    text
}

impl NftablesTable {
    /// The table of a family.
    pub(super) fn new(program: &str, family: Family) -> NftablesTable {
        let (family, name) = *TABLES.of(family);
        NftablesTable {
            program: program.to_owned(),
            family,
            name,
        }
    }

    /// What is there of `chains`, in their order.
    pub(super) async fn list(&self, chains: &[Chain]) -> Result<Vec<Listed>, FirewallError> {
        let args = ["-a", "list", "table", self.family, self.name];
        match run(&self.program, &args, "", |_| true).await {
            Ok(lines) => Ok(chains.iter().map(|c| parse(&lines, c.name)).collect()),
            Err(FirewallError::Failed { reason, .. }) if reason.contains("No such file") => {
                Ok(vec![Listed::default(); chains.len()])
            }
            Err(error) => Err(error),
        }
    }

    /// What `nft -f` must read to put `chains` right. `fresh` ones lose all rules in them;
    /// else only ours change.
    pub(super) fn script(&self, chains: &[Chain], listed: &[Listed], fresh: bool) -> String {
        let NftablesTable { family, name, .. } = self;
        let mut script = format!("add table {family} {name} {{ comment \"rules for {name}\"; }}\n");
        for (chain, listed) in chains.iter().zip(listed) {
            let place = format!("{family} {name} {}", chain.name);
            // Writing to a String cannot fail.
            let _ = writeln!(script, "add chain {place} {{ {} }}", properties(chain.name));
            if fresh {
                let _ = writeln!(script, "flush chain {place}");
            } else {
                for rule in chain.own(listed) {
                    let _ = writeln!(script, "delete rule {place} handle {}", rule.handle);
                }
            }
            for rule in chain.to_append(listed, fresh) {
                let _ = writeln!(script, "add rule {place} {rule}");
            }
        }
        script
    }

    /// Have the kernel take in a script, whole or not at all.
    pub(super) async fn apply(&self, script: &str) -> Result<(), FirewallError> {
        run(&self.program, &["-f", "-"], script, |_| false).await?;
        Ok(())
    }
}

/// Whether the kernel and `nft` know `masquerade fully-random`; tried without changing
/// anything.
pub(super) async fn knows_fully_random(program: &str) -> bool {
    let (family, name) = TABLES.v4;
    let place = format!("{family} {name} {MASQUERADE}");
    let properties = properties(MASQUERADE);
    let script = format!(
        "add table {family} {name}\nadd chain {place} {{ {properties} }}\n\
         add rule {place} masquerade fully-random\n"
    );
    let checked = run(program, &["-c", "-f", "-"], &script, |_| false).await;
    checked.is_ok()
}

/// Remove the tables of both families, and say which there were.
pub(super) async fn remove(
    program: &str,
    unreadable: Unreadable,
) -> Result<Vec<&'static str>, FirewallError> {
    let spelt = [TABLES.v4, TABLES.v6].map(|(family, name)| format!("table {family} {name}"));
    let ours = |line: &str| spelt.iter().any(|table| table == line);
    let present = match run(program, &["list", "tables"], "", ours).await {
        Ok(present) if present.is_empty() => return Ok(Vec::new()),
        Ok(present) => present,
        Err(error) => return unreadable.removed(error),
    };
    let deletions = present.iter().map(|table| format!("delete {table}\n"));
    let script: String = deletions.collect();
    run(program, &["-f", "-"], &script, |_| false).await?;
    let there = |name: &str| present.iter().any(|table| table.ends_with(name));
    let names = [TABLES.v4, TABLES.v6].map(|(_, name)| name).into_iter();
    Ok(names.filter(|name| there(name)).collect())
}

/// The chain called `name` in the lines of `nft -a list table`.
fn parse(lines: &[String], name: &str) -> Listed {
    let opening = format!("chain {name} {{");
    let mut lines = lines.iter().map(|line| line.trim());
    let exists = lines.any(|line| line.starts_with(&opening));
    let inside = lines.take_while(|line| *line != "}");
    let rules = inside.filter_map(|line| {
        let (text, handle) = line.rsplit_once(" # handle ")?;
        Some(ListedRule {
            text: text.to_owned(),
            handle: handle.parse().ok()?,
        })
    });
    Listed {
        exists,
        rules: rules.collect(),
        jumps: Vec::new(),
    }
}

/// Look for chains in any lines.
#[cfg(feature = "fuzzing")]
pub(super) fn read_any(lines: &[String]) {
    for name in ["postrtg", "forward"] {
        let listed = parse(lines, name);
        assert!(listed.exists || listed.rules.is_empty());
    }
}

#[cfg(test)]
mod tests;
