//! Reading a rule: whether it is about some packets, and what it does with them.

use super::packets::PacketKind;
use ipnet::IpNet;
use std::net::IpAddr;

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RuleVerdict {
    Accept,
    Drop,
    Return,
    Chain { name: String, goto: bool },
    Nothing,
}

/// A rule, as some packets meet it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JudgedRule {
    /// Whether it is about them; `None`: some condition is not known here.
    pub(super) fits: Option<bool>,
    /// Whether it names their port or network.
    pub(super) named: bool,
    pub(super) verdict: RuleVerdict,
}

impl JudgedRule {
    /// A rule as `iptables-save` or `nft list ruleset` shows it.
    pub(super) fn read(text: &str, packets: &PacketKind) -> JudgedRule {
        let mut rule = JudgedRule {
            fits: Some(true),
            named: false,
            verdict: RuleVerdict::Nothing,
        };
        let words = words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.first() {
            Some(&"-A") => rule.iptables(&words, packets),
            _ => rule.nft(&words, packets),
        }
        rule
    }

    /// A condition holds, or not, or is not known; with `not` in front of it.
    fn and(&mut self, holds: Option<bool>, not: bool) {
        let holds = holds.map(|holds| holds != not);
        self.fits = match (self.fits, holds) {
            (Some(false), _) | (_, Some(false)) => Some(false),
            (Some(true), Some(true)) => Some(true),
            _ => None,
        };
    }

    /// A condition that names the packets, if it holds.
    fn and_named(&mut self, holds: Option<bool>, not: bool) {
        self.named |= holds == Some(true) && !not;
        self.and(holds, not);
    }

    fn address(&mut self, of: &[IpNet], values: &[&str], named: bool, not: bool) {
        let holds = within(of, values);
        match named {
            true => self.and_named(holds, not),
            false => self.and(holds, not),
        }
    }

    fn iptables(&mut self, words: &[&str], packets: &PacketKind) {
        let by_net = packets.port.is_none();
        let (mut at, mut not) = (2, false);
        while let Some(&word) = words.get(at) {
            let value = words.get(at + 1).copied().unwrap_or_default();
            let values: Vec<&str> = value.split(',').collect();
            at += 2;
            match word {
                "!" => {
                    (at, not) = (at - 1, true);
                    continue;
                }
                "-p" => self.and(protocol(packets, &values), not),
                "--dport" | "--dports" | "--ports" => {
                    self.and_named(packets.has_port(&values), not)
                }
                "-s" => self.address(&packets.from, &values, by_net, not),
                "-d" => self.address(&packets.to, &values, by_net, not),
                "-i" => self.and(device(packets, &values), not),
                "--ctstate" | "--state" => self.and(Some(values.contains(&"NEW")), not),
                "--dst-type" => self.and(packets.port.map(|_| value == "LOCAL"), not),
                "-m" | "--comment" => {}
                "-f" => {
                    at -= 1;
                    self.and(Some(false), not);
                }
                "-j" | "-g" => {
                    self.verdict = match value {
                        "ACCEPT" => RuleVerdict::Accept,
                        "DROP" | "REJECT" => RuleVerdict::Drop,
                        "RETURN" => RuleVerdict::Return,
                        name => RuleVerdict::Chain {
                            name: name.to_owned(),
                            goto: word == "-g",
                        },
                    };
                    return;
                }
                _ => {
                    at -= 1;
                    self.and(None, false);
                }
            }
            not = false;
        }
    }

    fn nft(&mut self, words: &[&str], packets: &PacketKind) {
        // What a map decides is not looked at.
        if words.contains(&"vmap") {
            return self.and(None, false);
        }
        let by_net = packets.port.is_none();
        let mut rest = words;
        while let [word, tail @ ..] = rest {
            rest = tail;
            match *word {
                "accept" => self.verdict = RuleVerdict::Accept,
                "drop" | "reject" => self.verdict = RuleVerdict::Drop,
                "return" => self.verdict = RuleVerdict::Return,
                "jump" | "goto" => {
                    self.verdict = RuleVerdict::Chain {
                        name: tail.first().copied().unwrap_or_default().to_owned(),
                        goto: *word == "goto",
                    }
                }
                "counter" if tail.first() == Some(&"packets") => {
                    rest = tail.get(4..).unwrap_or_default();
                    continue;
                }
                "log" => {
                    let decides = ["accept", "drop", "reject", "return", "jump", "goto"];
                    let end = tail.iter().position(|word| decides.contains(word));
                    rest = &tail[end.unwrap_or(tail.len())..];
                    continue;
                }
                "counter" | "meta" | "comment" => {
                    let skipped = usize::from(*word == "comment");
                    rest = tail.get(skipped..).unwrap_or_default();
                    continue;
                }
                "ip" | "udp" | "th" | "ct" => {
                    let key = tail.first().copied().unwrap_or_default();
                    let (not, values, after) = operand(tail.get(1..).unwrap_or_default());
                    rest = after;
                    match (*word, key) {
                        ("ip", "saddr") => self.address(&packets.from, &values, by_net, not),
                        ("ip", "daddr") => self.address(&packets.to, &values, by_net, not),
                        ("ip", "protocol") => self.and(protocol(packets, &values), not),
                        (_, "dport") => self.and_named(packets.has_port(&values), not),
                        ("ct", "state") => self.and(Some(values.contains(&"new")), not),
                        _ => self.and(None, not),
                    }
                    continue;
                }
                "l4proto" | "nfproto" | "iif" | "iifname" => {
                    let (not, values, after) = operand(tail);
                    rest = after;
                    let holds = match *word {
                        "l4proto" => protocol(packets, &values),
                        "nfproto" => Some(values.contains(&"ipv4")),
                        _ => device(packets, &values),
                    };
                    self.and(holds, not);
                    continue;
                }
                "ip6" | "icmpv6" => self.and(Some(false), false),
                "tcp" | "icmp" | "sctp" | "esp" | "igmp" => {
                    self.and(packets.port.map(|_| false), false)
                }
                "#" => return,
                _ => {
                    self.and(None, false);
                    continue;
                }
            }
            if self.verdict != RuleVerdict::Nothing {
                return;
            }
        }
    }
}

