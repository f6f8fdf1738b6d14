use super::*;
use crate::lease::LeaseAttrs;

const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

fn vxlan(public_ip: &str, mac: u8) -> String {
    format!(
        r#"{{"PublicIP":"{public_ip}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{mac:02x}"}}}}"#
    )
}

fn record(key: &str, value: &str) -> Record {
    Record {
        key: key.to_owned(),
        subnets: key.parse().ok(),
        value: value.to_owned(),
        attrs: LeaseAttrs::parse(value).map_err(|error| error.to_string()),
        life: Life::Unasked,
        etcd_lease: 1,
        revision: 1,
        conflicts: Vec::new(),
    }
}

/// What is said of each of these leases, all of one network.
fn marked(config: &str, leases: &[(&str, String)]) -> Vec<Vec<String>> {
    let config = NetworkConfig::parse(config).unwrap();
    let mut records: Vec<Record> = leases.iter().map(|(k, v)| record(k, v)).collect();
    mark(&mut records, Some(&config));
    records.into_iter().map(|record| record.conflicts).collect()
}

#[test]
fn leases_that_fit_together_have_no_conflict() {
    let leases = [
        ("10.5.7.0-24", vxlan("192.0.2.1", 1)),
        ("10.5.8.0-24", vxlan("192.0.2.2", 2)),
    ];
    assert_eq!(marked(CONFIG, &leases), [[""; 0]; 2]);
}

#[test]
fn one_address_or_mac_on_two_leases_is_said_of_both() {
    let leases = [
        ("10.5.7.0-24", vxlan("192.0.2.1", 1)),
        ("10.5.8.0-24", vxlan("192.0.2.1", 2)),
        ("10.5.9.0-24", vxlan("192.0.2.3", 2)),
    ];
    let address = "public address 192.0.2.1 is also that of";
    let mac = "MAC address 0a:00:00:00:00:02 is also that of";
    assert_eq!(
        marked(CONFIG, &leases),
        [
            vec![format!("{address} 10.5.8.0-24")],
            vec![
                format!("{address} 10.5.7.0-24"),
                format!("{mac} 10.5.9.0-24")
            ],
            vec![format!("{mac} 10.5.8.0-24")],
        ]
    );
}

#[test]
fn overlapping_subnets_are_said_of_both() {
    let dual = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}"#;
    let leases = [
        ("10.5.7.0-24&fd00:0:0:7::-64", vxlan("192.0.2.1", 1)),
        ("10.5.8.0-24&fd00:0:0:7::-64", vxlan("192.0.2.2", 2)),
        ("10.5.8.128-25&fd00:0:0:9::-64", vxlan("192.0.2.3", 3)),
    ];
    let mut found = marked(dual, &leases);
    found[1].sort();
    let [a, b, c] = leases.each_ref().map(|(key, _)| *key);
    assert_eq!(found[0], [format!("overlaps with {b}")]);
    assert_eq!(
        found[1],
        [format!("overlaps with {a}"), format!("overlaps with {c}")]
    );
    let rule = "the network config does not allow this subnet".to_owned();
    assert_eq!(found[2], [rule, format!("overlaps with {b}")]);
}

#[test]
fn what_no_node_can_use_is_named() {
    let no_mac = vxlan("192.0.2.4", 4).replace("VtepMAC", "Mac");
    let host_gw = r#"{"PublicIP":"192.0.2.5","PublicIPv6":null,"BackendType":"host-gw"}"#;
    let untyped = r#"{"PublicIP":"192.0.2.6","PublicIPv6":null}"#;
    for (key, value, words) in [
        ("10.5.7.0", vxlan("192.0.2.1", 1), "the key names no subnet"),
        (
            "10.5.7.0-24",
            "nonsense".to_owned(),
            "the value cannot be read",
        ),
        (
            "10.6.7.0-24",
            vxlan("192.0.2.3", 3),
            "does not allow this subnet",
        ),
        (
            "10.5.7.0-25",
            vxlan("192.0.2.3", 3),
            "does not allow this subnet",
        ),
        (
            "10.5.7.0-24",
            no_mac,
            "the vxlan data cannot be read: VtepMAC is missing",
        ),
        ("10.5.7.0-24", host_gw.to_owned(), "its backend is host-gw"),
        (
            "10.5.7.0-24",
            untyped.to_owned(),
            "the value names no backend",
        ),
    ] {
        let found = marked(CONFIG, &[(key, value)]);
        assert_eq!(found[0].len(), 1, "{found:?}");
        assert!(found[0][0].contains(words), "{found:?}");
    }
}

#[test]
fn a_reservation_without_a_backend_waits_for_its_node() {
    let config = NetworkConfig::parse(CONFIG).unwrap();
    let value = r#"{"PublicIP":"192.0.2.6","PublicIPv6":null}"#;
    let reserved = Record {
        life: Life::Reserved,
        ..record("10.5.7.0-24", value)
    };
    let mut records = [reserved];
    mark(&mut records, Some(&config));
    assert_eq!(records[0].conflicts, [""; 0]);
}
