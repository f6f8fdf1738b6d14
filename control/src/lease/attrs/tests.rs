use super::*;
use proptest::prelude::*;

const MAC: MacAddr = MacAddr([0xc6, 0xd2, 0x32, 0x6f, 0x8f, 0x44]);

const V4: Ipv4Addr = Ipv4Addr::new(192, 168, 64, 3);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);
const DATA: VxlanData = VxlanData {
    vni: Vni::new(1).unwrap(),
    vtep_mac: MAC,
};

fn vxlan() -> LeaseAttrs {
    LeaseAttrs::vxlan(Some((V4, DATA)), None)
}

#[test]
fn u3_values_are_written_as_flannel_writes_them() {
    for (attrs, text) in [
        (
            LeaseAttrs::udp(Ipv4Addr::new(1, 2, 3, 4)),
            r#"{"PublicIP":"1.2.3.4","PublicIPv6":null}"#,
        ),
        (
            LeaseAttrs::alloc(Some(V4), Some(V6)),
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::3"}"#,
        ),
        (
            LeaseAttrs::host_gw(Some(V4), None),
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"host-gw"}"#,
        ),
        (
            vxlan(),
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#,
        ),
        (
            LeaseAttrs::vxlan(Some((V4, DATA)), Some((V6, DATA))),
            r#"{"PublicIP":"192.168.64.3","PublicIPv6":"fd00::3","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"},"BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#,
        ),
        (
            LeaseAttrs::vxlan(None, Some((V6, DATA))),
            r#"{"PublicIP":"192.0.0.8","PublicIPv6":"fd00::3","BackendType":"vxlan","BackendV6Data":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}"#,
        ),
    ] {
        assert_eq!(attrs.to_json(), text);
        assert_eq!(LeaseAttrs::parse(text), Ok(attrs));
    }
}

#[test]
fn a_node_is_known_by_ipv4_or_else_by_ipv6() {
    let other_v6 = Ipv6Addr::LOCALHOST;
    let dual = LeaseAttrs::alloc(Some(V4), Some(V6));
    let v4 = LeaseAttrs::udp(V4);
    let v6 = LeaseAttrs::alloc(None, Some(V6));
    assert_eq!(dual.identity(), IpAddr::from(V4));
    assert_eq!(v6.identity(), IpAddr::from(V6));
    // It gains or loses a family, or changes the address that it is not known by.
    for (a, b) in [(&dual, &v4), (&dual, &v6), (&v4, &v4), (&v6, &v6)] {
        assert!(a.same_node(b) && b.same_node(a), "{a:?} {b:?}");
    }
    assert!(dual.same_node(&LeaseAttrs::alloc(Some(V4), Some(other_v6))));
    let others = [
        (&v4, &v6),
        (
            &dual,
            &LeaseAttrs::alloc(Some(Ipv4Addr::LOCALHOST), Some(V6)),
        ),
        (&v6, &LeaseAttrs::alloc(None, Some(other_v6))),
        (
            &LeaseAttrs::alloc(None, None),
            &LeaseAttrs::alloc(None, None),
        ),
    ];
    for (a, b) in others {
        assert!(!a.same_node(b) && !b.same_node(a), "{a:?} {b:?}");
    }
}

