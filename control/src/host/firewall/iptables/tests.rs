use super::super::Flavour;
use super::*;
use crate::lease::NodeNetwork;
use std::slice;

fn own(network: &str, subnet: &str) -> NodeNetwork {
    NodeNetwork {
        network: network.parse().unwrap(),
        subnet: subnet.parse().unwrap(),
    }
}

fn masquerade(own: &NodeNetwork, random_fully: bool) -> Chain {
    masquerade_chain(&rules::masquerade(own, Flavour::Iptables, random_fully))
}

fn v4() -> Chain {
    masquerade(&own("10.42.0.0/16", "10.42.1.0/24"), true)
}

/// The lines that `iptables-save` prints of a chain that is right.
fn saved(chain: &Chain) -> Vec<String> {
    let jump = chain.jump.as_ref().unwrap();
    let mut lines = vec![
        format!(":{} ACCEPT [12:700]", jump.from),
        format!(":{} - [0:0]", chain.name),
        format!("-A {} {}", jump.from, jump.rule),
    ];
    let rules = chain.shared.iter().chain(&chain.rules);
    lines.extend(rules.map(|rule| format!("-A {} {rule}", chain.name)));
    lines
}

fn script(table: &'static str, chain: &Chain, listed: &Listed, fresh: bool) -> String {
    let table = IptablesTable {
        program: "iptables".into(),
        name: table,
        waits: true,
        by_chain: false,
    };
    table.script(slice::from_ref(chain), slice::from_ref(listed), fresh)
}

#[test]
fn u22_a_new_chain_is_declared_and_filled_in_one_payload() {
    let script = script("nat", &v4(), &Listed::default(), true);
    assert_eq!(
        script,
        "*nat\n\
         :FLANNEL-POSTRTG - [0:0]\n\
         -A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
         -A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.42.1.0/24 -d 10.42.0.0/16 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.42.0.0/16 -d 10.42.1.0/24 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.1.0/24 -m comment --comment \"flanneld masq\" -j RETURN\n\
         -A FLANNEL-POSTRTG -s 10.42.0.0/16 ! -d 224.0.0.0/4 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully\n\
         -A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.0.0/16 -m comment --comment \"flanneld masq\" -j MASQUERADE --random-fully\n\
         COMMIT\n"
    );
}

#[test]
fn u22_a_written_chain_has_no_fault() {
    let chain = v4();
    let listed = parse(&saved(&chain), &chain);
    assert_eq!(listed.jumps.len() + listed.rules.len(), 7);
    assert_eq!(chain.fault(&listed), None);
}

