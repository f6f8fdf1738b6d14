//! Packets that do not arrive, and connections that are counted.

use weft_lab::Namespace;

const CLIENTS: &str = "tcp dport 2379";

/// A namespace whose packets are kept from somewhere, until this is dropped.
pub(crate) struct Cut(Namespace);

impl Cut {
    /// No client there reaches a server of etcd, and its connections break at once.
    pub(crate) fn clients(ns: &Namespace) -> Cut {
        let answers = "tcp sport 2379 drop";
        let rules = [
            ("output", &*format!("{CLIENTS} reject with tcp reset")),
            ("input", answers),
        ];
        Cut::by(ns, &rules)
    }

    /// The member there reaches no other one, and none reaches it: packets vanish.
    pub(crate) fn member(ns: &Namespace) -> Cut {
        let rules = [
            ("output", "tcp dport 2380 drop; tcp sport 2380 drop"),
            ("input", "tcp dport 2380 drop; tcp sport 2380 drop"),
        ];
        Cut::by(ns, &rules)
    }

    fn by(ns: &Namespace, rules: &[(&str, &str)]) -> Cut {
        set_up(ns, "cut", rules);
        Cut(ns.clone())
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // Without a lab there is nothing to mend.
        let _ = self.0.run(&["nft", "delete", "table", "inet", "cut"]);
    }
}

/// Count the connections to etcd that are begun in a namespace from here on.
pub(crate) fn count_connections(ns: &Namespace) {
    let begun = format!("{CLIENTS} tcp flags & (syn | ack) == syn counter");
    set_up(ns, "count", &[("output", &begun)]);
}

/// How many there have been.
pub(crate) fn connections(ns: &Namespace) -> u64 {
    let text = ns.run(&["nft", "list", "table", "inet", "count"]).unwrap();
    let (_, rest) = text.split_once("counter packets ").unwrap();
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// A table with a chain for each of these hooks.
fn set_up(ns: &Namespace, table: &str, rules: &[(&str, &str)]) {
    let chain = |(hook, rules): &(&str, &str)| {
        format!("chain {hook} {{ type filter hook {hook} priority 0; {rules}; }}\n")
    };
    let chains: String = rules.iter().map(chain).collect();
    ns.run(&["nft", &format!("table inet {table} {{\n{chains}}}\n")])
        .unwrap();
}
