//! Looking for chains that drop whatever no rule of theirs accepts.

use super::iptables::other_variants;
use super::process::run;
use super::programs::Programs;

/// A chain of IPv4 that packets come by on their way into the host or through it, and that drops
/// what no rule of it accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClosedChain {
    /// The program that shows it: `iptables`, `iptables-legacy`, `nft` and so on.
    pub program: String,
    /// `input` or `forward`.
    pub hook: String,
    /// Its rules, as the program shows them.
    pub rules: Vec<String>,
}

/// All closed chains of both flavours. What cannot be listed has none.
pub async fn closed_chains() -> Vec<ClosedChain> {
    let programs = Programs::default();
    let of_ipv4 = |program: &&String| !program.starts_with("ip6");
    let programs_v4: Vec<String> = programs.leftovers.iter().filter(of_ipv4).cloned().collect();
    let mut found = Vec::new();
    for program in other_variants([], &programs_v4).await {
        let keep = |line: &str| {
            let words = ["*", ":INPUT ", ":FORWARD ", "-A INPUT ", "-A FORWARD "];
            words.iter().any(|word| line.starts_with(word))
        };
        // Without a table's name no table is created by looking at it.
        let lines = run(&format!("{program}-save"), &[], "", keep).await;
        found.extend(in_iptables(&program, &lines.unwrap_or_default()));
    }
    let lines = run(&programs.nft, &["list", "ruleset"], "", |_| true).await;
    // Those of iptables-nft have been found.
    let chains = in_nft(&lines.unwrap_or_default());
    found.extend(
        chains
            .into_iter()
            .filter(|(table, _)| !is_of_iptables(table))
            .map(|(_, c)| c),
    );
    found
}

/// Whether `iptables-nft` shows the chains of this table as well.
fn is_of_iptables(table: &str) -> bool {
    table == "ip filter"
}

/// The closed chains of the table `filter` in a listing of `iptables-save`.
fn in_iptables(program: &str, lines: &[String]) -> Vec<ClosedChain> {
    let mut filter = false;
    let mut found: Vec<ClosedChain> = Vec::new();
    for line in lines {
        if line.starts_with('*') {
            filter = line == "*filter";
        }
        for (chain, hook) in [("INPUT", "input"), ("FORWARD", "forward")] {
            if !filter {
                continue;
            }
            if line.starts_with(&format!(":{chain} DROP")) {
                found.push(ClosedChain {
                    program: program.to_owned(),
                    hook: hook.to_owned(),
                    rules: Vec::new(),
                });
            }
            let of_hook = found.iter_mut().find(|closed| closed.hook == hook);
            if let Some(closed) = of_hook.filter(|_| line.starts_with(&format!("-A {chain} "))) {
                closed.rules.push(line.clone());
            }
        }
    }
    found
}

/// The closed chains of `nft list ruleset`, each with its table.
fn in_nft(lines: &[String]) -> Vec<(String, ClosedChain)> {
    let (mut table, mut open) = (String::new(), None);
    let mut found: Vec<(String, ClosedChain)> = Vec::new();
    for line in lines.iter().map(|line| line.trim()) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches('{').trim().to_owned();
        }
        if line.starts_with("chain ") || line == "}" {
            open = None;
        }
        let hook = ["input", "forward"].into_iter().find(|hook| {
            line.starts_with("type filter") && line.contains(&format!(" hook {hook} "))
        });
        if let Some(hook) = hook.filter(|_| line.contains("policy drop")) {
            let family = table.split(' ').next().unwrap_or_default();
            if matches!(family, "ip" | "inet") {
                open = Some(found.len());
                found.push((
                    table.clone(),
                    ClosedChain {
                        program: format!("nft (table {table})"),
                        hook: hook.to_owned(),
                        rules: Vec::new(),
                    },
                ));
            }
        } else if let Some(at) = open {
            found[at].1.rules.push(line.to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use std::process::Command;

    #[test]
    fn closed_chains_are_found_in_both_flavours_with_their_rules() {
        netns::run(async |_| {
            assert_eq!(closed_chains().await, []);
            let nft = "table inet host {
                chain in { type filter hook input priority 0; policy drop; iif lo accept; }
                chain out { type filter hook output priority 0; policy drop; }
                chain through { type filter hook forward priority 0; }
            }";
            weft_lab::run(Command::new("nft").arg(nft)).unwrap();
            let found = closed_chains().await;
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(
                (&*found[0].hook, found[0].rules.len()),
                ("input", 1),
                "{found:?}"
            );
            for line in ["-P FORWARD DROP", "-A FORWARD -s 10.5.0.0/16 -j ACCEPT"] {
                weft_lab::run(Command::new("iptables").args(line.split(' '))).unwrap();
            }
            let found = closed_chains().await;
            assert_eq!(found.len(), 2, "{found:?}");
            let forward = found.iter().find(|chain| chain.hook == "forward").unwrap();
            assert_eq!(forward.program, "iptables");
            assert_eq!(forward.rules, ["-A FORWARD -s 10.5.0.0/16 -j ACCEPT"]);
        });
    }
}