#[test]
fn without_ipv4_no_public_ip_is_one_that_flanneld_takes_for_its_own() {
    for (text, public_ip) in [
        (r#"{"PublicIP":"192.0.0.8","PublicIPv6":"fd00::3"}"#, None),
        // Of flanneld, and of nodes that write none.
        (r#"{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::3"}"#, None),
        (r#"{"PublicIPv6":"fd00::3"}"#, None),
        (
            r#"{"PublicIP":"192.0.2.1","PublicIPv6":"fd00::3"}"#,
            Some("192.0.2.1"),
        ),
        (r#"{"PublicIP":"192.0.0.8"}"#, Some("192.0.0.8")),
    ] {
        let attrs = LeaseAttrs::parse(text).unwrap();
        let wanted: Option<Ipv4Addr> = public_ip.map(|ip| ip.parse().unwrap());
        assert_eq!(attrs.public_ip, wanted.unwrap_or(Ipv4Addr::UNSPECIFIED));
        let stored = attrs.to_json();
        let shown = public_ip.unwrap_or("192.0.0.8");
        assert!(
            stored.starts_with(&format!(r#"{{"PublicIP":"{shown}""#)),
            "{stored}"
        );
        assert_eq!(LeaseAttrs::parse(&stored), Ok(attrs));
    }
}

#[test]
fn macs_are_shared_by_nodes_of_one_family() {
    let other = |mac| VxlanData {
        vni: DATA.vni,
        vtep_mac: mac,
    };
    let (mine, another) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let v4 = |ip: u8, mac| Some((Ipv4Addr::new(192, 0, 2, ip), other(mac)));
    let v6 = |ip: u16, mac| Some((Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, ip), other(mac)));
    let own = LeaseAttrs::vxlan(v4(1, mine), v6(1, another));
    for (theirs, shared) in [
        (LeaseAttrs::vxlan(v4(2, mine), None), Some(mine)),
        (LeaseAttrs::vxlan(v4(2, mine), v6(2, another)), Some(mine)),
        (
            LeaseAttrs::vxlan(v4(2, MacAddr([2; 6])), v6(2, another)),
            Some(another),
        ),
        (LeaseAttrs::vxlan(None, v6(2, another)), Some(another)),
        // Each device knows its own only.
        (LeaseAttrs::vxlan(v4(2, another), v6(2, mine)), None),
        // This node itself, and nodes without MACs.
        (LeaseAttrs::vxlan(v4(1, mine), v6(1, another)), None),
        (
            LeaseAttrs::host_gw(v4(2, mine).map(|(ip, _)| ip), None),
            None,
        ),
        (
            LeaseAttrs {
                backend_type: "host-gw".into(),
                ..LeaseAttrs::vxlan(v4(2, mine), None)
            },
            None,
        ),
    ] {
        assert_eq!(own.shared_mac(&theirs), shared, "{theirs:?}");
        assert_eq!(theirs.shared_mac(&own), shared, "{theirs:?}");
    }
}

#[test]
fn values_round_trip() {
    let attrs = LeaseAttrs::parse(&vxlan().to_json()).unwrap();
    assert_eq!(attrs, vxlan());
    assert_eq!(attrs.vxlan_data(Family::V4).unwrap().vtep_mac, MAC);
}

#[test]
fn reading_is_tolerant() {
    let attrs = LeaseAttrs::parse(
        r#"{"publicip":"1.2.3.4","New":[{}],"backendTYPE":"vxlan","BackendData":{"vtepmac":"C6-D2-32-6F-8F-44","x":0}}"#,
    )
    .unwrap();
    assert_eq!(attrs.public_ip, Ipv4Addr::new(1, 2, 3, 4));
    assert_eq!(attrs.public_ipv6, None);
    let data = attrs.vxlan_data(Family::V4).unwrap();
    assert_eq!((data.vni.get(), data.vtep_mac), (0, MAC));
    let attrs = LeaseAttrs::parse(r#"{"PublicIPv6":"fd00::3"}"#).unwrap();
    assert_eq!(attrs, LeaseAttrs::alloc(None, Some(V6)));
}

/// Nobody sends to a peer's VNI, so that one of flannel's `uint32` that no frame carries costs
/// nobody the peer.
#[test]
fn a_peer_may_state_a_vni_of_32_bits() {
    for vni in [1 << 24, u32::MAX] {
        let data = format!(r#"{{"VNI":{vni},"VtepMAC":"{MAC}"}}"#);
        let text = format!(
            r#"{{"PublicIP":"1.2.3.4","PublicIPv6":null,"BackendType":"vxlan","BackendData":{data}}}"#
        );
        let attrs = LeaseAttrs::parse(&text).unwrap();
        assert_eq!(attrs.vxlan_data(Family::V4).unwrap().vtep_mac, MAC);
        assert_eq!(attrs.to_json(), text);
    }
}

#[test]
fn malformed_values_are_named() {
    for (text, message) in [
        ("{}", "PublicIP is missing"),
        (
            r#"{"PublicIP":"1.2.3"}"#,
            r#"PublicIP "1.2.3" is not an IPv4 address"#,
        ),
        (r#"{"PublicIP":7}"#, "PublicIP 7 is not an IPv4 address"),
        (
            r#"{"PublicIP":"1.2.3.4","BackendType":1}"#,
            "BackendType 1 is not a string",
        ),
    ] {
        assert_eq!(LeaseAttrs::parse(text).unwrap_err().to_string(), message);
    }
    for text in ["", "x", "[]", "{"] {
        let error = LeaseAttrs::parse(text).unwrap_err().to_string();
        assert!(error.starts_with("not a JSON object: "), "{error}");
    }
}

#[test]
fn malformed_backend_data_is_named() {
    for (text, message) in [
        ("{}", "VtepMAC is missing"),
        (r#"{"VtepMAC":null}"#, "VtepMAC is missing"),
        (
            r#"{"VtepMAC":"c6:d2:32:6f:8f"}"#,
            "VtepMAC c6:d2:32:6f:8f is not a MAC address such as 0e:12:34:56:78:9a",
        ),
        (
            r#"{"VtepMAC":"c6:d2:32:6f:8f:44","VNI":-1}"#,
            "VNI -1 is not a VNI",
        ),
        (
            r#"{"VtepMAC":"c6:d2:32:6f:8f:44","VNI":4294967296}"#,
            "VNI 4294967296 is not a VNI",
        ),
    ] {
        assert_eq!(VxlanData::parse(text).unwrap_err().to_string(), message);
    }
}

proptest! {
    #[test]
    fn any_text_is_a_value_or_an_error(text in "\\PC*") {
        let _ = LeaseAttrs::parse(&text);
        let _ = VxlanData::parse(&text);
    }

    #[test]
    fn mutated_values_never_panic(at: usize, byte in 0_u8..128) {
        let mut text = vxlan().to_json().into_bytes();
        let at = at % text.len();
        text[at] = byte;
        let text = String::from_utf8(text).unwrap();
        if let Ok(attrs) = LeaseAttrs::parse(&text) {
            let _ = attrs.vxlan_data(Family::V4);
            prop_assert_eq!(&LeaseAttrs::parse(&attrs.to_json()).unwrap(), &attrs);
        }
    }
}
