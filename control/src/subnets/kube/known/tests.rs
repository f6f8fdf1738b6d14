use super::*;
use crate::subnets::kube::prefix::AnnotationPrefix;
use crate::subnets::kube::tests::{node_json, node_with};

const V4: PerFamily<bool> = PerFamily {
    v4: true,
    v6: false,
};
const BOTH: PerFamily<bool> = PerFamily { v4: true, v6: true };

fn told(json: &str) -> Told {
    NodeState::read(json.as_bytes(), &AnnotationPrefix::default())
}

fn node(number: u8) -> Told {
    told(&node_json(number))
}

fn key(number: u8) -> SubnetKey {
    format!("10.244.{number}.0-24").parse().unwrap()
}

/// The own node has number 1.
fn own() -> Lease {
    let node = node(1).unwrap();
    match node.standing(V4) {
        Standing::Peer(lease) => *lease,
        other => panic!("{other:?}"),
    }
}

/// Knows the nodes of these numbers.
fn known(numbers: &[u8]) -> KnownNodes {
    let mut known = KnownNodes::new(&own(), V4);
    known.begin_list();
    for number in numbers {
        known.list(node(*number));
    }
    known.end_list().expect("the first list is always told");
    known
}

fn keys(event: Option<LeaseEvent>) -> Vec<SubnetKey> {
    match event {
        Some(LeaseEvent::Snapshot(leases)) => leases.iter().map(Lease::key).collect(),
        other => panic!("{other:?}"),
    }
}

