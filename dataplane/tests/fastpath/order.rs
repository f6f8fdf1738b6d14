//! Programs of others before ours and behind.

use crate::nodes::{isolated, nodes, passes};
use crate::others::{Other, skips_test};
use aya::programs::{LinkOrder, TcAttachType};
use weft_dataplane::sys::egress::Device;
use weft_dataplane::sys::tc::{Direction, tcx_programs};
use weft_dataplane::wire::frame::Wire;

/// What a program answers to pass a packet on, and to accept it for good.
const NEXT: &str = "return -1;";
const OK: &str = "return 0;";

#[test]
fn who_was_there_before_sees_packets_first_and_may_keep_them() {
    if skips_test() {
        return;
    }
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let _a = a.start(|_| {}).unwrap();
        let mut first = Other::attach(&b, TcAttachType::Ingress, NEXT, LinkOrder::default());
        let ours = b.start(|_| {}).unwrap();
        let mut behind = Other::attach(&b, TcAttachType::Ingress, NEXT, LinkOrder::default());
        let ids = || {
            let index = Device::named("eth0").unwrap().index().unwrap();
            tcx_programs(index, Direction::Ingress).unwrap()
        };
        let order = b.ns.enter(ids).unwrap();
        let [before, _, after] = order[..] else {
            panic!("{order:?}");
        };
        assert_eq!(
            [before, after],
            [first.id(), behind.id()],
            "ours is not between"
        );

        assert!(passes(&a, &b));
        assert_eq!(
            (first.seen(), behind.seen()),
            (1, 0),
            "ours takes what is the tunnel's"
        );
        let plain = a.outside();
        plain
            .send_to(b"no frame", (crate::nodes::underlay(2), 8472))
            .unwrap();
        let both = || (first.seen(), behind.seen()) == (2, 1);
        assert!(
            weft_lab::wait_until(crate::nodes::LIMIT, both),
            "what ours passes on goes on"
        );

        let keeps = Other::attach(&b, TcAttachType::Ingress, OK, LinkOrder::first());
        assert!(!passes(&a, &b), "it is kept from ours");
        assert_eq!((keeps.seen(), first.seen()), (1, 2));
        assert!(b.is_in_place(&ours), "which is there all the same");
        drop(keeps);
        assert!(passes(&a, &b));
    });
}
