//! Programs that others have attached before, in this process or an earlier one.

use crate::nodes::{LIMIT, Node, flood, isolated, join, nodes, passes, programs, take_off_others};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use std::path::Path;
use std::process::Command;
use weft_dataplane::fastpath::{self, Entries, FastPath, Former, Pins};
use weft_dataplane::wire::frame::Wire;
use weft_lab::wait_until;

/// No programs on either.
const NONE: [Vec<u32>; 2] = [Vec::new(), Vec::new()];

/// What is pinned for a node, in the order of names.
fn pinned(node: &Node, bpffs: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(node.pins(bpffs)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

fn start(nodes: &[Node; 2]) -> [FastPath; 2] {
    nodes.each_ref().map(|node| node.start(|_| {}).unwrap())
}

/// Both programs of both nodes are replaced under load, each time by link update.
#[test]
fn no_packet_is_lost_when_programs_are_replaced() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let mut running = start(&nodes);
        assert!(running.iter().all(FastPath::takes_over));
        let [a, b] = &nodes;
        let (sent, received) = flood(a, b, || {
            for _ in 0..50 {
                let before = nodes.each_ref().map(programs);
                running = start(&nodes);
                for (node, before) in nodes.iter().zip(before) {
                    for (now, before) in programs(node).into_iter().zip(before) {
                        assert_eq!((now.len(), before.len()), (1, 1));
                        assert_ne!(now, before);
                    }
                }
            }
        });
        assert_eq!(received, sent);
        assert!(sent > 1000, "only {sent} were sent");
    });
}

#[test]
fn pinned_programs_go_on_without_a_process_and_others_do_not() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        drop(start(&nodes));
        assert!(passes(a, b) && passes(b, a));
        assert_eq!(pinned(a, bpffs), ["counts", "in-77", "out"]);
        for node in &nodes {
            let gone = || Pins::remove(bpffs, "flannel.1");
            assert!(node.ns.enter(gone).unwrap().unwrap());
            assert!(!node.ns.enter(gone).unwrap().unwrap());
            // The kernel detaches what was unlinked a moment later.
            assert!(wait_until(LIMIT, || programs(node) == NONE));
        }
        assert!(!passes(a, b) && !passes(b, a));
        // Nothing stays behind of the last one.
        assert!(!bpffs.join("weft").exists());
        let unpinned = nodes.each_ref().map(|node| {
            let started = node.start(|config| config.bpffs = "/nowhere".into());
            started.unwrap()
        });
        assert!(passes(a, b));
        // These will be nobody's to take over.
        assert!(!unpinned.iter().any(FastPath::takes_over));
        drop(unpinned);
        let gone = || nodes.iter().all(|node| programs(node) == NONE);
        assert!(wait_until(LIMIT, gone));
    });
}

#[test]
fn what_is_left_of_devices_that_are_gone_is_replaced() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        let first = start(&nodes);
        // The TUN device is made anew: the pinned link is that of the old one.
        a.make_tunnel();
        assert!(!a.is_in_place(&first[0]));
        let second = start(&nodes);
        assert!(passes(a, b) && passes(b, a));
        assert!(a.is_in_place(&second[0]));
        // The underlay is made anew, with another index.
        a.ns.ip("link del eth0").unwrap();
        join(&nodes, 78);
        assert!(!a.is_in_place(&second[0]));
        let third = start(&nodes);
        assert!(passes(a, b) && passes(b, a));
        assert_eq!(pinned(a, bpffs), ["counts", "in-78", "out"]);
        assert!(
            nodes
                .iter()
                .zip(&third)
                .all(|(node, programs)| node.is_in_place(programs))
        );
    });
}

/// Both namespaces share a file system here, and have devices of the same name and index.
#[test]
fn each_network_namespace_has_pins_of_its_own() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        let [first, second] = start(&nodes);
        let devices = |node: &Node| node.ns.enter(|| Pins::devices(bpffs)).unwrap();
        assert_eq!(
            (devices(a), devices(b)),
            (vec!["flannel.1".into()], vec!["flannel.1".into()])
        );
        a.remove(first);
        assert!(devices(a).is_empty());
        assert_eq!(pinned(b, bpffs), ["counts", "in-77", "out"]);
        assert!(b.is_in_place(&second));
        // As an agent does for what an earlier one has left.
        b.ns.enter(|| {
            let others = || ["eth0".to_owned()].into_iter();
            for any in [true, false] {
                let (removed, former) = fastpath::remove_left(bpffs, "flannel.1", others());
                assert_eq!((removed.unwrap(), former), (any, Former::default()));
            }
        })
        .unwrap();
        assert!(!b.is_in_place(&second));
    });
}