/// Words, without quotes around them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut quoted) = (Vec::new(), false);
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(chars.next()),
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// What stands behind a key of nft: whether it is negated, the values, and what follows.
fn operand<'a, 'b>(words: &'b [&'a str]) -> (bool, Vec<&'a str>, &'b [&'a str]) {
    let not = words.first() == Some(&"!=");
    let words = &words[usize::from(not)..];
    let end = match words.first() {
        Some(&"{") => words.iter().position(|word| *word == "}").unwrap_or(0) + 1,
        _ => 1.min(words.len()),
    };
    let values = words[..end].iter().flat_map(|word| word.split(','));
    let values = values.filter(|word| !matches!(*word, "" | "{" | "}"));
    (not, values.collect(), &words[end..])
}

fn protocol(packets: &PacketKind, values: &[&str]) -> Option<bool> {
    packets.port?;
    Some(
        values
            .iter()
            .any(|value| matches!(*value, "udp" | "all" | "17")),
    )
}

fn device(packets: &PacketKind, values: &[&str]) -> Option<bool> {
    let device = packets.device.as_deref()?;
    Some(
        values
            .iter()
            .any(|value| match value.strip_suffix(['+', '*']) {
                Some(start) => device.starts_with(start),
                None => device == *value,
            }),
    )
}

/// Whether any of these addresses is one of the values.
fn within(of: &[IpNet], values: &[&str]) -> Option<bool> {
    let value = |text: &&str| {
        let net = text.parse::<IpNet>();
        net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .ok()
    };
    let nets: Vec<IpNet> = values.iter().map(value).collect::<Option<_>>()?;
    let any = |holds: fn(&IpNet, &IpNet) -> bool| {
        nets.iter().any(|net| of.iter().any(|own| holds(net, own)))
    };
    if any(|net, own| net.contains(own)) {
        return Some(true);
    }
    // A part of them, or nobody knows.
    match of.is_empty() || any(|net, own| own.contains(net)) {
        true => None,
        false => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_about_the_port_only_where_its_conditions_hold() {
        let packets = PacketKind {
            port: Some(8472),
            from: vec!["10.0.0.2/32".parse().unwrap()],
            to: vec!["10.0.0.1/32".parse().unwrap()],
            device: Some("eth0".to_owned()),
        };
        for (text, fits, named) in [
            (
                "-A INPUT -p udp -m udp --dport 8472 -j ACCEPT",
                Some(true),
                true,
            ),
            (
                "-A INPUT -p udp -m multiport --dports 1,8470:8480 -j DROP",
                Some(true),
                true,
            ),
            ("-A INPUT -p udp -m udp --sport 8472 -j ACCEPT", None, false),
            (
                "-A INPUT -p udp -m udp ! --dport 8472 -j DROP",
                Some(false),
                false,
            ),
            (
                "-A INPUT -p tcp -m tcp --dport 8472 -j ACCEPT",
                Some(false),
                true,
            ),
            ("-A INPUT -s 10.0.0.0/24 -j ACCEPT", Some(true), false),
            (
                "-A INPUT -s 10.9.0.0/24 -p udp -m udp --dport 8472 -j ACCEPT",
                Some(false),
                true,
            ),
            ("-A INPUT -i lo -j ACCEPT", Some(false), false),
            (
                "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                Some(false),
                false,
            ),
            (
                "-A INPUT -m comment --comment \"-p tcp\" -j DROP",
                Some(true),
                false,
            ),
            (
                "-A INPUT -m set --match-set nodes src -j ACCEPT",
                None,
                false,
            ),
            (
                "udp dport { 53, 8000-9000 } counter packets 1 bytes 2 drop",
                Some(true),
                true,
            ),
            ("iifname \"lo\" accept", Some(false), false),
            ("ct state established,related accept", Some(false), false),
            (
                "ct state { established, related } accept",
                Some(false),
                false,
            ),
            (
                "ip saddr 10.0.0.0/24 udp dport 8472 accept",
                Some(true),
                true,
            ),
            (
                "meta l4proto { icmp, ipv6-icmp } accept",
                Some(false),
                false,
            ),
            ("ct state vmap { established : accept }", None, false),
            ("log prefix \"drop: \" level info drop", Some(true), false),
            ("udp sport 8472 accept", None, false),
            ("reject with icmpx admin-prohibited", Some(true), false),
            ("tcp dport 22 accept", Some(false), false),
        ] {
            let rule = JudgedRule::read(text, &packets);
            assert_eq!((rule.fits, rule.named), (fits, named), "{text}");
        }
        for (text, verdict) in [
            (
                "-A INPUT -j REJECT --reject-with icmp-host-prohibited",
                RuleVerdict::Drop,
            ),
            (
                "udp dport 8472 accept comment \"drop\"",
                RuleVerdict::Accept,
            ),
            ("-A X -j RETURN", RuleVerdict::Return),
        ] {
            assert_eq!(JudgedRule::read(text, &packets).verdict, verdict, "{text}");
        }
    }
}
