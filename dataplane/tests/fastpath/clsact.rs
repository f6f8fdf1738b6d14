//! Programs as filters, which is how they are attached below Linux 6.6.

use crate::nodes::{LIMIT, Node, flood, isolated, nodes, passes, programs, take_off_others};
use crate::others::{NEXT, Other, UNDERLAY_IN, filter, skips_test};
use weft_dataplane::fastpath::{self, FILTER_PRIORITY, FastPath, FastPathError, Hook};
use weft_dataplane::wire::frame::Wire;
use weft_lab::wait_until;

fn start(node: &Node) -> Result<FastPath, FastPathError> {
    node.start(|config| config.hook = Some(Hook::Clsact))
}

/// The filters of others, and the qdiscs.
fn foreign(node: &Node) -> [String; 2] {
    [
        "tc filter show dev eth0 ingress pref 9",
        "tc qdisc show dev eth0",
    ]
    .map(|tc| node.run(tc))
}

/// How many filters are weft's.
fn ours(node: &Node) -> usize {
    let shown = ["dev eth0 ingress", "dev flannel.1 egress"]
        .map(|place| node.run(&format!("tc filter show {place} pref 30565")));
    let filters = shown.iter().flat_map(|text| text.lines());
    filters.filter(|line| line.contains("weft_")).count()
}

#[test]
fn filters_are_replaced_without_a_gap_and_those_of_others_stay() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        a.run("tc qdisc add dev eth0 clsact");
        // Behind ours, of another kind.
        a.run("tc filter add dev eth0 ingress pref 9 protocol ip u32 match u32 1 0xffffffff classid 1:1");
        let before = foreign(a);
        let mut running = nodes.each_ref().map(|node| start(node).unwrap());
        assert_eq!(running[0].hook(), Hook::Clsact);
        assert!(a.ns.enter(|| running[0].takes_over()).unwrap());
        let (sent, received) = flood(a, b, || {
            for _ in 0..10 {
                let next = nodes.each_ref().map(|node| start(node).unwrap());
                // As agents end: what they have attached stays.
                for old in std::mem::replace(&mut running, next) {
                    old.leave();
                }
                assert_eq!(nodes.each_ref().map(ours), [2, 2]);
            }
        });
        assert_eq!(received, sent);
        assert_eq!(foreign(a), before);
        let [first, second] = running;
        a.remove(first);
        assert_eq!((ours(a), foreign(a)), (0, before.clone()));
        assert!(!passes(a, b));
        // What an agent has left is found by the next one, by its place alone.
        second.leave();
        assert_eq!(ours(b), 2);
        let remove = || {
            let others = ["eth0".to_owned()].into_iter();
            fastpath::remove_left(bpffs, "flannel.1", others).0.unwrap()
        };
        assert!(b.ns.enter(remove).unwrap());
        assert_eq!(ours(b), 0);
        assert!(!b.ns.enter(remove).unwrap());
    });
}

/// An agent that attaches in another way than the one before leaves nothing of that one's in force.
#[test]
fn links_give_way_to_filters_and_filters_to_links() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        let links = || {
            nodes
                .iter()
                .all(|node| programs(node).iter().all(|on| on.len() == 1))
        };
        let no_links = || {
            nodes
                .iter()
                .all(|node| programs(node).iter().all(Vec::is_empty))
        };
        for _ in 0..2 {
            for node in &nodes {
                node.start(|_| {}).unwrap().leave();
            }
            assert!(links());
            assert_eq!(nodes.each_ref().map(ours), [0, 0]);
            assert!(passes(a, b));
            for node in &nodes {
                start(node).unwrap().leave();
            }
            assert!(wait_until(LIMIT, no_links));
            assert_eq!(nodes.each_ref().map(ours), [2, 2]);
            assert!(passes(a, b));
        }
        // The underlay has been another device, and is one again: its filter would let in by what
        // was known then.
        a.run("ip link add eth1 type veth peer name far1");
        for hook in [Hook::Clsact, Hook::Tcx] {
            let start_on = |underlay: &str, hook| {
                let started = a.start(|config| {
                    config.underlay = underlay.to_owned();
                    config.hook = Some(hook);
                });
                let started = started.unwrap();
                take_off_others(a, &started);
                started
            };
            start_on("eth1", Hook::Clsact).leave();
            assert_eq!(on_former_underlay(a), 1);
            let started = start_on("eth0", hook);
            assert_eq!(on_former_underlay(a), 0, "{hook:?}");
            assert!(a.is_in_place(&started) && passes(a, b));
            started.leave();
        }
    });
}

/// How many filters of weft's are on the device that is the underlay no more.
fn on_former_underlay(node: &Node) -> usize {
    let shown = node.run("tc filter show dev eth1 ingress pref 30565");
    shown
        .lines()
        .filter(|line| line.contains("weft_in"))
        .count()
}

#[test]
fn a_filter_that_somebody_deletes_is_noticed() {
    isolated(|bpffs| {
        let [a, _b] = nodes(bpffs, Wire::Vxlan);
        for place in ["dev eth0 ingress pref 30565", "dev flannel.1 egress"] {
            let programs = start(&a).unwrap();
            assert!(a.is_in_place(&programs));
            a.run(&format!("tc filter del {place}"));
            assert!(!a.is_in_place(&programs), "{place}");
            programs.leave();
            let next = start(&a).unwrap();
            assert!(a.is_in_place(&next));
            next.leave();
        }
        let programs = start(&a).unwrap();
        a.run("tc qdisc del dev eth0 clsact");
        assert!(!a.is_in_place(&programs), "the qdisc is gone");
        programs.leave();
    });
}

/// The kernel keeps filters of one priority in one place, and deletes them as one where no handle is
/// named.
#[test]
fn a_filter_of_our_priority_that_is_not_ours_stays() {
    if skips_test() {
        return;
    }
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let theirs = filter(FILTER_PRIORITY, 7.into());
        let other = Other::attach_by(&b, UNDERLAY_IN, NEXT, theirs);
        let _a = start(&a).unwrap();
        let first = start(&b).unwrap();
        assert!(passes(&a, &b));
        let next = start(&b).unwrap();
        first.leave();
        assert!(b.is_in_place(&next));
        assert!(passes(&a, &b));
        b.remove(next);
        let left = b.run("tc filter show dev eth0 ingress pref 30565");
        assert_eq!(left.matches("handle 0x").count(), 1, "{left}");
        assert!(!passes(&a, &b));
        assert!(
            wait_until(LIMIT, || other.seen() > 0),
            "it sees what is left"
        );
    });
}
