//! The file as a store, without a network.

mod store;

use super::content::derived_mac;
use super::poll::Poller;
use super::*;
use crate::family::Family;
use proptest::prelude::*;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use tempfile::TempDir;

const CONFIG: &str =
    "[config]\nNetwork = \"10.5.0.0/16\"\nBackend = { Type = \"vxlan\", VNI = 7 }\n";
const NEWS: Duration = Duration::from_secs(10);

fn entry(n: u8) -> String {
    format!("[[leases]]\nSubnet = \"10.5.{n}.0/24\"\nPublicIP = \"192.0.2.{n}\"\n")
}

fn file(nodes: &[u8]) -> String {
    let entries = nodes.iter().map(|&n| entry(n));
    std::iter::once(CONFIG.to_owned()).chain(entries).collect()
}

fn toml(text: &str) -> Result<FileContent, String> {
    FileContent::parse(text, Format::Toml)
}

fn attrs(n: u8) -> LeaseAttrs {
    LeaseAttrs::alloc(Some([192, 0, 2, n].into()), None)
}

#[test]
fn json_and_toml_hold_the_same_leases() {
    let json = r#"{"config":{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":7}},
        "leases":[{"Subnet":"10.5.1.1/24","PublicIP":"192.0.2.1"},
                  {"subnet":"10.5.2.0/24","publicip":"192.0.2.2"}]}"#;
    let json = FileContent::parse(json, Format::Json).unwrap();
    let toml = toml(&file(&[1, 2])).unwrap();
    assert_eq!(json.leases(), toml.leases());
    assert_eq!(json.config, toml.config);
    assert_eq!(
        json.leases()[1].attrs.to_json(),
        r#"{"PublicIP":"192.0.2.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":7,"VtepMAC":"0e:00:c0:00:02:02"}}"#,
        "what is left out is filled in"
    );
}

/// A file with that many leases, as it takes 170 bytes for each.
fn large(leases: u32) -> String {
    let lease = |n: u32| {
        let subnet = std::net::Ipv4Addr::from(0x0a00_0000 + (n << 8));
        let public = std::net::Ipv4Addr::from(0xc000_0000 + n);
        let end = if n == leases { "" } else { "," };
        format!("{{\"Subnet\": \"{subnet}/24\",\n \"PublicIP\": \"{public}\"}}{end}\n")
    };
    let leases: String = (1..=leases).map(lease).collect();
    let config = r#"{"Network":"10.0.0.0/8","SubnetLen":24,"Backend":{"Type":"vxlan"}}"#;
    format!("{{\"config\": {config},\n\"leases\": [\n{leases}]}}\n")
}

#[test]
fn the_time_for_a_file_grows_with_its_length_alone() {
    let time = |leases| {
        let text = large(leases);
        let took = || {
            let begun = std::time::Instant::now();
            let content = FileContent::parse(&text, Format::Json).unwrap();
            assert_eq!(content.leases().len(), leases as usize);
            begun.elapsed()
        };
        // The best of several: others use this machine, too.
        (0..3).map(|_| took()).min().unwrap()
    };
    let (short, long) = (time(1_000), time(16_000));
    assert!(long < 64 * short, "16 times as long: {short:?}, {long:?}");
}

#[test]
fn many_changes_are_told_at_once() {
    let content = |leases| -> BTreeMap<SubnetKey, Lease> {
        let content = FileContent::parse(&large(leases), Format::Json).unwrap();
        let leases = content.leases().iter();
        leases.map(|lease| (lease.key(), lease.clone())).collect()
    };
    let (few, many) = (content(10), content(1_000));
    assert_eq!(changes(&content(7), &few).len(), 3);
    match &changes(&few, &many)[..] {
        [LeaseEvent::Snapshot(all)] => assert_eq!(all.len(), 1_000),
        other => panic!("{} events", other.len()),
    }
}

