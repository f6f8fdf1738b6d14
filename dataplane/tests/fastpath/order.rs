//! Programs of others before ours and behind. Ours returns what lets the next one run, or redirects a
//! packet: then it is the last to see it at this place.

use crate::nodes::{INNER_PORT, LIMIT, Node, isolated, nodes, passes, underlay};
use crate::others::{
    NEXT, OK, Other, Spot, TUNNEL_OUT, Turn, UNDERLAY_IN, UNDERLAY_OUT, skips_test,
};
use std::net::Ipv4Addr;
use weft_dataplane::fastpath::{FastPath, Hook};
use weft_dataplane::sys::egress::Device;
use weft_dataplane::sys::tc::{Direction, tcx_programs};
use weft_dataplane::wire::frame::Wire;
use weft_lab::wait_until;

/// An address of the network that is no peer's.
const NOBODY: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 244, 9, 1), INNER_PORT);

fn start(node: &Node, hook: Hook) -> FastPath {
    node.start(|config| config.hook = Some(hook)).unwrap()
}

/// Others around ours on a node, in a row.
struct Row {
    first: Other,
    behind: Other,
}

impl Row {
    /// How many each has counted.
    fn seen(&self) -> (u64, u64) {
        (self.first.seen(), self.behind.seen())
    }

    fn await_seen(&self, wanted: (u64, u64)) {
        let seen = wait_until(LIMIT, || self.seen() == wanted);
        assert!(seen, "{:?}, not {wanted:?}", self.seen());
    }
}

/// Attach others and, between them, ours.
fn row(node: &Node, spot: Spot, hook: Hook) -> (Row, FastPath) {
    let first = Other::attach(node, spot, NEXT, hook, Turn::Before);
    let ours = start(node, hook);
    let behind = Other::attach(node, spot, NEXT, hook, Turn::Behind);
    (Row { first, behind }, ours)
}

/// Run `test` with two nodes and each hook.
fn with_hooks(test: impl Fn(&Node, &Node, Hook) + Sync) {
    if skips_test() {
        return;
    }
    for hook in [Hook::Tcx, Hook::Clsact] {
        isolated(|bpffs| {
            let [a, b] = nodes(bpffs, Wire::Vxlan);
            test(&a, &b, hook);
        });
    }
}

/// Somebody who keeps packets hides them from ours, which are there all the same.
fn assert_kept(keeper: &Node, spot: Spot, hook: Hook, ours: &FastPath, passes: impl Fn() -> bool) {
    let keeps = Other::attach(keeper, spot, OK, hook, Turn::First);
    assert!(!passes(), "{hook:?}: it is kept from ours");
    assert_eq!(keeps.seen(), 1, "{hook:?}");
    assert!(keeper.is_in_place(ours), "{hook:?}");
    // A filter is looked for in the namespace that it is in.
    keeper.ns.enter(|| drop(keeps)).unwrap();
    assert!(passes(), "{hook:?}");
}

#[test]
fn who_was_there_before_sees_packets_first_and_may_keep_them() {
    with_hooks(|a, b, hook| {
        let _a = start(a, hook);
        let (others, ours) = row(b, UNDERLAY_IN, hook);
        assert!(passes(a, b));
        assert_eq!(others.seen(), (1, 0), "ours takes what is the tunnel's");
        let plain = a.outside();
        plain.send_to(b"no frame", (underlay(2), 8472)).unwrap();
        others.await_seen((2, 1));
        assert_kept(b, UNDERLAY_IN, hook, &ours, || passes(a, b));
        b.remove(ours);
        assert!(!passes(a, b));
        // The one more that was let through, and the one that ours were not there to take.
        others.await_seen((4, 2));
    });
}

#[test]
fn on_the_way_out_those_behind_ours_see_what_it_leaves_and_the_underlay_what_it_sends() {
    with_hooks(|a, b, hook| {
        let _b = start(b, hook);
        let (others, ours) = row(a, TUNNEL_OUT, hook);
        let outer = Other::attach(a, UNDERLAY_OUT, NEXT, hook, Turn::Before);
        assert!(passes(a, b));
        assert_eq!(others.seen(), (1, 0), "ours sends what is for a peer");
        assert_eq!(
            outer.seen(),
            1,
            "whoever sees what leaves the underlay sees this"
        );
        a.inside().send_to(b"packet", NOBODY).unwrap();
        others.await_seen((2, 1));
        assert_kept(a, TUNNEL_OUT, hook, &ours, || passes(a, b));
        assert_eq!(outer.seen(), 2);
        a.remove(ours);
        assert!(!passes(a, b));
        others.await_seen((4, 2));
    });
}

/// Links come before filters, whoever was there first.
#[test]
fn filters_of_others_see_what_our_links_leave() {
    if skips_test() {
        return;
    }
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let _a = start(&a, Hook::Tcx);
        let filter = Other::attach(&b, UNDERLAY_IN, NEXT, Hook::Clsact, Turn::First);
        let _b = start(&b, Hook::Tcx);
        assert!(passes(&a, &b));
        let plain = a.outside();
        plain.send_to(b"no frame", (underlay(2), 8472)).unwrap();
        let seen = wait_until(LIMIT, || filter.seen() > 0);
        assert!(seen && filter.seen() == 1, "{}", filter.seen());
    });
}

/// Ours are known by their ids, not by their place: the next agent's take over the very one.
#[test]
fn an_agent_that_takes_over_leaves_the_order_as_it_is() {
    if skips_test() {
        return;
    }
    isolated(|bpffs| {
        let [_a, b] = nodes(bpffs, Wire::Vxlan);
        let (mut others, ours) = row(&b, UNDERLAY_IN, Hook::Tcx);
        let around = [others.first.id(), others.behind.id()];
        let ids = || {
            let index = Device::named("eth0").unwrap().index().unwrap();
            tcx_programs(index, Direction::Ingress).unwrap()
        };
        let between = || {
            let order = b.ns.enter(ids).unwrap();
            let [before, between, after] = order[..] else {
                panic!("{order:?}");
            };
            assert_eq!([before, after], around, "ours is not between");
            between
        };
        let old = between();
        let next = start(&b, Hook::Tcx);
        assert_ne!(between(), old);
        assert!(b.is_in_place(&next));
        assert!(!b.is_in_place(&ours), "another's have its place");
        // One more before it, and fewer.
        let more = Other::attach(&b, UNDERLAY_IN, NEXT, Hook::Tcx, Turn::First);
        assert!(b.is_in_place(&next));
        drop((more, others));
        assert!(b.is_in_place(&next));
    });
}
