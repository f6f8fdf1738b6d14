use super::*;
use crate::wire::{ipv4, ipv6};
use proptest::prelude::*;

const ROOM: usize = icmp::v6::MAX_LEN;

/// A pod of this node, in the subnet of [`overlay`].
const POD_V4: &str = "10.0.1.7";
const POD_V6: &str = "fd00:1::7";

/// The address of the TUN, from which the node sends its errors.
const TUN_V4: &str = "10.0.1.0";
const TUN_V6: &str = "fd00:1::";

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn overlay() -> Overlay {
    Overlay {
        network_v4: Some("10.0.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: Some("fd00::/16".parse().unwrap()),
        subnet_len_v6: 64,
        own_v4: Some("10.0.1.0/24".parse().unwrap()),
        own_v6: Some("fd00:1::/64".parse().unwrap()),
        ..Overlay::default()
    }
}

/// The beginning of a TCP packet of `len` bytes from a pod of another node.
fn offender(dst: &str, len: u16) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    match addr(dst) {
        IpAddr::V4(dst) => {
            bytes[..4].copy_from_slice(&[0x45, 0, (len >> 8) as u8, len as u8]);
            bytes[8..10].copy_from_slice(&[64, protocol::TCP]);
            bytes[12..16].copy_from_slice(&[10, 0, 2, 9]);
            bytes[16..20].copy_from_slice(&dst.octets());
        }
        IpAddr::V6(dst) => {
            let [high, low] = (len - 40).to_be_bytes();
            bytes[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol::TCP, 64]);
            let src: std::net::Ipv6Addr = "fd00:2::9".parse().unwrap();
            bytes[8..24].copy_from_slice(&src.octets());
            bytes[24..40].copy_from_slice(&dst.octets());
        }
    }
    bytes
}

fn v4_error(from: &str, code: u8, mtu: u16, offender: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ROOM];
    let offender = ipv4::Packet::header_only(offender).unwrap();
    let from = from.parse().unwrap();
    let len = v4::unreachable(&mut out, from, code, mtu, &offender).unwrap();
    out.truncate(len);
    out
}

fn v6_error(from: &str, mtu: u32, offender: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ROOM];
    let offender = ipv6::Packet::header_only(offender).unwrap();
    let len = v6::packet_too_big(&mut out, from.parse().unwrap(), mtu, &offender).unwrap();
    out.truncate(len);
    out
}

/// What the node says of its pods.
fn v4_report(mtu: u16) -> Vec<u8> {
    let code = v4::FRAGMENTATION_NEEDED;
    v4_error(TUN_V4, code, mtu, &offender(POD_V4, 64_000))
}

fn v6_report(mtu: u32) -> Vec<u8> {
    v6_error(TUN_V6, mtu, &offender(POD_V6, 64_000))
}

fn mtu(pod: &str, mtu: u16) -> Option<PodMtu> {
    Some(PodMtu {
        pod: addr(pod),
        mtu,
    })
}

#[test]
fn errors_of_both_versions_name_pod_and_mtu() {
    let overlay = overlay();
    assert_eq!(reported(&v4_report(1400), &overlay), mtu(POD_V4, 1400));
    assert_eq!(reported(&v6_report(1400), &overlay), mtu(POD_V6, 1400));
    // To a port of the node itself that leads to a pod.
    let code = v4::FRAGMENTATION_NEEDED;
    let error = v4_error(TUN_V4, code, 1400, &offender(TUN_V4, 1450));
    assert_eq!(reported(&error, &overlay), mtu(TUN_V4, 1400));
}

#[test]
fn errors_cannot_say_too_little() {
    let overlay = overlay();
    assert_eq!(
        reported(&v4_report(68), &overlay),
        mtu(POD_V4, ipv4::MIN_PATH_MTU)
    );
    assert_eq!(
        reported(&v6_report(0), &overlay),
        mtu(POD_V6, ipv6::MIN_MTU)
    );
}

