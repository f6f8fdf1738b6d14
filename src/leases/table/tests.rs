use super::*;
use std::time::Duration;
use weft_control::lease::LeaseAttrs;

fn record(key: &str, value: &str, life: Life) -> Record {
    Record {
        key: key.to_owned(),
        subnets: key.parse().ok(),
        value: value.to_owned(),
        attrs: LeaseAttrs::parse(value).map_err(|error| error.to_string()),
        life,
        etcd_lease: 0x694d,
        revision: 7,
        conflicts: Vec::new(),
    }
}

const VXLAN: &str = r#"{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}}"#;
const UDP: &str = r#"{"PublicIP":"192.0.2.200","PublicIPv6":null}"#;
const DUAL: &str = r#"{"PublicIP":"192.0.2.3","PublicIPv6":"2001:db8::3","BackendType":"host-gw"}"#;

fn leased(granted: u64, left: u64) -> Life {
    Life::Leased {
        granted: Duration::from_secs(granted),
        left: Duration::from_secs(left),
    }
}

#[test]
fn columns_are_aligned_and_conflicts_named_below() {
    let mut bad = record("10.5.300.0-24", "nonsense", leased(60, 0));
    bad.conflicts = vec!["the key names no subnet".to_owned()];
    let records = [
        record("10.5.7.0-24", VXLAN, leased(86_400, 86_400 - 750)),
        record("10.5.100.0-24", UDP, Life::Reserved),
        bad,
    ];
    assert_eq!(
        list(&records),
        "\
SUBNET         PUBLIC IP    BACKEND  MAC                RENEWED     ENDS       STATE
10.5.7.0/24    192.0.2.1    vxlan    0a:00:00:00:00:01  12m30s ago  in 23h47m  leased
10.5.100.0/24  192.0.2.200  -        -                  -           never      reserved
10.5.300.0-24  -            -        -                  1m00s ago   now        CONFLICT
CONFLICT 10.5.300.0-24: the key names no subnet
3 leases, 1 of them reserved, 1 with conflicts
"
    );
}

#[test]
fn ipv6_columns_come_with_the_first_lease_that_has_them() {
    let records = [
        record("10.5.7.0-24", VXLAN, Life::Reserved),
        record("10.5.8.0-24&fd00:8::-64", DUAL, Life::Reserved),
        record(
            "0.0.0.0-0&fd00:9::-64",
            &DUAL.replace("192.0.2.3", "0.0.0.0"),
            Life::Reserved,
        ),
    ];
    assert_eq!(
        list(&records),
        "\
SUBNET       IPV6 SUBNET  PUBLIC IP  PUBLIC IPV6  BACKEND  MAC                RENEWED  ENDS   STATE
10.5.7.0/24  -            192.0.2.1  -            vxlan    0a:00:00:00:00:01  -        never  reserved
10.5.8.0/24  fd00:8::/64  192.0.2.3  2001:db8::3  host-gw  -                  -        never  reserved
-            fd00:9::/64  -          2001:db8::3  host-gw  -                  -        never  reserved
3 leases, 3 of them reserved, 0 with conflicts
"
    );
}

#[test]
fn an_empty_network_is_a_heading_and_a_sum() {
    let text = list(&[]);
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.ends_with("0 leases, 0 of them reserved, 0 with conflicts\n"));
}

#[test]
fn details_are_a_line_each() {
    let text = details(&record("10.5.7.0-24", VXLAN, leased(86_400, 3600)));
    for line in [
        "key           10.5.7.0-24",
        "MAC           0a:00:00:00:00:01",
        "granted for   1d00h",
        "renewed       23h00m ago",
        "ends          in 1h00m",
        "etcd lease    694d",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[test]
fn changes_are_one_line() {
    let lease = || record("10.5.7.0-24", VXLAN, Life::Reserved);
    assert_eq!(
        change(&LeaseChange::New(lease())),
        "new      10.5.7.0-24 192.0.2.1 vxlan 0a:00:00:00:00:01 reserved"
    );
    let bad = record("10.5.7.0-24", "nonsense", Life::Unasked);
    assert!(change(&LeaseChange::Changed(bad)).starts_with("changed  10.5.7.0-24 unreadable: "));
    assert_eq!(
        change(&LeaseChange::Interrupted("no answer".to_owned())),
        "interrupted: no answer; retrying"
    );
    assert_eq!(change(&LeaseChange::Resumed), "resumed");
    assert_eq!(
        change_json("now", &LeaseChange::Resumed)["event"],
        "resumed"
    );
    let value = change_json("now", &LeaseChange::Deleted(lease()));
    assert_eq!(value["event"], "deleted");
    assert_eq!(value["lease"]["mac"], "0a:00:00:00:00:01");
    assert_eq!(value["lease"]["ttl_seconds"], Value::Null);
}

#[test]
fn control_characters_of_keys_and_values_never_get_out() {
    let value = VXLAN.replace("vxlan", r"vx\u001b[31mlan\n");
    let mut odd = record("10.5\n\u{1b}[2J.7.0-24", &value, Life::Reserved);
    odd.conflicts = vec!["overlaps with 10.5\u{7}".to_owned()];
    let mut raw = record("10.5.8.0-24", "{\u{1b}]0;\n}", Life::Reserved);
    raw.attrs = Err("no JSON: \u{1b}".to_owned());
    for (text, lines) in [
        (list(&[odd.clone(), raw.clone()]), 5),
        (details(&odd), 16),
        (details(&raw), 15),
        (change(&LeaseChange::New(odd)), 1),
        (change(&LeaseChange::Changed(raw)), 1),
        (change(&LeaseChange::Interrupted("\u{1b}c".to_owned())), 1),
    ] {
        let shown: Vec<&str> = text.lines().collect();
        assert_eq!(shown.len(), lines, "{text:?}");
        assert!(
            shown.iter().all(|line| !line.contains(char::is_control)),
            "{text:?}"
        );
    }
}
