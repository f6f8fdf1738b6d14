//! A chain as it should be, and as a listing shows it.

use super::rules::Rule;
use std::fmt;

/// A chain of ours, spelt as the tool lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    /// How packets get here, if the kernel does not send them by itself.
    pub(super) jump: Option<Jump>,
    /// Rules that do not name our networks, so that a second daemon's are the same: one copy
    /// before our own rules serves both, and nobody takes it away.
    pub(super) shared: Vec<String>,
    /// Our own rules; no two are alike.
    pub(super) rules: Vec<String>,
}

/// The rule in a chain of the kernel's that leads to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) from: &'static str,
    pub(super) rule: String,
}

/// What a listing holds of a chain and of the way to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) exists: bool,
    pub(super) rules: Vec<ListedRule>,
    /// All rules of the jump's chain that lead to ours.
    pub(super) jumps: Vec<String>,
}

/// A listed rule, and its handle if the tool gives one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ListedRule {
    pub(super) text: String,
    pub(super) handle: u64,
}

/// What is wrong with a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    NoChain(&'static str),
    Jumps {
        from: &'static str,
        to: &'static str,
        count: usize,
    },
    Rule {
        text: String,
        count: usize,
    },
    Order(&'static str),
}

impl Chain {
    pub(super) fn new(
        name: &'static str,
        jump: Option<Jump>,
        rules: &[Rule],
        spell: impl Fn(&Rule) -> String,
    ) -> Chain {
        let (shared, own): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| rule.is_shared());
        let mut rules: Vec<String> = Vec::new();
        for text in own.into_iter().map(&spell) {
            if !rules.contains(&text) {
                rules.push(text);
            }
        }
        Chain {
            name,
            jump,
            shared: shared.into_iter().map(spell).collect(),
            rules,
        }
    }

    /// The first thing that is wrong, if any.
    ///
    /// Rules of others in our chain are no fault: a second daemon on this host, for another
    /// network, uses the same chain.
    pub(super) fn fault(&self, listed: &Listed) -> Option<Fault> {
        if !listed.exists {
            return Some(Fault::NoChain(self.name));
        }
        if let Some(jump) = &self.jump
            && !self.jumps_once(listed)
        {
            return Some(Fault::Jumps {
                from: jump.from,
                to: self.name,
                count: listed.jumps.len(),
            });
        }
        let own: Vec<&String> = self.own(listed).map(|rule| &rule.text).collect();
        let count = |text: &String| own.iter().filter(|own| **own == text).count();
        let mut rules = self.rules.iter();
        if let Some(text) = rules.find(|text| count(text) != 1) {
            return Some(Fault::Rule {
                text: text.clone(),
                count: count(text),
            });
        }
        let place = |text: &String| listed.rules.iter().position(|rule| rule.text == *text);
        if let Some(text) = self.shared.iter().find(|text| place(text).is_none()) {
            return Some(Fault::Rule {
                text: text.clone(),
                count: 0,
            });
        }
        let first = own.first().and_then(|text| place(text));
        let guarded = self.shared.iter().all(|text| place(text) < first);
        let in_order = own.into_iter().eq(&self.rules);
        (!guarded || !in_order).then_some(Fault::Order(self.name))
    }

    /// The rules to append when our own have been deleted, or (`fresh`) all rules.
    pub(super) fn to_append(&self, listed: &Listed, fresh: bool) -> impl Iterator<Item = &String> {
        let there = |text: &String| listed.rules.iter().any(|rule| rule.text == *text);
        let shared = self.shared.iter();
        let missing = shared.filter(move |text| fresh || !there(text));
        missing.chain(&self.rules)
    }

    /// Whether the way to the chain is as it should be.
    pub(super) fn jumps_once(&self, listed: &Listed) -> bool {
        match &self.jump {
            Some(jump) => listed.jumps == [jump.rule.as_str()],
            None => true,
        }
    }

    /// The listed rules that are ours, in the order in which they are listed.
    pub(super) fn own<'a>(&'a self, listed: &'a Listed) -> impl Iterator<Item = &'a ListedRule> {
        let rules = listed.rules.iter();
        rules.filter(|rule| self.rules.contains(&rule.text))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NoChain(name) => write!(f, "chain {name} is missing"),
            Fault::Jumps { from, to, count: 0 } => {
                write!(f, "the jump from {from} to {to} is missing")
            }
            Fault::Jumps { from, to, count: 1 } => {
                write!(f, "the jump from {from} to {to} is another")
            }
            Fault::Jumps { from, to, count } => {
                write!(f, "the jump from {from} to {to} is there {count} times")
            }
            Fault::Rule { text, count: 0 } => write!(f, "rule \"{text}\" is missing"),
            Fault::Rule { text, count } => write!(f, "rule \"{text}\" is there {count} times"),
            Fault::Order(name) => write!(f, "the rules of {name} are out of order"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain {
            name: "OURS",
            jump: Some(Jump {
                from: "FORWARD",
                rule: "-j OURS".into(),
            }),
            shared: vec!["mark".into()],
            rules: vec!["a".into(), "b".into()],
        }
    }

    fn fault(rules: &[&str], jumps: &[&str]) -> Option<String> {
        let listed = Listed {
            exists: true,
            rules: (rules.iter().map(|text| ListedRule {
                text: (*text).to_owned(),
                handle: 0,
            }))
            .collect(),
            jumps: jumps.iter().map(|jump| (*jump).to_owned()).collect(),
        };
        chain().fault(&listed).map(|fault| fault.to_string())
    }

    #[test]
    fn u22_presence_order_and_duplicates() {
        let jump = ["-j OURS"];
        assert_eq!(fault(&["mark", "a", "b"], &jump), None);
        let others = ["x", "mark", "a", "y", "b", "mark", "z"];
        assert_eq!(fault(&others, &jump), None, "another's");
        let says = |rules: &[&str], jumps: &[&str]| fault(rules, jumps).unwrap();
        assert_eq!(says(&["mark", "a"], &jump), "rule \"b\" is missing");
        assert_eq!(says(&["a", "b"], &jump), "rule \"mark\" is missing");
        assert_eq!(
            says(&["mark", "a", "b", "a"], &jump),
            "rule \"a\" is there 2 times"
        );
        for rules in [["mark", "b", "a"], ["a", "mark", "b"], ["a", "b", "mark"]] {
            let order = "the rules of OURS are out of order";
            assert_eq!(says(&rules, &jump), order, "{rules:?}");
        }
        let whole = ["mark", "a", "b"];
        let way = "the jump from FORWARD to OURS is";
        assert_eq!(says(&whole, &[]), format!("{way} missing"));
        let twice = ["-j OURS", "-j OURS"];
        assert_eq!(says(&whole, &twice), format!("{way} there 2 times"));
        let narrowed = ["-i eth0 -j OURS"];
        assert_eq!(says(&whole, &narrowed), format!("{way} another"));
        let missing = chain().fault(&Listed::default()).unwrap();
        assert_eq!(missing.to_string(), "chain OURS is missing");
    }
}
