use super::*;

const V4: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const V6: &str = r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#;
const DUAL: &str = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#;

/// A reservation for node `n`, with addresses of the families that the key has.
fn wanted(key: &str, n: u8) -> Reservation {
    let subnets: SubnetKey = key.parse().unwrap();
    Reservation {
        subnets,
        public_ip: subnets.v4.map(|_| Ipv4Addr::new(192, 0, 2, n)),
        public_ipv6: subnets
            .v6
            .map(|_| format!("2001:db8::{n}").parse().unwrap()),
    }
}

fn record(key: &str, n: u8) -> Record {
    let Reservation {
        public_ip,
        public_ipv6,
        subnets,
    } = wanted(key, n);
    Record {
        subnets: Some(subnets),
        attrs: Ok(LeaseAttrs::alloc(public_ip, public_ipv6)),
        revision: 7,
        ..absent(key)
    }
}

#[test]
fn the_network_config_says_which_families_and_subnets_there_are() {
    for (config, key, words) in [
        (V4, "10.5.7.0-24", None),
        (DUAL, "10.5.7.0-24&fd00:0:0:7::-64", None),
        (V6, "0.0.0.0-0&fd00:0:0:7::-64", None),
        (
            V4,
            "10.5.7.0-24&fd00:0:0:7::-64",
            Some("the network has no IPv6"),
        ),
        (
            V4,
            "0.0.0.0-0&fd00:0:0:7::-64",
            Some("the network has IPv4: give an IPv4 SUBNET"),
        ),
        (
            DUAL,
            "10.5.7.0-24",
            Some("the network has IPv6: give --ipv6-subnet and --public-ipv6, too"),
        ),
        (V6, "10.5.7.0-24", Some("the network has no IPv4")),
        (V4, "10.5.0.0-24", Some("from 10.5.1.0 to 10.5.255.0")),
        (V4, "10.5.7.0-25", Some("of length 24")),
        (
            DUAL,
            "10.5.7.0-24&fd01:0:0:7::-64",
            Some("with subnets of length 64 from fd00"),
        ),
    ] {
        let config = NetworkConfig::parse(config).unwrap();
        let outcome = allowed(&config, &wanted(key, 7));
        match words {
            None => assert_eq!(outcome, Ok(()), "{key}"),
            Some(words) => {
                let rule = outcome.unwrap_err();
                assert!(rule.contains(words), "{key}: {rule}");
            }
        }
    }
}

#[test]
fn other_leases_may_be_in_the_way() {
    let dual = "10.5.8.0-24&fd00:0:0:8::-64";
    let records = [
        record("10.5.7.0-24", 7),
        record(dual, 8),
        absent("nonsense"),
    ];
    for (key, n, expected) in [
        ("10.5.9.0-24", 9, Ok(None)),
        ("10.5.7.0-24", 7, Ok(Some("10.5.7.0-24"))),
        (dual, 8, Ok(Some(dual))),
        (
            "10.5.7.0-24",
            9,
            Err("10.5.7.0-24 belongs to 192.0.2.7: release it first"),
        ),
        (
            "10.5.9.0-24",
            7,
            Err("node 192.0.2.7 already has 10.5.7.0-24"),
        ),
        (
            "10.5.7.128-25",
            9,
            Err("overlaps with 10.5.7.0-24 of 192.0.2.7"),
        ),
        (
            "10.5.6.0-23",
            9,
            Err("overlaps with 10.5.7.0-24 of 192.0.2.7"),
        ),
        (
            "10.5.9.0-24&fd00:0:0:8::-64",
            9,
            Err("overlaps with 10.5.8.0-24&fd00:0:0:8::-64"),
        ),
    ] {
        let wanted = wanted(key, n);
        let attrs = LeaseAttrs::alloc(wanted.public_ip, wanted.public_ipv6);
        let outcome = against(&records, &wanted, &attrs);
        match expected {
            Ok(present) => {
                assert_eq!(
                    outcome.map(|found| found.map(|record| record.key.as_str())),
                    Ok(present)
                );
            }
            Err(words) => {
                let reason = outcome.map(|_| ()).unwrap_err();
                assert!(reason.contains(words), "{key}: {reason}");
            }
        }
    }
}