#[test]
fn u22_writing_again_pairs_each_deletion_with_an_addition() {
    let chain = v4();
    let listed = parse(&saved(&chain), &chain);
    let commands = |fresh| {
        let script = script("nat", &chain, &listed, fresh);
        let with = |option: &str| {
            let lines = script.lines().filter_map(|line| line.strip_prefix(option));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        (with("-D "), with("-A "), with(":"))
    };
    // The jump is right and keeps its place.
    let (deleted, added, emptied) = commands(false);
    assert_eq!(deleted, added);
    assert_eq!((deleted.len(), emptied.len()), (5, 0), "the mark's stays");
    // At a start the jump goes to the end and the rest by emptying the chain.
    let (deleted, added, emptied) = commands(true);
    let jump = "POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG";
    assert_eq!(deleted, [jump]);
    assert_eq!(added.len(), 7);
    assert_eq!(emptied, ["FLANNEL-POSTRTG - [0:0]"]);
}

#[test]
fn u22_ipv6_and_plain_masquerade() {
    let chain = masquerade(&own("fd00:10:244::/56", "fd00:10:244:1::/64"), false);
    let rules = [
        "-s fd00:10:244:1::/64 -d fd00:10:244::/56 -m comment --comment \"flanneld masq\" -j RETURN",
        "-s fd00:10:244::/56 -d fd00:10:244:1::/64 -m comment --comment \"flanneld masq\" -j RETURN",
        "! -s fd00:10:244::/56 -d fd00:10:244:1::/64 -m comment --comment \"flanneld masq\" -j RETURN",
        "-s fd00:10:244::/56 ! -d ff00::/8 -m comment --comment \"flanneld masq\" -j MASQUERADE",
        "! -s fd00:10:244::/56 -d fd00:10:244::/56 -m comment --comment \"flanneld masq\" -j MASQUERADE",
    ];
    let mark = "-m mark --mark 0x4000/0x4000 -m comment --comment \"flanneld masq\" -j RETURN";
    assert_eq!(chain.shared, [mark]);
    assert_eq!(chain.rules, rules);
}

#[test]
fn rules_and_chains_of_others_are_not_read() {
    let chain = forward_chain("10.42.0.0/16".parse().unwrap());
    let mut lines = saved(&chain);
    lines.extend(
        [
            ":FLANNEL-FWD2 - [0:0]",
            "-A FORWARD -m comment --comment \"to FLANNEL-FWD\" -j ACCEPT",
            "-A FORWARD -j FLANNEL-FWD2",
            "-A DOCKER-USER -j FLANNEL-FWD",
            "-A FLANNEL-FWD -s 10.43.0.0/16 -j ACCEPT",
        ]
        .map(String::from),
    );
    let listed = parse(&lines, &chain);
    assert_eq!(listed.jumps.len(), 1);
    assert_eq!(listed.rules.len(), 3, "two of ours, one of another daemon");
    assert_eq!(chain.fault(&listed), None);
    let script = script("filter", &chain, &listed, false);
    assert!(!script.contains("10.43.0.0"), "{script}");
}

#[test]
fn super_packets_pass_by_a_chain_of_their_own() {
    let chain = tap_chain("weft.7");
    assert_eq!(
        saved(&chain)[1..],
        [
            ":WEFT-FWD - [0:0]",
            "-A FORWARD -m comment --comment \"weft super-packets\" -j WEFT-FWD",
            "-A WEFT-FWD -i weft.7 -m comment --comment \"weft super-packets\" -j ACCEPT",
        ]
    );
    assert_eq!(chain.fault(&parse(&saved(&chain), &chain)), None);
}

#[test]
fn versions() {
    let modern = |text: &str| Version::parse(text).modern;
    assert!(modern("iptables v1.8.9 (nf_tables)"));
    assert!(modern("ip6tables v1.8.10 (legacy)"));
    assert!(modern("iptables v1.6.2"));
    assert!(modern("iptables v2.0"));
    assert!(!modern("iptables v1.6.1"));
    assert!(!modern("iptables v1.4.21"));
    assert!(!modern("something else"));
}

#[test]
fn removal_spares_what_others_use() {
    let lines = [
        "*nat",
        ":FLANNEL-POSTRTG - [0:0]",
        ":FLANNEL-FWD - [0:0]",
        "-A POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG",
        "*mangle",
        "*filter",
        ":FLANNEL-FWD - [0:0]",
        "-A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD",
        "-A DOCKER-USER -j FLANNEL-FWD",
    ];
    assert_eq!(
        removal(&lines.map(String::from), &CHAINS),
        "*nat\n\
         :FLANNEL-POSTRTG - [0:0]\n\
         -D POSTROUTING -m comment --comment \"flanneld masq\" -j FLANNEL-POSTRTG\n\
         -X FLANNEL-POSTRTG\n\
         :FLANNEL-FWD - [0:0]\n\
         -X FLANNEL-FWD\n\
         COMMIT\n\
         *filter\n\
         :FLANNEL-FWD - [0:0]\n\
         -D FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD\n\
         COMMIT\n"
    );
    assert_eq!(removal(&["*nat", "*filter"].map(String::from), &CHAINS), "");
}
