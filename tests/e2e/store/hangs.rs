//! Members that hang, lead anew and are all away.

use super::cut::{Cut, connections, count_connections};
use super::{await_known, delete, knows, lease, put_by, put_ghost};
use crate::members::Members;
use crate::probe::Probe;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use weft_lab::skips_test;

/// Longer than a client takes to notice that its server is silent: 10 s, and 5 s for an answer to the
/// question whether it is there.
const HANG: Duration = Duration::from_secs(16);

/// Long enough for the pauses between tries to reach their longest. What comes after that is
/// the same for ever; leases that end meanwhile are another matter, as etcd prolongs them.
const ABSENCE: Duration = Duration::from_secs(8);

/// Requests that only agents make.
const REQUESTS: [&str; 4] = ["Watch", "LeaseGrant", "Txn", "LeaseTimeToLive"];

/// Those that the members have taken from agents since they started.
fn requests(members: &Members) -> u64 {
    let all = members.etcd.requests();
    let counts = REQUESTS.iter().filter_map(|&name| all.get(name));
    counts.sum()
}

#[test]
fn a_member_that_hangs_history_that_goes_and_new_leaders_cost_nothing() {
    if skips_test() {
        return;
    }
    let members = Members::filled();
    let leases = [1, 2, 3].map(|number| lease(&members, number));
    let probe = Probe::start(members.pod(1), members.pod(2));
    let before = requests(&members);

    let hangs = Instant::now();
    let hung = members.etcd.leader();
    members.etcd.signal(hung, Signal::STOP);
    let cut = Cut::clients(&members.lab.node(2).ns);
    for subnet in ["10.244.201.0-24", "10.244.202.0-24"] {
        put_by(&members, &[(hung + 1) % 3, (hung + 2) % 3], subnet);
    }
    let hang = await_known(&members, &[1, 3], "10.244.202.0-24");
    std::thread::sleep(HANG.saturating_sub(hangs.elapsed()));
    members.etcd.signal(hung, Signal::CONT);
    members.etcd.await_health();

    // What node 2 saw last is compacted when it comes back.
    delete(&members, "10.244.201.0-24");
    members.etcd.compact();
    assert!(!knows(&members, 2, "10.244.202.0-24"));
    drop(cut);
    let late = await_known(&members, &[2], "10.244.202.0-24");
    assert!(!knows(&members, 2, "10.244.201.0-24"));
    assert!(members.log(2).contains("etcd has compacted its history"));

    for _ in 0..3 {
        let next = (members.etcd.leader() + 1) % 3;
        members.etcd.move_leader(next);
    }
    put_ghost(&members, "10.244.203.0-24");
    let led = await_known(&members, &[1, 2, 3], "10.244.203.0-24");

    let asked = requests(&members) - before;
    eprintln!("news: {hang:?} in a hang, {late:?} after a cut, {led:?} after leaders");
    eprintln!("{asked} requests of three agents in {:?}", hangs.elapsed());
    // Each agent has two watches, and begins each anew after a failure, later each time.
    assert!(asked < 3 * 2 * 12, "{asked} requests");
    assert_eq!(leases, [1, 2, 3].map(|number| lease(&members, number)));
    probe.finish();
}

#[test]
fn members_that_are_all_away_cost_nothing() {
    if skips_test() {
        return;
    }
    let mut members = Members::filled();
    let nodes = [2, 3].map(|number| members.lab.node(number).ns.clone());
    let leases = [1, 2, 3].map(|number| lease(&members, number));
    let probe = Probe::start(members.pod(1), members.pod(2));
    nodes.iter().for_each(count_connections);
    members.etcd.stop_all();
    std::thread::sleep(ABSENCE);
    let begun = nodes.each_ref().map(connections);
    members.etcd.resume_all();
    put_ghost(&members, "10.244.201.0-24");
    let news = await_known(&members, &[1, 2, 3], "10.244.201.0-24");
    // Two watches, which try all three servers after 0.1 s, and later each time, up to 5 s.
    eprintln!("{begun:?} connections tried in {ABSENCE:?}; news after {news:?}");
    assert!(begun.iter().all(|&count| count < 2 * 3 * 12), "{begun:?}");
    assert_eq!(leases, [1, 2, 3].map(|number| lease(&members, number)));
    probe.finish();
}