#[test]
fn what_the_node_did_not_send_is_not_believed() {
    let (overlay, code) = (overlay(), v4::FRAGMENTATION_NEEDED);
    let v4_of = |from: &str, dst: &str, len| {
        let error = v4_error(from, code, 1400, &offender(dst, len));
        reported(&error, &overlay)
    };
    let v6_of =
        |from: &str, dst: &str, len| reported(&v6_error(from, 1400, &offender(dst, len)), &overlay);
    assert_eq!(v4_of("10.0.1.9", POD_V4, 1450), None, "another pod says it");
    assert_eq!(v4_of(POD_V4, POD_V4, 1450), None, "the pod says it");
    assert_eq!(v4_of(TUN_V4, "10.0.2.7", 1450), None, "to no pod of ours");
    assert_eq!(v4_of(TUN_V4, POD_V4, 1400), None, "it was not too long");
    assert_eq!(v6_of("fd00:1::9", POD_V6, 1450), None);
    assert_eq!(v6_of(TUN_V6, "fd00:2::7", 1450), None);
    assert_eq!(v6_of(TUN_V6, POD_V6, 1400), None);
    // To one who did not send the packet, and with a checksum that is wrong, or missing.
    for (offset, bit) in [(19, 1), (22, 1), (23, 1)] {
        let mut error = v4_report(1400);
        error[offset] ^= bit;
        assert_eq!(reported(&error, &overlay), None, "{offset}");
    }
    for (offset, bit) in [(39, 1), (42, 1), (43, 1)] {
        let mut error = v6_report(1400);
        error[offset] ^= bit;
        assert_eq!(reported(&error, &overlay), None, "{offset}");
    }
    let mut cut = v4_report(1400);
    cut.truncate(28 + 19);
    cut[3] = 28 + 19;
    assert_eq!(reported(&cut, &overlay), None, "too little quoted");
}

#[test]
fn nothing_else_says_anything() {
    let overlay = overlay();
    assert_eq!(reported(&[], &overlay), None);
    assert_eq!(reported(&offender(POD_V4, 60), &overlay), None);
    assert_eq!(reported(&offender(POD_V6, 60), &overlay), None);
    let offender = offender(POD_V4, 1450);
    let other = v4_error(TUN_V4, v4::HOST_UNREACHABLE, 0, &offender);
    assert_eq!(reported(&other, &overlay), None);
    // A router older than RFC 1191.
    assert_eq!(reported(&v4_report(0), &overlay), None);
    let mut fragment = v4_report(1400);
    fragment[7] = 3;
    assert_eq!(reported(&fragment, &overlay), None);
    assert_eq!(reported(&v4_report(1400), &Overlay::default()), None);
}

#[test]
fn each_pod_has_its_own_for_its_time_and_a_change_is_reported_once() {
    let pods = PodMtus::new(1450);
    let reported = |pod: &str, mtu| PodMtu {
        pod: addr(pod),
        mtu,
    };
    assert!(pods.is_empty() && !pods.any(0));
    assert!(!pods.learn(reported(POD_V4, 1450), 0));
    assert!(
        !pods.learn(reported(POD_V4, 9000), 0),
        "more than the TUN carries"
    );
    assert_eq!(pods.least(), 1450);
    assert!(pods.learn(reported(POD_V4, 1400), 0));
    assert_eq!(pods.least(), 1400);
    assert!(!pods.learn(reported(POD_V4, 1400), 5));
    assert!(pods.learn(reported(POD_V6, 1300), 5));
    assert_eq!(pods.get(addr(POD_V4), 5), 1400);
    assert_eq!(pods.get(addr(POD_V6), 5), 1300);
    assert_eq!(pods.get(addr("10.0.1.8"), 5), 1450, "another pod");
    // It rises with what the node says, and when that is over.
    assert!(pods.learn(reported(POD_V6, 1430), 6));
    assert_eq!(pods.get(addr(POD_V6), 6), 1430);
    assert_eq!(pods.least(), 1300);
    assert_eq!(pods.get(addr(POD_V4), LIFETIME_MS + 4), 1400);
    assert_eq!(pods.get(addr(POD_V4), LIFETIME_MS + 5), 1450);
    assert!(pods.any(LIFETIME_MS + 5) && !pods.any(LIFETIME_MS + 6));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(mut bytes: Vec<u8>, version in 0_u8..16) {
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | *first & 0xf;
        }
        if let Some(reported) = reported(&bytes, &overlay()) {
            prop_assert!(reported.mtu >= ipv4::MIN_PATH_MTU);
        }
    }
}
