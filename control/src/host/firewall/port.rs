//! Looking for rules of others on a UDP port: what passes the host's stack by is not seen by them.

use super::iptables::other_variants;
use super::process::run;
use super::programs::Programs;

/// Rules for IPv4 of both flavours that name this UDP port, but for those on what is forwarded or
/// translated. What cannot be listed has none.
pub async fn rules_on_port(port: u16) -> Vec<String> {
    rules_by(&Programs::default(), port).await
}

pub(super) async fn rules_by(programs: &Programs, port: u16) -> Vec<String> {
    let (mut found, mut tables) = (Vec::new(), Vec::new());
    let of_ipv4 = |program: &&String| !program.starts_with("ip6");
    let programs_v4: Vec<String> = programs.leftovers.iter().filter(of_ipv4).cloned().collect();
    for program in other_variants([], &programs_v4).await {
        let keep = |line: &str| line.starts_with('*') || names_in_iptables(line, port);
        // Without a table's name no table is created by looking at it.
        let lines = run(&format!("{program}-save"), &[], "", keep).await;
        let lines = lines.unwrap_or_default();
        tables.extend(
            lines
                .iter()
                .filter_map(|line| line.strip_prefix('*').map(str::to_owned)),
        );
        found.extend(in_iptables(&lines).map(|rule| format!("`{rule}` ({program})")));
    }
    let keep = |line: &str| is_nft_heading(line) || names_in_nft(line, port);
    let lines = run(&programs.nft, &["list", "ruleset"], "", keep).await;
    // Those of iptables-nft have been found.
    let rules = in_nft(&lines.unwrap_or_default(), port, &tables);
    found.extend(rules.into_iter().map(|rule| format!("`{rule}` (nft)")));
    found
}

/// The rules of `iptables-save`, but for those that outer packets pass in no case.
fn in_iptables(lines: &[String]) -> impl Iterator<Item = &str> {
    let mut table = "";
    lines.iter().filter_map(move |line| {
        if line.starts_with('*') {
            table = line;
            return None;
        }
        (table != "*nat" && !line.starts_with("-A FORWARD ")).then_some(line.as_str())
    })
}

fn names_in_iptables(line: &str, port: u16) -> bool {
    let mut words = line.split(' ');
    let mut named = false;
    while let Some(word) = words.next() {
        if matches!(
            word,
            "--dport" | "--sport" | "--dports" | "--sports" | "--ports"
        ) {
            let mut ports = words.next().unwrap_or_default().split(',');
            named |= ports.any(|ports| holds(ports, ':', port));
        }
    }
    named && line.starts_with("-A ") && line.contains("-p udp ")
}

/// The rules of `nft list ruleset`, but for those in chains of the kind above and in the `known`
/// tables of iptables.
fn in_nft(lines: &[String], port: u16, known: &[String]) -> Vec<String> {
    let (mut other, mut skips, mut found) = (false, false, Vec::new());
    for line in lines.iter().map(|line| line.trim()) {
        if let Some(table) = line.strip_prefix("table ") {
            let table = table.trim_end_matches('{').trim();
            let of_iptables = table.strip_prefix("ip ");
            let is_known = of_iptables.is_some_and(|name| known.iter().any(|known| known == name));
            other = table.starts_with("ip6 ") || is_known;
        } else if line.starts_with("chain ") {
            skips = other;
        } else if line.starts_with("type ") {
            skips |= line.contains(" hook forward ") || line.starts_with("type nat ");
        } else if !skips && names_in_nft(line, port) {
            found.push(line.to_owned());
        }
    }
    found
}

fn is_nft_heading(line: &str) -> bool {
    let line = line.trim_start();
    ["table ", "chain ", "type "]
        .iter()
        .any(|word| line.starts_with(word))
}

fn names_in_nft(line: &str, port: u16) -> bool {
    let mut words = line.split_whitespace();
    let is_udp = words.any(|word| word == "udp" || word == "th");
    is_udp && words.any(|word| holds(word.trim_matches([',', '{', '}']), '-', port))
}

/// Whether a port, or a range of them, has this one.
pub(super) fn holds(ports: &str, to: char, port: u16) -> bool {
    let (first, last) = ports.split_once(to).unwrap_or((ports, ports));
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&port),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use std::process::Command;

    #[test]
    fn rules_that_name_the_port_are_found_in_both_flavours() {
        netns::run(async |_| {
            assert_eq!(rules_on_port(8472).await, [""; 0]);
            let nft = "table inet host {
                chain inwards { type filter hook input priority 0; udp dport { 53, 8000-9000 } drop; }
                chain forwarded { type filter hook forward priority 0; udp dport 8472 drop; }
                chain other { tcp dport 8472 drop; udp dport 8473 drop; }
            }";
            weft_lab::run(Command::new("nft").arg(nft)).unwrap();
            let found = rules_on_port(8472).await;
            assert_eq!(found, ["`udp dport { 53, 8000-9000 } drop` (nft)"]);
            for line in [
                "-A FORWARD -p udp --dport 8472 -j DROP",
                "-A INPUT -p tcp --dport 8472 -j DROP",
                "-A INPUT -p udp --dport 8473 -j DROP",
            ] {
                weft_lab::run(Command::new("iptables").args(line.split(' '))).unwrap();
            }
            assert_eq!(rules_on_port(8472).await, found);
            let line = "-t raw -A PREROUTING -p udp -m multiport --dports 1,8470:8480 -j DROP";
            weft_lab::run(Command::new("iptables").args(line.split(' '))).unwrap();
            let all = rules_on_port(8472).await;
            assert_eq!(all.len(), 2, "{all:?}");
            assert!(all[0].contains("-A PREROUTING") && all[0].contains("(iptables"));
            assert_eq!(all[1..], found);
        });
    }

    #[test]
    fn a_number_is_a_port_only_where_ports_are() {
        for (line, named) in [
            ("-A INPUT -p udp -m udp --dport 8472 -j ACCEPT", true),
            ("-A ufw-user -p udp -m udp --sport 1:65535 -j ACCEPT", true),
            ("-A INPUT -p udp -m udp --dport 84720 -j ACCEPT", false),
            ("-A INPUT -p udp -m mark --mark 8472 -j ACCEPT", false),
            ("-A INPUT -p tcp -m tcp --dport 8472 -j ACCEPT", false),
        ] {
            assert_eq!(names_in_iptables(line, 8472), named, "{line}");
        }
        for (line, named) in [
            ("udp dport 8472 accept", true),
            (
                "iif \"eth0\" meta l4proto { udp } th dport 8000-9000 drop",
                true,
            ),
            ("tcp dport 8472 accept", false),
            ("udp dport 53 accept", false),
            ("8472 udp", false),
        ] {
            assert_eq!(names_in_nft(line, 8472), named, "{line}");
        }
    }
}