fn put_key(events: &[LeaseEvent]) -> SubnetKey {
    match events {
        [LeaseEvent::Put(lease)] => lease.key(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_list_is_told_even_if_it_names_nobody() {
    let mut known = KnownNodes::new(&own(), V4);
    known.begin_list();
    assert_eq!(known.end_list(), Some(LeaseEvent::Snapshot(Vec::new())));
}

#[test]
fn a_list_that_says_the_same_is_not_told() {
    let mut known = known(&[2, 3]);
    known.begin_list();
    for number in [2, 3] {
        let later = node_json(number).replace("\"100", "\"200");
        known.list(told(&later));
    }
    assert_eq!(known.end_list(), None);
}

#[test]
fn a_list_after_an_interruption_tells_all_that_differs() {
    let mut known = known(&[2, 3, 4]);
    known.begin_list();
    known.list(node(2));
    // The same subnet behind another address, and a new node; 4 is gone.
    known.list(told(&node_json(3).replace("192.0.2.3", "192.0.2.33")));
    known.list(node(5));
    let event = known.end_list();
    let Some(LeaseEvent::Snapshot(leases)) = &event else {
        panic!("{event:?}");
    };
    assert_eq!(leases[1].attrs.identity().to_string(), "192.0.2.33");
    assert_eq!(keys(event), [key(2), key(3), key(5)]);
}

#[test]
fn a_list_that_is_broken_off_changes_nothing() {
    let mut known = known(&[2, 3]);
    known.begin_list();
    known.list(node(9));
    known.begin_list();
    known.list(node(2));
    known.list(node(3));
    assert_eq!(known.end_list(), None);
}

#[test]
fn a_heartbeat_is_no_event() {
    let mut known = known(&[2]);
    let later = node_json(2)
        .replace("\"1002\"", "\"5000\"")
        .replace("2026-12-01T10:00:00Z", "2026-12-01T10:05:00Z");
    assert_eq!(known.put(told(&later)), []);
}

#[test]
fn another_address_mac_or_backend_is_one_event() {
    for (from, to) in [
        ("192.0.2.2", "192.0.2.99"),
        ("0e:00:00:00:00:02", "0e:00:00:00:00:99"),
        (r#"backend-type":"vxlan""#, r#"backend-type":"host-gw""#),
    ] {
        let mut known = known(&[2]);
        let json = node_json(2);
        assert!(json.contains(from), "{from}");
        let events = known.put(told(&json.replace(from, to)));
        assert_eq!(put_key(&events), key(2), "{from}");
        assert_eq!(known.put(told(&json.replace(from, to))), []);
    }
}

#[test]
fn in_dual_stack_a_change_of_either_family_is_an_event() {
    let dual = |mac_v4: &str, mac_v6: &str| {
        let data = |mac: &str| format!(r#"{{\"VNI\":1,\"VtepMAC\":\"{mac}\"}}"#);
        node_with(
            2,
            r#""podCIDRs":["10.244.2.0/24","fd00:10:244:2::/64"]"#,
            &[
                ("backend-data", &data(mac_v4)),
                ("backend-v6-data", &data(mac_v6)),
                ("public-ipv6", "2001:db8::2"),
            ],
        )
    };
    let (a, b) = ("0e:00:00:00:00:0a", "0e:00:00:00:00:0b");
    for (v4, v6) in [(b, a), (a, b)] {
        let mut known = KnownNodes::new(&own(), BOTH);
        known.begin_list();
        known.list(told(&dual(a, a)));
        known.end_list().unwrap();
        assert_eq!(known.put(told(&dual(a, a))), []);
        let events = known.put(told(&dual(v4, v6)));
        assert!(matches!(&events[..], [LeaseEvent::Put(_)]), "{events:?}");
    }
}

#[test]
fn a_node_with_another_subnet_leaves_the_old_one() {
    let mut known = known(&[2]);
    let moved = node_json(2).replace("10.244.2.0/24", "10.244.7.0/24");
    let events = known.put(told(&moved));
    assert_eq!(events[0], LeaseEvent::Delete(key(2)));
    assert_eq!(put_key(&events[1..]), key(7));
    assert_eq!(known.delete("node-2"), [LeaseEvent::Delete(key(7))]);
    assert_eq!(known.delete("node-2"), []);
}

#[test]
fn a_subnet_that_another_node_was_given_meanwhile_stays() {
    let mut known = known(&[2, 3]);
    // Node 4 has the subnet of node 2 before that one is gone.
    let heir = node_json(4).replace("10.244.4.0/24", "10.244.2.0/24");
    assert_eq!(put_key(&known.put(told(&heir))), key(2));
    let events = known.delete("node-2");
    let [LeaseEvent::Put(lease)] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(lease.attrs.identity().to_string(), "192.0.2.4");
    assert_eq!(known.delete("node-4"), [LeaseEvent::Delete(key(2))]);
    // In a list it is the later one.
    known.begin_list();
    for json in [heir, node_json(2)] {
        known.list(told(&json));
    }
    let event = known.end_list();
    let Some(LeaseEvent::Snapshot(leases)) = &event else {
        panic!("{event:?}");
    };
    assert_eq!(leases.len(), 1);
    assert_eq!(leases[0].attrs.identity().to_string(), "192.0.2.4");
}

#[test]
fn what_became_unreadable_stays_unless_its_subnet_is_another() {
    for (from, to) in [
        ("192.0.2.2", "192.0.2"),
        ("0e:00:00:00:00:02", "zz"),
        (r#"podCIDRs":["10.244.2.0/24"]"#, r#"podCIDRs":["x"]"#),
        (r#"podCIDRs":["10.244.2.0/24"]"#, r#"podCIDRs":7"#),
        (r#"public-ip":"192.0.2.2""#, r#"public-ip":7"#),
    ] {
        let mut known = known(&[2]);
        let json = node_json(2);
        assert!(json.contains(from), "{from}");
        assert_eq!(known.put(told(&json.replace(from, to))), [], "{to}");
        known.begin_list();
        known.list(told(&json.replace(from, to)));
        assert_eq!(known.end_list(), None, "{to}");
    }
    let mut known = known(&[2]);
    let other = node_json(2)
        .replace("10.244.2.0/24", "10.244.7.0/24")
        .replace("192.0.2.2", "192.0.2");
    assert_eq!(known.put(told(&other)), [LeaseEvent::Delete(key(2))]);
}

#[test]
fn a_node_that_flannel_has_left_or_without_subnet_is_let_go() {
    for (from, to) in [
        (
            r#"kube-subnet-manager":"true""#,
            r#"kube-subnet-manager":"""#,
        ),
        (
            r#""podCIDR":"10.244.2.0/24","podCIDRs":["10.244.2.0/24"]"#,
            r#""x":1"#,
        ),
    ] {
        let mut known = known(&[2]);
        let json = node_json(2);
        assert!(json.contains(from), "{from}");
        let events = known.put(told(&json.replace(from, to)));
        assert_eq!(events, [LeaseEvent::Delete(key(2))]);
        assert_eq!(put_key(&known.put(node(2))), key(2));
    }
}

#[test]
fn a_node_with_this_nodes_address_is_none() {
    let mut known = known(&[2]);
    let twin = node_json(3).replace("192.0.2.3", "192.0.2.1");
    assert_eq!(known.put(told(&twin)), []);
}