#[test]
fn what_an_entry_states_counts() {
    let mac = "[leases.BackendData]\nVtepMAC = \"c6:d2:32:6f:8f:44\"\n";
    let content = toml(&(file(&[1]) + mac)).unwrap();
    let data = content.leases()[0].attrs.vxlan_data(Family::V4).unwrap();
    assert_eq!(data.vtep_mac.to_string(), "c6:d2:32:6f:8f:44");
    for (kind, expected) in [
        ("host-gw", r#","BackendType":"host-gw"}"#),
        ("udp", "null}"),
    ] {
        let content = toml(&file(&[1]).replace("vxlan", kind)).unwrap();
        let text = content.leases()[0].attrs.to_json();
        assert!(text.ends_with(expected), "{text}");
    }
}

#[test]
fn both_families_share_the_derived_mac() {
    let config = "[config]\nEnableIPv6 = true\nNetwork = \"10.5.0.0/16\"\n\
                  IPv6Network = \"fd00:5::/48\"\nBackend.Type = \"vxlan\"\n";
    let more = "IPv6Subnet = \"fd00:5:0:1::/64\"\nPublicIPv6 = \"2001:db8::1\"\n";
    let content = toml(&format!("{config}{}{more}", entry(1))).unwrap();
    let lease = &content.leases()[0];
    assert_eq!(lease.key().to_string(), "10.5.1.0-24&fd00:5:0:1::-64");
    let mac = derived_mac("192.0.2.1".parse().unwrap());
    assert_eq!(lease.attrs.vxlan_data(Family::V4).unwrap().vtep_mac, mac);
    assert_eq!(lease.attrs.vxlan_data(Family::V6).unwrap().vtep_mac, mac);

    let v6_only = config.replace("Network = \"10", "EnableIPv4 = false\nNetwork = \"10");
    let content = toml(&format!("{v6_only}[[leases]]\n{more}")).unwrap();
    let data = content.leases()[0].attrs.vxlan_data(Family::V6).unwrap();
    assert_eq!(data.vtep_mac, derived_mac("2001:db8::1".parse().unwrap()));
}

#[test]
fn u25_derived_macs_are_local_and_unicast() {
    for address in [
        "192.0.2.1",
        "255.255.255.255",
        "::",
        "2001:db8::1",
        "2001:db8::2",
    ] {
        let mac = derived_mac(address.parse::<IpAddr>().unwrap());
        assert_eq!(mac.0[0] & 0x03, 0x02, "{address}");
    }
    assert_ne!(
        derived_mac("2001:db8::1".parse().unwrap()),
        derived_mac("2001:db8::2".parse().unwrap())
    );
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let lease = |text: &str| format!("{CONFIG}{}[[leases]]\n{text}", entry(1));
    let subnet = "Subnet = \"10.5.2.0/24\"\n";
    let ip = "PublicIP = \"192.0.2.2\"\n";
    for (text, reason) in [
        (subnet.to_owned(), "PublicIP is missing"),
        (ip.to_owned(), "Subnet is missing"),
        (
            format!("{ip}Subnet = \"x\"\n"),
            "Subnet x is not a subnet such as 10.5.1.0/24",
        ),
        (
            format!("{ip}Subnet = 5\n"),
            "Subnet 5 is not a subnet such as 10.5.1.0/24",
        ),
        (
            format!("{ip}Subnet = \"10.6.2.0/24\"\n"),
            "Subnet 10.6.2.0/24 must have length 24 and lie inside Network 10.5.0.0/16",
        ),
        (
            format!("{ip}Subnet = \"10.5.2.0/25\"\n"),
            "Subnet 10.5.2.0/25 must have length 24 and lie inside Network 10.5.0.0/16",
        ),
        (
            format!("{ip}{subnet}IPv6Subnet = \"fd00::/64\"\n"),
            "IPv6Subnet is given, but the config has no IPv6Network",
        ),
        (
            format!("{subnet}PublicIP = \"h2\"\n"),
            "PublicIP \"h2\" is not an IPv4 address",
        ),
        (
            format!("{subnet}PublicIP = \"0.0.0.0\"\n"),
            "PublicIP 0.0.0.0 is no address of a host",
        ),
        (
            format!("{subnet}PublicIp4 = \"1.2.3.4\"\n"),
            "unknown key \"PublicIp4\"; a lease has Subnet,",
        ),
        (
            format!("{subnet}{ip}BackendData = {{ VtepMAC = \"x\" }}\n"),
            "BackendData: VtepMAC x is not a MAC address such as 0e:12:34:56:78:9a",
        ),
        (
            format!("{subnet}{ip}BackendData = {{ VtepMAC = \"ff:ff:ff:ff:ff:ff\" }}\n"),
            "BackendData: VtepMAC ff:ff:ff:ff:ff:ff is not that of one node",
        ),
        (
            format!("{ip}Subnet = \"10.5.1.0/24\"\n"),
            "Subnet 10.5.1.0/24 is that of line 4 already",
        ),
        (
            format!("{subnet}PublicIP = \"192.0.2.1\"\n"),
            "PublicIP 192.0.2.1 is that of line 4 already",
        ),
        (
            format!("{subnet}{ip}BackendData = {{ VtepMAC = \"0e:00:c0:00:02:01\" }}\n"),
            "VtepMAC 0e:00:c0:00:02:01 is that of line 4 already",
        ),
    ] {
        let error = toml(&lease(&text)).unwrap_err();
        assert!(
            error.starts_with(&format!("line 7: {reason}")),
            "{text}: {error}"
        );
    }
    let error = toml("[config]\nNetwork = \"10.5.0.0\"\n").unwrap_err();
    assert!(
        error.starts_with("line 1: network config: Network 10.5.0.0: must be"),
        "{error}"
    );
}

#[test]
fn u21_subnets_lie_inside_their_network() {
    for (network, subnet, inside) in [
        ("10.0.0.0/8", "10.255.255.0/24", true),
        ("10.5.0.0/16", "10.5.0.0/24", true),
        ("10.5.0.0/16", "10.5.255.0/24", true),
        ("10.5.0.0/16", "10.6.0.0/24", false),
        ("10.5.0.0/16", "10.4.255.0/24", false),
        ("10.5.0.0/16", "10.0.0.0/8", false),
        ("10.5.0.0/16", "fd00:5::/64", false),
        ("fd00:5::/48", "fd00:5:0:ffff::/64", true),
        ("fd00:5::/48", "fd00:5:1::/64", false),
        ("fd00:5::/48", "fd00::/16", false),
    ] {
        let v6 = network.contains(':');
        let prefix = if v6 { "IPv6" } else { "" };
        let address = if v6 {
            "PublicIPv6 = \"2001:db8::1\""
        } else {
            "PublicIP = \"192.0.2.1\""
        };
        let text = format!(
            "[config]\nEnableIPv4 = {}\nEnableIPv6 = {v6}\n{prefix}Network = \"{network}\"\n\
             [[leases]]\n{prefix}Subnet = \"{subnet}\"\n{address}\n",
            !v6
        );
        let read = toml(&text).map(drop);
        assert_eq!(read.is_ok(), inside, "{network} {subnet}: {read:?}");
    }
}

#[test]
fn another_address_of_the_host_names_its_interface() {
    let local = LocalAddress {
        addr: "192.0.2.1".parse().unwrap(),
        name: "eth1".to_owned(),
        choice: "eth1".to_owned(),
    };
    let content = toml(&file(&[1])).unwrap();
    assert_eq!(
        content.elsewhere(&attrs(9), &local),
        "no lease for 192.0.2.9, this node's address, but one for 192.0.2.1, which is on eth1 of \
         this node; start again with -iface=eth1, or add the other"
    );
}

#[test]
fn a_file_without_a_free_subnet_asks_for_no_entry() {
    let text = |network: &str| {
        let small = format!("Network = \"{network}\"\nSubnetLen = 24\n");
        file(&[1, 2, 3]).replace("Network = \"10.5.0.0/16\"\n", &small)
    };
    let full = toml(&text("10.5.0.0/22")).unwrap().missing(&attrs(9));
    assert_eq!(
        full,
        "no lease for 192.0.2.9, this node's address, and every Subnet of the network is taken; \
         enlarge Network or remove an entry"
    );
    let larger = toml(&text("10.5.0.0/21")).unwrap().missing(&attrs(9));
    assert!(larger.contains("Subnet = \"10.5.4.0/24\""), "{larger}");
}

#[test]
fn the_entry_to_add_is_shown() {
    let shown = toml(&file(&[1])).unwrap().missing(&attrs(9));
    assert_eq!(
        shown,
        "no lease for 192.0.2.9, this node's address; add these lines: \
         [[leases]] / Subnet = \"10.5.2.0/24\" / PublicIP = \"192.0.2.9\""
    );
    let lines = shown.split_once(": ").unwrap().1.replace(" / ", "\n");
    let added = toml(&(file(&[1]) + &lines)).unwrap();
    assert!(added.lease_of(&attrs(9)).is_some(), "and is right as it is");

    let dual = "[config]\nEnableIPv6 = true\nNetwork = \"10.5.0.0/16\"\n\
                IPv6Network = \"fd00:5::/48\"\nBackend.Type = \"vxlan\"\n";
    let address = "2001:db8::9".parse().unwrap();
    let node = LeaseAttrs::alloc(Some([192, 0, 2, 9].into()), Some(address));
    let shown = toml(dual).unwrap().missing(&node);
    let wanted = r#"IPv6Subnet = "fd00:5:0:1::/64" / PublicIPv6 = "2001:db8::9""#;
    assert!(shown.ends_with(wanted), "{shown}");

    let json = r#"{"config":{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}}"#;
    let shown = FileContent::parse(json, Format::Json)
        .unwrap()
        .missing(&attrs(9));
    let wanted = r#"add this to "leases": {"Subnet":"10.5.1.0/24","PublicIP":"192.0.2.9"}"#;
    assert!(shown.ends_with(wanted), "{shown}");
}

proptest! {
    #[test]
    fn any_text_is_a_file_or_a_reason(text in "\\PC*") {
        let _ = FileContent::parse(&text, Format::Toml);
        let _ = FileContent::parse(&text, Format::Json);
    }

    #[test]
    fn mutated_files_never_panic(at: usize, byte in 0_u8..128) {
        let mut text = file(&[1, 2]).into_bytes();
        let at = at % text.len();
        text[at] = byte;
        if let Err(reason) = toml(&String::from_utf8(text).unwrap()) {
            prop_assert_eq!(reason.lines().count(), 1);
        }
    }
}
