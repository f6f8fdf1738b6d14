//! The iptables flavour: one chain of flannel's in `nat` and one in `filter`, and one of weft's
//! in `filter`, each reached by a jump at the end of the kernel's own.
//!
//! A table is changed with one `iptables-restore`, which the kernel takes in whole or not at
//! all. The variant for nf_tables is read chain by chain: to print all rules of others, such as
//! the 20,000 that kube-proxy may have, takes it a hundred times as long. The legacy variant
//! fetches the whole table for any question and takes a lock for all but `iptables-save`, with
//! which it is read.

mod version;

use super::chain::{Chain, Jump, Listed, ListedRule};
use super::error::{FirewallError, Unreadable};
use super::process::{LOCK_WAIT, run};
use super::rules;
use super::rules::{Rule, Verdict, Within};
use ipnet::IpNet;
use std::fmt::Write as _;
use std::path::PathBuf;
pub(super) use version::{Version, other_variants};

/// The chains that weft and flanneld use, in whatever table they are, and the kernel's before
/// them.
pub(super) const CHAINS: [(&str, &str); 3] = [
    ("POSTROUTING", "FLANNEL-POSTRTG"),
    ("FORWARD", "FLANNEL-FWD"),
    ("FORWARD", "WEFT-FWD"),
];

/// Those that are weft's alone.
pub(super) const WEFTS_CHAINS: &[(&str, &str)] = CHAINS.split_at(2).1;

/// The file that the programs of the legacy variant lock (`XT_LOCK_NAME`).
const LOCK: &str = "/run/xtables.lock";

/// As [`LOCK`], unless the environment names another, as it does to the programs.
pub(super) fn lock() -> PathBuf {
    std::env::var_os("XTABLES_LOCKFILE").map_or_else(|| LOCK.into(), PathBuf::from)
}

/// One table of one address family.
#[derive(Clone, Debug)]
pub(super) struct IptablesTable {
    /// `iptables` or `ip6tables`, or one of their variants; `-save` and `-restore` follow.
    pub(super) program: String,
    pub(super) name: &'static str,
    /// Whether restore can wait for the lock.
    pub(super) waits: bool,
    /// Whether a chain can be read without the rest of its table, and without a lock.
    pub(super) by_chain: bool,
}

/// `FLANNEL-POSTRTG`, in `nat`.
pub(super) fn masquerade_chain(rules: &[Rule]) -> Chain {
    chain(CHAINS[0], "flanneld masq", rules)
}

/// `FLANNEL-FWD`, in `filter`.
pub(super) fn forward_chain(network: IpNet) -> Chain {
    chain(CHAINS[1], "flanneld forward", &rules::forward(network))
}

/// `WEFT-FWD`, in `filter`: what comes from the device `tap` passes. Nobody but weft can write
/// to it. A chain of its own, as flannel's ones are compared with those that flannel makes.
pub(super) fn tap_chain(tap: &str) -> Chain {
    let comment = "weft super-packets";
    let jump = jump(CHAINS[2], comment);
    let mut chain = Chain::new(CHAINS[2].1, Some(jump), &[], |_| String::new());
    chain.rules = vec![format!(
        "-i {tap} -m comment --comment \"{comment}\" -j ACCEPT"
    )];
    chain
}