/// The programs of a node that an earlier agent has pinned where the next one does not look.
fn leave_unseen(node: &Node) {
    drop(node.start(|_| {}).unwrap());
    assert_eq!(programs(node)[1].len(), 1);
}

fn start_unseeing(node: &Node) -> FastPath {
    node.start(|config| config.bpffs = "/nowhere".into())
        .unwrap()
}

/// They are ahead of the next one's, and would send by a table that nobody keeps.
#[test]
fn programs_whose_pins_nobody_sees_make_room() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        let _b = b.start(|_| {}).unwrap();
        // Those of another tunnel on the same underlay.
        a.run("ip tuntap add flannel.2 mode tun");
        let other = a.start(|config| {
            config.device = "flannel.2".to_owned();
            config.port += 1;
        });
        let other = other.unwrap();
        leave_unseen(a);
        let mut running = start_unseeing(a);
        running.publish(&Entries::default(), |_| None).unwrap();
        assert!(passes(a, b), "they go on by the table of the first one");
        assert!(passes(b, a), "and let in by it");
        let [removed, none] = [(); 2].map(|()| take_off_others(a, &running));
        assert_eq!((removed.removed, removed.unknown), (2, 0));
        assert_eq!(none, Former::default());
        assert!(!passes(a, b) && !passes(b, a));
        running.publish(&Entries::of(&a.table()), |_| None).unwrap();
        assert!(passes(a, b) && passes(b, a));
        assert!(a.is_in_place(&running) && a.is_in_place(&other));
    });
}

#[test]
fn programs_whose_pins_nobody_sees_go_where_there_are_to_be_none() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, _b] = &nodes;
        leave_unseen(a);
        let nothing =
            || fastpath::remove_left("/nowhere".as_ref(), "flannel.1", std::iter::empty());
        let (removed, former) = a.ns.enter(nothing).unwrap();
        assert_eq!((removed.unwrap(), former.removed), (false, 2));
        assert_eq!(programs(a), NONE);
        // The pins are there, and lead to nothing that could be taken over.
        let next = a.start(|_| {}).unwrap();
        assert!(a.is_in_place(&next));
    });
}

/// Whose programs are there only who has the capability may know.
#[test]
fn programs_that_nobody_may_look_at_are_told_of() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, _b] = &nodes;
        leave_unseen(a);
        let all = capabilities(None).unwrap();
        let mut few = all;
        few.effective = CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON;
        let running = start_unseeing(a);
        let look = || {
            set_capabilities(None, few).unwrap();
            let former = running.take_off_others();
            set_capabilities(None, all).unwrap();
            former
        };
        let former = a.ns.enter(look).unwrap();
        assert_eq!((former.removed, former.unknown), (0, 1));
    });
}

#[test]
fn a_link_that_somebody_detaches_is_noticed() {
    if !weft_lab::tools::in_path("bpftool") {
        return weft_lab::skip("there is no bpftool; try `apt-get install bpftool`");
    }
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, _b] = &nodes;
        for pin in ["out", "in-77"] {
            let programs = a.start(|_| {}).unwrap();
            assert!(a.is_in_place(&programs));
            let path = a.pins(bpffs).join(pin);
            a.run(&format!("bpftool link detach pinned {}", path.display()));
            assert!(path.exists());
            assert!(!a.is_in_place(&programs), "{pin} is detached");
            // The next one finds it so, and takes its place.
            let next = a.start(|_| {}).unwrap();
            assert!(a.is_in_place(&next));
            std::fs::remove_file(&path).unwrap();
            assert!(!a.is_in_place(&next), "{pin} is gone");
        }
    });
}

/// Nobody would keep their table any more.
#[test]
fn programs_that_cannot_be_taken_away_take_nothing() {
    isolated(|bpffs| {
        let nodes = nodes(bpffs, Wire::Vxlan);
        let [a, b] = &nodes;
        let [first, _second] = start(&nodes);
        assert!(passes(a, b) && passes(b, a));
        let remount = |how: &str| {
            let mut mount = Command::new("mount");
            mount
                .args(["-o", &format!("remount,bind,{how}")])
                .arg(bpffs);
            weft_lab::run(&mut mount).unwrap();
        };
        remount("ro");
        let refused = a.ns.enter(|| first.remove()).unwrap().unwrap_err();
        assert!(
            refused.to_string().starts_with("removing pins: "),
            "{refused}"
        );
        let attached = programs(a).map(|on| on.len());
        assert_eq!(attached, [1, 1], "the kernel holds them by their pins");
        assert!(!passes(a, b) && !passes(b, a));
        remount("rw");
        let _next = a.start(|_| {}).unwrap();
        assert!(passes(a, b) && passes(b, a));
    });
}
