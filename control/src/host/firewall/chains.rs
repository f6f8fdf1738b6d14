//! The host's own chains, as its programs list them.

use super::iptables::other_variants;
use super::process::run;
use super::programs::Programs;
use std::cell::Cell;

/// A chain that packets of IPv4 may come by; none that translates addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostChain {
    /// The program that shows it: `iptables`, `iptables-legacy`, `nft` and so on.
    pub program: String,
    /// Its table, of nft with the family: `filter`, `inet host`.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Where the kernel sends packets through it, if it does: `prerouting`, `input`, `forward` and
    /// so on.
    pub hook: Option<String>,
    /// Whether it drops what no rule of it decides.
    pub drops: bool,
    /// Its rules, as the program shows them.
    pub rules: Vec<String>,
}

/// All chains of both flavours. What cannot be listed has none.
pub async fn host_chains() -> Vec<HostChain> {
    let programs = Programs::default();
    let of_ipv4 = |program: &&String| !program.starts_with("ip6");
    let programs_v4: Vec<String> = programs.leftovers.iter().filter(of_ipv4).cloned().collect();
    let mut found = Vec::new();
    for program in other_variants([], &programs_v4).await {
        // Services of Kubernetes are thousands of rules there.
        let translates = Cell::new(false);
        let keep = |line: &str| {
            if line.starts_with('*') {
                translates.set(line == "*nat");
            }
            !translates.get()
        };
        // Without a table's name no table is created by looking at it.
        let lines = run(&format!("{program}-save"), &[], "", keep).await;
        found.extend(in_iptables(&program, &lines.unwrap_or_default()));
    }
    let lines = run(&programs.nft, &["list", "ruleset"], "", |_| true).await;
    let mut chains = in_nft(&lines.unwrap_or_default());
    // What iptables-nft has made has been found.
    chains.retain(|chain| {
        !found.iter().any(|known: &HostChain| {
            chain.table.strip_prefix("ip ") == Some(&known.table) && chain.name == known.name
        })
    });
    found.extend(chains);
    found
}

/// The chains of a listing of `iptables-save`.
fn in_iptables(program: &str, lines: &[String]) -> Vec<HostChain> {
    let mut table = "";
    let mut found: Vec<HostChain> = Vec::new();
    for line in lines {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let name = words.next().unwrap_or_default();
            let policy = words.next().unwrap_or_default();
            found.push(HostChain {
                program: program.to_owned(),
                table: table.to_owned(),
                name: name.to_owned(),
                hook: (policy != "-").then(|| name.to_lowercase()),
                drops: policy == "DROP",
                rules: Vec::new(),
            });
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let name = rule.split(' ').next().unwrap_or_default();
            let mut chains = found.iter_mut();
            if let Some(chain) = chains.find(|c| c.table == table && c.name == name) {
                chain.rules.push(line.clone());
            }
        }
    }
    found.retain(|chain| chain.table != "nat");
    found
}

/// The chains of `nft list ruleset`.
fn in_nft(lines: &[String]) -> Vec<HostChain> {
    let (mut table, mut open, mut rule) = (String::new(), None, String::new());
    let mut found: Vec<HostChain> = Vec::new();
    for line in lines.iter().map(|line| line.trim()) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches('{').trim().to_owned();
            open = None;
        } else if let Some(name) = line.strip_prefix("chain ") {
            open = Some(found.len());
            found.push(HostChain {
                program: "nft".to_owned(),
                table: table.clone(),
                name: name.split(' ').next().unwrap_or_default().to_owned(),
                ..HostChain::default()
            });
        } else if line == "}" {
            open = None;
        } else if let Some(chain) = open.map(|at: usize| &mut found[at]) {
            if let Some((_, hook)) = line
                .split_once(" hook ")
                .filter(|_| line.starts_with("type"))
            {
                let filters = line.starts_with("type filter");
                let hook = hook.split(' ').next().filter(|_| filters);
                chain.hook = hook.map(str::to_owned);
                chain.drops = line.contains("policy drop");
                continue;
            }
            // A long set takes several lines.
            rule = format!("{rule} {line}").trim_start().to_owned();
            if rule.matches('{').count() <= rule.matches('}').count() && !rule.is_empty() {
                chain.rules.push(std::mem::take(&mut rule));
            }
        }
    }
    let of_ipv4 = |chain: &HostChain| ["ip ", "inet "].iter().any(|f| chain.table.starts_with(f));
    found.retain(of_ipv4);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use std::process::Command;

    #[test]
    fn chains_are_found_in_both_flavours_with_their_rules() {
        netns::run(async |_| {
            assert_eq!(host_chains().await, []);
            let nft = "table inet host {
                chain in { type filter hook input priority 0; policy drop; iif lo accept; }
                chain through { type filter hook forward priority 0; udp dport 8472 drop; }
                chain more { accept; }
            }
            table ip6 other {
                chain in { type filter hook input priority 0; policy drop; }
            }";
            weft_lab::run(Command::new("nft").arg(nft)).unwrap();
            for line in ["-P FORWARD DROP", "-A FORWARD -s 10.5.0.0/16 -j ACCEPT"] {
                weft_lab::run(Command::new("iptables").args(line.split(' '))).unwrap();
            }
            let found = host_chains().await;
            let of = |table: &str, name: &str| {
                let mut all = found.iter().filter(|c| c.table == table && c.name == name);
                let chain = all.next().unwrap();
                assert_eq!(all.next(), None, "{found:?}");
                (
                    chain.program.as_str(),
                    chain.hook.as_deref(),
                    chain.drops,
                    chain.rules.join("; "),
                )
            };
            let input = ("nft", Some("input"), true, "iif \"lo\" accept".to_owned());
            assert_eq!(of("inet host", "in"), input);
            let through = "udp dport 8472 drop".to_owned();
            assert_eq!(
                of("inet host", "through"),
                ("nft", Some("forward"), false, through)
            );
            assert_eq!(
                of("inet host", "more"),
                ("nft", None, false, "accept".to_owned())
            );
            let forward = "-A FORWARD -s 10.5.0.0/16 -j ACCEPT".to_owned();
            assert_eq!(
                of("filter", "FORWARD"),
                ("iptables", Some("forward"), true, forward)
            );
            assert!(
                !found.iter().any(|chain| chain.table.contains("ip")),
                "{found:?}"
            );
        });
    }

    #[test]
    fn a_long_set_is_one_rule() {
        let text = "table ip host {\n\tchain in {\n\t\ttype filter hook input priority 0; policy accept;\n\
            \t\tip saddr { 10.0.0.1,\n\t\t\t10.0.0.2 } accept\n\t\tdrop\n\t}\n}";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let rules = ["ip saddr { 10.0.0.1, 10.0.0.2 } accept", "drop"];
        assert_eq!(in_nft(&lines)[0].rules, rules);
    }
}