fn jump((from, name): (&'static str, &str), comment: &str) -> Jump {
    Jump {
        from,
        rule: format!("-m comment --comment \"{comment}\" -j {name}"),
    }
}

fn chain((from, name): (&'static str, &'static str), comment: &str, rules: &[Rule]) -> Chain {
    let jump = jump((from, name), comment);
    // iptables-nft refuses rules that match nothing.
    let mut rules = rules.to_vec();
    rules.retain(|rule| !rule.never_matches());
    Chain::new(name, Some(jump), &rules, |rule| spell(rule, comment))
}

/// A rule as `iptables -S` lists it, behind the chain's name.
fn spell(rule: &Rule, comment: &str) -> String {
    let mut text = String::new();
    let mut within = |option: &str, side: Option<Within>| {
        // What is in any network is not listed.
        let narrow = side.filter(|side| side.network.prefix_len() > 0);
        if let Some(Within { network, negated }) = narrow {
            let not = if negated { "! " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{not}{option} {network} ");
        }
    };
    within("-s", rule.source);
    within("-d", rule.destination);
    if rule.mark {
        text.push_str("-m mark --mark 0x4000/0x4000 ");
    }
    let target = match rule.verdict {
        Verdict::Return => "RETURN",
        Verdict::Accept => "ACCEPT",
        Verdict::Masquerade { random_fully: true } => "MASQUERADE --random-fully",
        Verdict::Masquerade {
            random_fully: false,
        } => "MASQUERADE",
    };
    let _ = write!(text, "-m comment --comment \"{comment}\" -j {target}");
    text
}

impl IptablesTable {
    /// What is there of `chains`, in their order.
    pub(super) async fn list(&self, chains: &[Chain]) -> Result<Vec<Listed>, FirewallError> {
        let by_chain = match self.by_chain {
            true => self.lines_by_chain(chains).await.ok(),
            false => None,
        };
        let lines = match by_chain {
            Some(lines) => lines,
            // Or a chain is missing, of which there is no telling from one that cannot be shown.
            None => self.saved_lines(chains).await?,
        };
        Ok(chains.iter().map(|chain| parse(&lines, chain)).collect())
    }

    /// What `iptables-save` says of `chains`.
    async fn saved_lines(&self, chains: &[Chain]) -> Result<Vec<String>, FirewallError> {
        let save = format!("{}-save", self.program);
        let keep = |line: &str| is_incompatible(line) || concerns_any(line, chains);
        let lines = run(&save, &["-t", self.name], "", keep).await?;
        match lines.iter().find(|line| is_incompatible(line)) {
            None => Ok(lines),
            Some(line) => Err(incompatible(format!("{save} -t {}", self.name), line)),
        }
    }

    /// What `iptables -S` says of `chains` and of those that they are reached from.
    async fn lines_by_chain(&self, chains: &[Chain]) -> Result<Vec<String>, FirewallError> {
        let from = chains.iter().filter_map(|chain| chain.jump.as_ref());
        let mut names: Vec<&str> = from.map(|jump| jump.from).collect();
        names.dedup();
        names.extend(chains.iter().map(|chain| chain.name));
        let mut lines = Vec::new();
        for name in names {
            let args = ["-t", self.name, "-S", name];
            let keep = |line: &str| concerns_any(line, chains);
            lines.extend(run(&self.program, &args, "", keep).await?);
        }
        Ok(lines)
    }

    /// What `iptables-restore` must read to put `chains` right. `fresh` ones lose all rules
    /// in them and go to the end of those that jump; else only our rules in them change, and
    /// a jump that is right keeps its place.
    pub(super) fn script(&self, chains: &[Chain], listed: &[Listed], fresh: bool) -> String {
        let mut lines = vec![format!("*{}", self.name)];
        for (chain, listed) in chains.iter().zip(listed) {
            lines.extend(commands(chain, listed, fresh));
        }
        lines.push("COMMIT\n".to_owned());
        lines.join("\n")
    }

    /// Have the kernel take in a script, whole or not at all.
    pub(super) async fn apply(&self, script: &str) -> Result<(), FirewallError> {
        restore(&self.program, self.waits, script).await
    }
}

/// What puts one chain right.
fn commands(chain: &Chain, listed: &Listed, fresh: bool) -> Vec<String> {
    let name = chain.name;
    let mut lines = Vec::new();
    if fresh || !listed.exists {
        // This also empties a chain that is there.
        lines.push(format!(":{name} - [0:0]"));
    } else {
        let own = chain.own(listed);
        lines.extend(own.map(|rule| format!("-D {name} {}", rule.text)));
    }
    if let Some(jump) = &chain.jump
        && (fresh || !chain.jumps_once(listed))
    {
        let present = listed.jumps.iter();
        lines.extend(present.map(|rule| format!("-D {} {rule}", jump.from)));
        lines.push(format!("-A {} {}", jump.from, jump.rule));
    }
    let rules = chain.to_append(listed, fresh);
    lines.extend(rules.map(|rule| format!("-A {name} {rule}")));
    lines
}

async fn restore(program: &str, waits: bool, script: &str) -> Result<(), FirewallError> {
    let seconds = LOCK_WAIT.as_secs().to_string();
    let mut args = vec!["--noflush"];
    if waits {
        args.extend(["-w", &seconds]);
    }
    run(&format!("{program}-restore"), &args, script, |_| false).await?;
    Ok(())
}

/// Whether a line of `iptables-save` or `iptables -S` is about one of `chains`.
fn concerns_any(line: &str, chains: &[Chain]) -> bool {
    chains.iter().any(|chain| concerns(line, chain))
}

/// Whether such a line is about `chain`.
fn concerns(line: &str, chain: &Chain) -> bool {
    declared(line) == Some(chain.name)
        || appended(line).is_some_and(|(to, rule)| {
            let jump = chain.jump.as_ref();
            to == chain.name || jump.is_some_and(|j| j.from == to) && leads_to(rule, chain.name)
        })
}

/// What such lines show of `chain`.
fn parse(lines: &[String], chain: &Chain) -> Listed {
    let mut listed = Listed::default();
    for line in lines.iter().filter(|line| concerns(line, chain)) {
        match appended(line) {
            Some((to, rule)) if to == chain.name => listed.rules.push(ListedRule {
                text: rule.to_owned(),
                handle: 0,
            }),
            Some((_, rule)) => listed.jumps.push(rule.to_owned()),
            None => listed.exists = true,
        }
    }
    listed
}

/// Look for `chain` in any lines, and check that what would remove our chains touches no
/// others.
#[cfg(feature = "fuzzing")]
pub(super) fn read_any(lines: &[String], chain: &Chain) {
    let listed = parse(lines, chain);
    if chain.fault(&listed).is_none() {
        assert_eq!(chain.own(&listed).count(), chain.rules.len());
    }
    for line in removal(lines, &CHAINS).lines() {
        let ours = CHAINS.iter().any(|chain| line.contains(chain.1));
        assert!(ours || line.starts_with('*') || line == "COMMIT", "{line}");
    }
    Version::parse(&lines.concat());
}

/// The name in a `:NAME POLICY [packets:bytes]` line, or one `-N NAME`.
fn declared(line: &str) -> Option<&str> {
    let name = line
        .strip_prefix(':')
        .or_else(|| line.strip_prefix("-N "))?;
    name.split(' ').next()
}

/// The chain and the rule of an `-A` line.
fn appended(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("-A ")?.split_once(' ')
}

fn leads_to(rule: &str, chain: &str) -> bool {
    let mut words = rule.rsplit(' ');
    words.next() == Some(chain) && matches!(words.next(), Some("-j" | "-g"))
}

/// What iptables-nft says of a table in which `nft` has put rules that it cannot show.
fn is_incompatible(line: &str) -> bool {
    line.starts_with('#') && line.contains("is incompatible")
}

/// The same of a table that our chains may be in.
fn hides_ours(line: &str) -> bool {
    is_incompatible(line)
        && ["`nat'", "`filter'"]
            .iter()
            .any(|table| line.contains(table))
}

fn incompatible(command: String, line: &str) -> FirewallError {
    let reason = line.trim_start_matches("# ").to_owned();
    FirewallError::Failed { command, reason }
}

/// Remove `chains` and the jumps to them from every table that is there, and say which there
/// were. A chain that somebody else jumps to is only emptied.
pub(super) async fn remove(
    program: &str,
    chains: &'static [(&'static str, &'static str)],
    unreadable: Unreadable,
) -> Result<Vec<&'static str>, FirewallError> {
    let ours = |line: &str| {
        let declares = declared(line).is_some_and(|name| chains.iter().any(|c| c.1 == name));
        let leads = |rule| chains.iter().any(|chain| leads_to(rule, chain.1));
        let kept = line.starts_with('*') || declares || hides_ours(line);
        kept || appended(line).is_some_and(|(_, rule)| leads(rule))
    };
    // Without a table's name no table is created by looking at it.
    let save = format!("{program}-save");
    let lines = match run(&save, &[], "", ours).await {
        Ok(lines) => lines,
        Err(error) => return unreadable.removed(error),
    };
    if unreadable == Unreadable::Failure
        && let Some(line) = lines.iter().find(|line| hides_ours(line))
    {
        return Err(incompatible(save, line));
    }
    let script = removal(&lines, chains);
    if !script.is_empty() {
        let waits = Version::of(program).await?.modern;
        restore(program, waits, &script).await?;
    }
    let there = |name| lines.iter().any(|line| declared(line) == Some(name));
    let names = chains.iter().map(|(_, name)| *name);
    Ok(names.filter(|name| there(name)).collect())
}

/// The script that removes what the lines of `iptables-save` show of our chains.
fn removal(lines: &[String], chains: &[(&str, &str)]) -> String {
    let mut script = String::new();
    let starts: Vec<usize> = (0..lines.len())
        .filter(|at| lines[*at].starts_with('*'))
        .collect();
    for (nth, start) in starts.iter().enumerate() {
        let end = starts.get(nth + 1).copied().unwrap_or(lines.len());
        let table = &lines[*start..end];
        let mut commands = Vec::new();
        for &(from, name) in chains {
            if !table.iter().any(|line| declared(line) == Some(name)) {
                continue;
            }
            let rules = table.iter().filter_map(|line| appended(line));
            let (own, others): (Vec<_>, Vec<_>) = rules
                .filter(|(_, rule)| leads_to(rule, name))
                .partition(|(chain, _)| *chain == from);
            commands.push(format!(":{name} - [0:0]"));
            commands.extend(own.iter().map(|(_, rule)| format!("-D {from} {rule}")));
            if others.is_empty() {
                commands.push(format!("-X {name}"));
            }
        }
        if !commands.is_empty() {
            let _ = writeln!(script, "{}\n{}\nCOMMIT", table[0], commands.join("\n"));
        }
    }
    script
}

#[cfg(test)]
mod tests;
