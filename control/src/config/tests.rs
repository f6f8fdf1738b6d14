use super::*;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn parse(text: &str) -> NetworkConfig {
    NetworkConfig::parse(text).unwrap()
}

fn range(network: &str, subnet_len: u8, min: &str, max: &str) -> Option<NetworkRange> {
    Some(NetworkRange {
        network: network.parse().unwrap(),
        subnet_len,
        min: min.parse().unwrap(),
        max: max.parse().unwrap(),
    })
}

fn error(text: &str) -> String {
    let error = NetworkConfig::parse(text).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn u17_defaults_for_ipv4() {
    let config = parse(r#"{"network":"10.3.0.0/16"}"#);
    assert_eq!(
        config.ranges,
        PerFamily {
            v4: range("10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"),
            v6: None,
        }
    );
    assert!(!config.enable_nftables);
    assert_eq!(config.backend.kind, "udp");
}

#[test]
fn u17_defaults_for_ipv6() {
    let config = parse(r#"{"enableIPv4":false,"enableIPv6":true,"ipv6Network":"fc00::/48"}"#);
    let v6 = range("fc00::/48", 64, "fc00:0:0:1::", "fc00:0:0:ffff::");
    assert_eq!(config.ranges, PerFamily { v4: None, v6 });
}

#[test]
fn u17_overrides() {
    let config = parse(
        r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SUBNETMAX":"10.3.8.0","subnetlen":28,
            "EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::",
            "IPv6SubnetMax":"fc00:0:0:f::","IPv6SubnetLen":124,"EnableNFTables":true}"#,
    );
    assert!(config.enable_nftables);
    assert_eq!(
        config.ranges,
        PerFamily {
            v4: range("10.3.0.0/16", 28, "10.3.5.0", "10.3.8.0"),
            v6: range("fc00::/48", 124, "fc00:0:0:1::", "fc00:0:0:f::"),
        }
    );
}

#[test]
fn host_bits_are_masked_and_the_last_of_several_values_wins() {
    let config = parse(r#"{"Network":"10.9.0.0/16","Extra":{},"network":"10.3.4.5/16"}"#);
    let v4 = range("10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0");
    assert_eq!(config.ranges.v4, v4);
}

#[test]
fn default_lengths_leave_room_for_four_subnets() {
    for (network, len) in [
        ("10.0.0.0/8", 24),
        ("10.0.0.0/22", 24),
        ("10.0.0.0/23", 25),
        ("10.0.0.0/28", 30),
    ] {
        let config = parse(&format!(r#"{{"Network":"{network}"}}"#));
        assert_eq!(config.ranges.v4.unwrap().subnet_len, len, "{network}");
    }
    for (network, len) in [("fd00::/62", 64), ("fd00::/63", 65), ("fd00::/124", 126)] {
        let text = format!(r#"{{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"{network}"}}"#);
        assert_eq!(parse(&text).ranges.v6.unwrap().subnet_len, len, "{network}");
    }
}

#[test]
fn every_broken_rule_is_one_line_with_key_value_and_rule() {
    for (text, message) in [
        (
            "{}",
            "Network is missing: name the pod network, such as 10.5.0.0/16",
        ),
        (
            r#"{"Network":"10.3.0.0"}"#,
            "Network 10.3.0.0: must be a network such as 10.5.0.0/16",
        ),
        (
            r#"{"Network":16}"#,
            "Network 16: must be a network such as 10.5.0.0/16",
        ),
        (
            r#"{"Network":"10.3.0.0/29"}"#,
            "Network 10.3.0.0/29: too small: the prefix must be at most /28",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetLen":31}"#,
            "SubnetLen 31: must be at most 30",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetLen":17}"#,
            "SubnetLen 17: must be at least 18, so that 10.3.0.0/16 holds four subnets",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetLen":"24"}"#,
            r#"SubnetLen "24": must be a positive integer"#,
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetLen":-1}"#,
            "SubnetLen -1: must be a positive integer",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"10.4.0.0"}"#,
            "SubnetMin 10.4.0.0: must be inside Network",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMax":"10.4.0.0"}"#,
            "SubnetMax 10.4.0.0: must be inside Network",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.1.8"}"#,
            "SubnetMin 10.3.1.8: must be the first address of a subnet of length 24: 10.3.1.0 is the nearest before it",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"10.3.9.0","SubnetMax":"10.3.8.0"}"#,
            "SubnetMin 10.3.9.0: must not be after SubnetMax 10.3.8.0",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetMin":"x"}"#,
            "SubnetMin x: must be an address such as 10.5.1.0",
        ),
        (
            r#"{"EnableIPv4":false}"#,
            "EnableIPv4 false: at least one of EnableIPv4 and EnableIPv6 must be true",
        ),
        (
            r#"{"EnableIPv4":"yes"}"#,
            r#"EnableIPv4 "yes": must be true or false"#,
        ),
        (
            r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","IPv6SubnetLen":127}"#,
            "IPv6SubnetLen 127: must be at most 126",
        ),
        (
            r#"{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/125"}"#,
            "IPv6Network fd00::/125: too small: the prefix must be at most /124",
        ),
        (
            r#"{"Network":"10.3.0.0/16","Backend":"vxlan"}"#,
            r#"Backend "vxlan": must be a JSON object"#,
        ),
        (
            r#"{"Network":"10.3.0.0/16","Backend":{"Type":3}}"#,
            "Type 3: must be a string",
        ),
    ] {
        assert_eq!(error(text), format!("network config: {message}"), "{text}");
    }
    for text in ["", "[]", "{", "no"] {
        let message = error(text);
        assert!(
            message.starts_with("network config is not a JSON object: "),
            "{message}"
        );
    }
}

/// A config with this Backend object.
fn with_backend(backend: &str) -> NetworkConfig {
    parse(&format!(
        r#"{{"Network":"10.3.0.0/16","Backend":{backend}}}"#
    ))
}

#[test]
fn vxlan_options_have_flannels_defaults() {
    let config = with_backend(r#"{"type":"VXLAN"}"#);
    let options = VxlanOptions::parse(&config.backend).unwrap();
    assert_eq!(
        (options.vni.get(), options.port, options.mtu),
        (1, 8472, None)
    );
    let zeros = with_backend(r#"{"Type":"vxlan","Port":0,"MTU":0,"GBP":false,"vni":0}"#);
    let options = VxlanOptions::parse(&zeros.backend).unwrap();
    assert_eq!(
        (options.vni.get(), options.port, options.mtu),
        (0, 8472, None)
    );
    let given = with_backend(r#"{"Type":"vxlan","vni":16777215,"PORT":4789,"mtu":9000}"#);
    let options = VxlanOptions::parse(&given.backend).unwrap();
    assert_eq!(
        (options.vni.get(), options.port, options.mtu),
        (16_777_215, 4789, Some(9000))
    );
}

#[test]
fn vxlan_options_out_of_range_are_named() {
    for (backend, message) in [
        (
            r#"{"VNI":16777216}"#,
            "VNI 16777216: must be between 0 and 16777215",
        ),
        (r#"{"VNI":-1}"#, "VNI -1: must be between 0 and 16777215"),
        (r#"{"VNI":"1"}"#, r#"VNI "1": must be an integer"#),
        (
            r#"{"Port":65536}"#,
            "Port 65536: must be between 1 and 65535",
        ),
        (r#"{"MTU":625}"#, "MTU 625: must be between 626 and 65535"),
        (
            r#"{"MTU":65536}"#,
            "MTU 65536: must be between 626 and 65535",
        ),
        (r#"{"Learning":1}"#, "Learning 1: must be true or false"),
    ] {
        let error = VxlanOptions::parse(&with_backend(backend).backend).unwrap_err();
        assert_eq!(error.to_string(), format!("network config: {message}"));
    }
}

#[test]
fn vxlan_flags() {
    let flags = |backend: &str| {
        let options = VxlanOptions::parse(&with_backend(backend).backend)?;
        Ok::<_, ConfigError>((options.gbp, options.direct_routing))
    };
    assert_eq!(flags(r#"{"Type":"vxlan"}"#), Ok((false, false)));
    assert_eq!(flags(r#"{"GBP":true,"learning":false}"#), Ok((true, false)));
    assert_eq!(flags(r#"{"directrouting":true}"#), Ok((false, true)));
    let learning = flags(r#"{"Learning":true}"#).unwrap_err().to_string();
    assert!(learning.contains("Learning true: ") && learning.contains("set it to false"));
}

#[test]
fn unknown_backends_are_answered_with_the_list() {
    for (text, value) in [
        (r#"{"Network":"10.3.0.0/16","Backend":{}}"#, "(empty)"),
        (r#"{"Network":"10.3.0.0/16","Backend":null}"#, "(empty)"),
        (
            r#"{"Network":"10.3.0.0/16","Backend":{"Type":"WireGuard"}}"#,
            "wireguard",
        ),
    ] {
        let list = SUPPORTED_BACKENDS.join(", ");
        let message = format!("network config: Backend Type {value}: must be one of {list}");
        assert_eq!(parse(text).unknown_backend().to_string(), message);
    }
}

proptest! {
    #[test]
    fn u27_any_text_is_a_config_or_an_error(text in "\\PC*") {
        let _ = NetworkConfig::parse(&text);
    }

    #[test]
    fn u27_any_values_are_a_config_or_an_error(
        net: u32, len in 0_u8..40, subnet_len in -1_i64..200, min: u32, max: u32,
        v6: u128, len6 in 0_u8..130, subnet_len6 in -1_i64..200, backend in "[{}a-zA-Z:\",0-9]{0,20}",
    ) {
        let text = format!(
            r#"{{"Network":"{}/{len}","SubnetLen":{subnet_len},"SubnetMin":"{}","SubnetMax":"{}",
                "EnableIPv6":true,"IPv6Network":"{}/{len6}","IPv6SubnetLen":{subnet_len6},
                "Backend":{backend}}}"#,
            Ipv4Addr::from(net), Ipv4Addr::from(min), Ipv4Addr::from(max), Ipv6Addr::from(v6),
        );
        if let Ok(config) = NetworkConfig::parse(&text) {
            let _ = VxlanOptions::parse(&config.backend);
        }
    }

    #[test]
    fn u27_every_network_gets_a_range_inside_itself(
        net: u32, len in 0_u8..=28, v6: u128, len6 in 0_u8..=124,
    ) {
        let config = parse(&format!(
            r#"{{"Network":"{}/{len}","EnableIPv6":true,"IPv6Network":"{}/{len6}"}}"#,
            Ipv4Addr::from(net), Ipv6Addr::from(v6),
        ));
        for family in Family::BOTH {
            let NetworkRange { network, min, max, .. } = config.ranges.of(family).unwrap();
            prop_assert!(network.contains(&min) && network.contains(&max));
            prop_assert!(min < max);
        }
    }
}
