use super::*;

const BOTH: PerFamily<bool> = PerFamily { v4: true, v6: true };
const V4: PerFamily<bool> = PerFamily {
    v4: true,
    v6: false,
};
const VXLAN: &str = r#"{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}"#;

fn read(json: &str) -> Result<Annotations, String> {
    let text = RawValue::from_string(json.to_owned()).unwrap();
    Annotations::read(&text, &AnnotationPrefix::default())
}

fn of(pairs: &[(Key, &str)]) -> Annotations {
    let mut found = Annotations::default();
    for (key, value) in pairs {
        found.set(*key, *value);
    }
    found
}

/// As flanneld writes them.
fn vxlan() -> Annotations {
    of(&[
        (Key::Managed, "true"),
        (Key::BackendType, "vxlan"),
        (Key::BackendData, VXLAN),
        (Key::PublicIp, "192.168.64.3"),
    ])
}

#[test]
fn values_are_in_the_order_of_keys() {
    for (index, key) in Key::ALL.into_iter().enumerate() {
        assert_eq!(key as usize, index);
    }
}

#[test]
fn those_with_the_prefix_are_picked() {
    let found = read(
        r#"{"kubeadm.alpha.kubernetes.io/cri-socket":"unix:///x","other.com/backend-type":"x",
        "flannel.alpha.coreos.com/backend-type":"vxlan","flannel.alpha.coreos.com/unknown":1,
        "flannel.alpha.coreos.com/backend-data":"{\"VNI\":1,\"VtepMAC\":\"c6:d2:32:6f:8f:44\"}",
        "flannel.alpha.coreos.com/public-ip":"192.168.64.3",
        "flannel.alpha.coreos.com/kube-subnet-manager":"true","volumes.x":7}"#,
    );
    assert_eq!(found, Ok(vxlan()));
    assert_eq!(read("null"), Ok(Annotations::default()));
    assert_eq!(read("{}"), Ok(Annotations::default()));
    let bad = read(r#"{"flannel.alpha.coreos.com/public-ip":[1,2]}"#);
    assert_eq!(bad, Err("public-ip [1,2] is no text".to_owned()));
    for json in ["[]", "1", "\"x\""] {
        assert!(read(json).is_err(), "{json}");
    }
}

#[test]
fn a_vxlan_node_is_read() {
    let attrs = vxlan().attrs(V4).unwrap().unwrap();
    let json = format!(
        r#"{{"PublicIP":"192.168.64.3","PublicIPv6":null,"BackendType":"vxlan","BackendData":{VXLAN}}}"#
    );
    assert_eq!(attrs.to_json(), json);
    let mut dual = vxlan();
    dual.set(Key::BackendV6Data, VXLAN);
    dual.set(Key::PublicIpv6, "2001:db8::3");
    let attrs = dual.attrs(BOTH).unwrap().unwrap();
    assert_eq!(attrs.public_ipv6, Some("2001:db8::3".parse().unwrap()));
    assert_eq!(attrs.macs()[1], attrs.macs()[0]);
    // A family that the network has not is nobody's concern.
    dual.set(Key::PublicIpv6, "x");
    assert_eq!(dual.attrs(V4).unwrap().unwrap().public_ipv6, None);
}

