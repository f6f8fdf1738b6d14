//! Each check on made-up facts: well, and broken in each way that it knows.

mod agent;
mod containers;
mod device;
mod facts;
mod firewall;
mod host;
mod kernel;
mod peers;
mod traffic;

use super::*;
use crate::doctor::finding::Remedy;
use facts::{Case, Failure, Fine, Unknown, healthy, set, tunnel};
use std::collections::BTreeSet;

/// All that is broken, by topic.
fn cases() -> impl Iterator<Item = &'static Case> {
    let topics = [
        agent::CASES,
        containers::CASES,
        device::CASES,
        firewall::CASES,
        host::CASES,
        kernel::CASES,
        peers::CASES,
        traffic::CASES,
    ];
    topics.into_iter().flatten()
}

fn look(facts: &Facts, id: &str) -> Finding {
    let all = examine(facts);
    all.into_iter().find(|finding| finding.id == id).unwrap()
}

#[test]
fn a_healthy_node_passes_every_check() {
    for finding in examine(&healthy()) {
        assert_eq!(finding.verdict, Fine, "{finding:?}");
        assert!(
            !finding.why.is_empty() && finding.remedies.is_empty(),
            "{finding:?}"
        );
    }
}

#[test]
fn each_fault_is_found_and_has_its_remedy() {
    for (id, change, verdict, why, remedy) in cases() {
        let mut facts = healthy();
        change(&mut facts);
        let found = look(&facts, id);
        assert_eq!(found.verdict, *verdict, "{found:?}");
        assert!(found.why.contains(why), "{found:?} has not {why:?}");
        assert!(!found.why.contains('\n'), "{found:?}");
        let remedies: Vec<&str> = found.remedies.iter().map(text).collect();
        let has = remedies.iter().any(|text| text.contains(remedy));
        assert!(
            has || remedy.is_empty() && remedies.is_empty(),
            "{found:?} has not {remedy:?}"
        );
    }
}

fn text(remedy: &Remedy) -> &str {
    match remedy {
        Remedy::Run(text) | Remedy::Do(text) => text,
    }
}

#[test]
fn what_harms_others_is_no_command() {
    let harmful = ["link delete", "io_uring_disabled", "rm -r", "dport"];
    for (id, change, ..) in cases() {
        let mut facts = healthy();
        change(&mut facts);
        for remedy in look(&facts, id).remedies {
            let Remedy::Run(command) = remedy else {
                continue;
            };
            // What takes away a rule names that one alone.
            let harms = |words: &&str| command.contains(words) && !command.contains(" -D ");
            assert_eq!(harmful.into_iter().find(harms), None, "{id}: {command}");
        }
    }
}

#[test]
fn every_check_can_find_something_and_has_a_name_of_its_own() {
    let can: BTreeSet<&str> = cases()
        .filter(|(_, _, verdict, ..)| *verdict > Unknown)
        .map(|(id, ..)| *id)
        .collect();
    let ids: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(can, ids);
    assert_eq!(ids.len(), CHECKS.len());
}

#[test]
fn a_host_without_an_agent_is_judged_by_what_can_be_seen() {
    let mut facts = healthy();
    facts.agent = Err("no agent answers in /run/weft".to_owned());
    (facts.peers, facts.leases) = (Vec::new(), Vec::new());
    set(&mut facts, "net/ipv4/ip_forward", "0");
    for (id, verdict) in [
        ("agent", Failure),
        ("store", Unknown),
        ("reach", Unknown),
        ("tun", Fine),
        ("forwarding", Failure),
    ] {
        assert_eq!(look(&facts, id).verdict, verdict, "{id}");
    }
}

#[test]
fn faults_of_one_check_are_told_together_and_the_worst_counts() {
    let mut facts = healthy();
    tunnel(&mut facts).remakes = 1;
    facts.host.links[1].up = false;
    let found = look(&facts, "device");
    assert_eq!(found.verdict, Failure);
    assert!(
        found.why.contains("is down; ") && found.why.contains("anew"),
        "{found:?}"
    );
    assert_eq!(found.remedies.len(), 2);
}
