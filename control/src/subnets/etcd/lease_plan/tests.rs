use super::*;
use ipnet::{Ipv4Net, Ipv6Net};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::net::{Ipv4Addr, Ipv6Addr};

const OWN: u8 = 1;

fn attrs(node: u8) -> LeaseAttrs {
    LeaseAttrs::alloc(
        Some(Ipv4Addr::new(192, 0, 2, node)),
        Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, node.into())),
    )
}

/// A lease of a node, the `age`th key that was made.
fn lease(key: &str, node: u8, age: i64) -> Entry {
    Entry {
        key: key.parse().unwrap(),
        attrs: Ok(attrs(node)),
        mod_revision: age + 100,
        create_revision: age,
        lease_id: 7,
    }
}

fn reservation(key: &str, node: u8, age: i64) -> Entry {
    Entry {
        lease_id: 0,
        ..lease(key, node, age)
    }
}

fn v4_only() -> NetworkConfig {
    NetworkConfig::parse(r#"{"Network":"10.1.0.0/16"}"#).unwrap()
}

fn dual() -> NetworkConfig {
    let text = r#"{"Network":"10.1.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48"}"#;
    NetworkConfig::parse(text).unwrap()
}

fn v6_only() -> NetworkConfig {
    let text = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48"}"#;
    NetworkConfig::parse(text).unwrap()
}

/// What the own node does: the key, and how many leases it gives up for it (`None`: it uses
/// one again).
fn decide(
    config: &NetworkConfig,
    previous: &Previous,
    entries: &[Entry],
) -> (SubnetKey, Option<usize>) {
    let attrs = attrs(OWN);
    let wanted = Wanted {
        config,
        attrs: &attrs,
        previous,
        candidates: choose::CANDIDATES_MAX,
    };
    match plan(&wanted, entries, &mut StdRng::seed_from_u64(1)).unwrap() {
        LeasePlan::Reuse(entry) => (entry.key, None),
        LeasePlan::Take { key, instead_of } => {
            assert!(choose::compatible(config, &key), "{key}");
            (key, Some(instead_of.len()))
        }
    }
}

fn v4(text: &str) -> Option<Ipv4Net> {
    Some(text.parse().unwrap())
}

fn v6(text: &str) -> Option<Ipv6Net> {
    Some(text.parse().unwrap())
}

#[test]
fn a_reservation_is_used_before_a_lease_and_an_old_lease_before_a_new_one() {
    let leases = [lease("10.1.5.0-24", OWN, 2), lease("10.1.6.0-24", OWN, 1)];
    let (key, given_up) = decide(&v4_only(), &Previous::default(), &leases);
    assert_eq!((key.v4, given_up), (v4("10.1.6.0/24"), None));
    let reserved = reservation("10.1.7.0-24", OWN, 3);
    let [one, two] = leases;
    let (key, given_up) = decide(&v4_only(), &Previous::default(), &[one, two, reserved]);
    assert_eq!((key.v4, given_up), (v4("10.1.7.0/24"), None));
}

#[test]
fn a_network_that_gains_or_loses_a_family_keeps_the_other_half() {
    let none = Previous::default();
    let old = [lease("10.1.5.0-24", OWN, 1)];
    let (key, given_up) = decide(&dual(), &none, &old);
    assert_eq!((key.v4, given_up), (v4("10.1.5.0/24"), Some(1)));
    let old = [lease("10.1.5.0-24&fd00:0:0:5::-64", OWN, 1)];
    let (key, given_up) = decide(&v4_only(), &none, &old);
    assert_eq!((key.v4, given_up), (v4("10.1.5.0/24"), Some(1)));
    let (key, given_up) = decide(&v6_only(), &none, &old);
    assert_eq!((key.v6, given_up), (v6("fd00:0:0:5::/64"), Some(1)));
}

#[test]
fn previous_subnets_count_for_each_family_by_itself() {
    let previous = Previous {
        subnet: v4("10.1.5.0/24"),
        ipv6_subnet: v6("fd00:0:0:5::/64"),
        ..Previous::default()
    };
    let (key, _) = decide(&dual(), &previous, &[]);
    assert_eq!((key.v4, key.v6), (previous.subnet, previous.ipv6_subnet));
    let (key, _) = decide(&v6_only(), &previous, &[]);
    assert_eq!((key.v4, key.v6), (None, previous.ipv6_subnet));
    let others = [lease("10.1.5.0-24&fd00:0:0:6::-64", 2, 1)];
    let (key, _) = decide(&dual(), &previous, &others);
    assert_ne!(key.v4, previous.subnet);
    assert_eq!(key.v6, previous.ipv6_subnet);
    let others = [lease("10.1.6.0-24&fd00:0:0:5::-64", 2, 1)];
    let (key, _) = decide(&dual(), &previous, &others);
    assert_eq!(key.v4, previous.subnet);
    assert_ne!(key.v6, previous.ipv6_subnet);
    // An own lease says more than the file.
    let own = [lease("10.1.9.0-24", OWN, 1)];
    let (key, _) = decide(&dual(), &previous, &own);
    assert_eq!((key.v4, key.v6), (v4("10.1.9.0/24"), previous.ipv6_subnet));
}

#[test]
fn of_two_leases_that_meet_in_one_family_the_later_one_moves_in_that_family() {
    let entries = [
        lease("10.1.5.0-24&fd00:0:0:9::-64", 2, 1),
        lease("10.1.6.0-24&fd00:0:0:9::-64", OWN, 2),
    ];
    let (key, given_up) = decide(&dual(), &Previous::default(), &entries);
    assert_eq!((key.v4, given_up), (v4("10.1.6.0/24"), Some(1)));
    assert_ne!(key.v6, v6("fd00:0:0:9::/64"));
    let entries = [
        lease("10.1.5.0-24&fd00:0:0:9::-64", 2, 3),
        lease("10.1.6.0-24&fd00:0:0:9::-64", OWN, 2),
    ];
    let (key, given_up) = decide(&dual(), &Previous::default(), &entries);
    assert_eq!((key, given_up), (entries[1].key, None));
}

#[test]
fn reservations_are_kept_in_part_or_left_alone() {
    let none = Previous::default();
    // One of each family: together they are the lease.
    let parts = [
        reservation("10.1.5.0-24", OWN, 1),
        reservation("0.0.0.0-0&fd00:0:0:5::-64", OWN, 2),
    ];
    let (key, given_up) = decide(&dual(), &none, &parts);
    assert_eq!(key.to_string(), "10.1.5.0-24&fd00:0:0:5::-64");
    assert_eq!(given_up, Some(2));
    // Outside of the network, and on another node's subnet.
    let (_, given_up) = decide(&v4_only(), &none, &[reservation("10.9.5.0-24", OWN, 1)]);
    assert_eq!(given_up, Some(0));
    let entries = [
        lease("10.1.5.0-24&fd00:0:0:5::-64", 2, 1),
        reservation("10.1.5.0-24", OWN, 2),
    ];
    let (key, given_up) = decide(&v4_only(), &none, &entries);
    assert_ne!(key.v4, v4("10.1.5.0/24"));
    assert_eq!(given_up, Some(0));
}

#[test]
fn another_nodes_reservation_is_never_taken() {
    let text = r#"{"Network":"10.1.0.0/16","SubnetMin":"10.1.5.0","SubnetMax":"10.1.6.0"}"#;
    let config = NetworkConfig::parse(text).unwrap();
    let previous = Previous {
        subnet: v4("10.1.5.0/24"),
        ..Previous::default()
    };
    let mut reserved = reservation("10.1.5.0-24", 2, 1);
    let (key, _) = decide(&config, &previous, std::slice::from_ref(&reserved));
    assert_eq!(key.v4, v4("10.1.6.0/24"));
    // Nor one whose value says nothing.
    reserved.attrs = Err("not a JSON object".into());
    let (key, _) = decide(&config, &previous, &[reserved]);
    assert_eq!(key.v4, v4("10.1.6.0/24"));
}

#[test]
fn a_family_without_a_free_subnet_is_named() {
    let entries = [lease("10.1.5.0-24&fd00::-32", 2, 1)];
    let (config, attrs) = (dual(), attrs(OWN));
    let wanted = Wanted {
        config: &config,
        attrs: &attrs,
        previous: &Previous::default(),
        candidates: 100,
    };
    let error = plan(&wanted, &entries, &mut StdRng::seed_from_u64(1)).unwrap_err();
    assert!(
        error.to_string().starts_with(
            "out of subnets: every subnet of length 64 between fd00:0:0:1:: and fd00:0:0:ffff::"
        ),
        "{error}"
    );
}