#[test]
fn nodes_that_are_not_flannels_are_none() {
    for value in [None, Some(""), Some("false"), Some("True")] {
        let mut found = vxlan();
        found.0[Key::Managed as usize] = value.map(str::to_owned);
        assert_eq!(found.attrs(V4), Ok(None), "{value:?}");
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (key, value, reason) in [
        (Key::PublicIp, "", "public-ip is missing"),
        (Key::PublicIp, "0.0.0.0", "public-ip is missing"),
        (
            Key::PublicIp,
            "10.0.0",
            "public-ip \"10.0.0\" is no IPv4 address",
        ),
        (Key::PublicIp, "::1", "public-ip \"::1\" is no IPv4 address"),
        (Key::BackendData, "{", "backend-data: not a JSON object"),
        (Key::BackendData, "{}", "backend-data: VtepMAC is missing"),
        (
            Key::BackendData,
            r#"{"VtepMAC":"zz"}"#,
            "backend-data: VtepMAC zz is not a MAC address",
        ),
    ] {
        let mut found = vxlan();
        found.set(key, value);
        let error = found.attrs(V4).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    let mut other = of(&[
        (Key::Managed, "true"),
        (Key::BackendType, "extension"),
        (Key::BackendData, "{"),
        (Key::PublicIp, "10.0.0.1"),
    ]);
    assert!(other.attrs(V4).unwrap_err().contains("is no JSON"));
    other.set(Key::BackendData, "7");
    assert!(other.attrs(V4).unwrap().is_some());
}

fn wanted(attrs: &LeaseAttrs) -> Vec<(&'static str, String)> {
    let (wanted, wrong) = Annotations::default().wanted(attrs);
    assert_eq!(wrong, [""; 0]);
    wanted
        .into_iter()
        .map(|(key, value)| (key.name(), value))
        .collect()
}

#[test]
fn what_is_written_is_flannelds_byte_for_byte() {
    let data = VxlanData {
        vni: crate::wire::Vni::new(1).unwrap(),
        vtep_mac: "c6:d2:32:6f:8f:44".parse().unwrap(),
    };
    let (v4, v6) = ([192, 168, 64, 3].into(), "2001:db8::3".parse().unwrap());
    let pairs = |attrs| -> Vec<String> {
        let wanted = wanted(&attrs).into_iter();
        wanted
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    };
    let managed = "kube-subnet-manager=true".to_owned();
    let vxlan_data = format!("backend-data={VXLAN}");
    let vxlan_v6_data = format!("backend-v6-data={VXLAN}");
    let public = "public-ip=192.168.64.3".to_owned();
    let public_v6 = "public-ipv6=2001:db8::3".to_owned();
    let kind = |kind: &str| format!("backend-type={kind}");
    let null = "backend-data=null".to_owned();
    assert_eq!(
        pairs(LeaseAttrs::vxlan(Some((v4, data)), Some((v6, data)))),
        [
            managed.clone(),
            kind("vxlan"),
            vxlan_data.clone(),
            public.clone(),
            vxlan_v6_data.clone(),
            public_v6.clone()
        ]
    );
    assert_eq!(
        pairs(LeaseAttrs::vxlan(None, Some((v6, data)))),
        [
            managed.clone(),
            kind("vxlan"),
            vxlan_v6_data,
            public_v6.clone()
        ]
    );
    assert_eq!(
        pairs(LeaseAttrs::host_gw(Some(v4), Some(v6))),
        [
            managed.clone(),
            kind("host-gw"),
            null.clone(),
            public.clone(),
            "backend-v6-data=null".to_owned(),
            public_v6
        ]
    );
    let untyped = [managed, kind(""), null, public];
    assert_eq!(pairs(LeaseAttrs::udp(v4)), untyped);
    assert_eq!(pairs(LeaseAttrs::alloc(Some(v4), None)), untyped);
}

#[test]
fn an_overwrite_is_told_in_place_of_the_own_address() {
    let attrs = vxlan().attrs(V4).unwrap().unwrap();
    let mut now = vxlan();
    assert_eq!(now.missing(now.wanted(&attrs).0), []);
    now.set(Key::PublicIpOverwrite, "172.18.0.2");
    let missing = now.missing(now.wanted(&attrs).0);
    assert_eq!(missing, [(Key::PublicIp, "172.18.0.2".to_owned())]);
    now.set(Key::PublicIp, "172.18.0.2");
    assert_eq!(now.missing(now.wanted(&attrs).0), []);
    // One that is none leaves the own address, and is told.
    now.set(Key::PublicIpOverwrite, "nat.example.com");
    let (wanted, wrong) = now.wanted(&attrs);
    assert_eq!(now.missing(wanted)[0].1, "192.168.64.3");
    assert_eq!(wrong.len(), 1);
    assert!(
        wrong[0].starts_with("public-ip-overwrite \"nat"),
        "{wrong:?}"
    );
}

#[test]
fn people_tell_addresses_by_family() {
    let told = of(&[
        (Key::NodePublicIp, "10.0.0.7"),
        (Key::NodePublicIpv6, "10.0.0.8"),
    ]);
    let (addrs, wrong) = told.node_public();
    assert_eq!(addrs.v4, Some([10, 0, 0, 7].into()));
    assert_eq!(addrs.v6, None);
    assert_eq!(wrong, ["node-public-ipv6 \"10.0.0.8\" is no IPv6 address"]);
}

#[test]
fn a_patch_has_full_names_and_takes_away_by_null() {
    let prefix = "org.com/x".parse().unwrap();
    let values = [(Key::BackendData, Some(VXLAN)), (Key::Managed, None)];
    let patch = String::from_utf8(patch(&prefix, values)).unwrap();
    let wanted = r#"{"metadata":{"annotations":{"org.com/x-backend-data":"{\"VNI\":1,\"VtepMAC\":\"c6:d2:32:6f:8f:44\"}","org.com/x-kube-subnet-manager":null}}}"#;
    assert_eq!(patch, wanted);
}
