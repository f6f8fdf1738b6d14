use super::*;
use crate::wire::{ipv4, ipv6};
use proptest::prelude::*;

const ROOM: usize = icmp::v6::MAX_LEN;

/// A packet of 60 bytes of either version, which an error can be about.
fn offender(version: u8) -> Vec<u8> {
    let mut bytes = vec![0; 60];
    if version == 4 {
        bytes[..4].copy_from_slice(&[0x45, 0, 0, 60]);
        bytes[8..10].copy_from_slice(&[64, protocol::TCP]);
        bytes[12..20].copy_from_slice(&[10, 0, 2, 9, 10, 0, 1, 7]);
    } else {
        bytes[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 20, protocol::TCP, 64]);
        bytes[8] = 0xfd;
        bytes[24] = 0xfd;
    }
    bytes
}

fn v4_error(code: u8, mtu: u16) -> Vec<u8> {
    let (mut out, bytes) = (vec![0; ROOM], offender(4));
    let offender = ipv4::Packet::new(&bytes).unwrap();
    let from = [10, 0, 1, 1].into();
    let len = v4::unreachable(&mut out, from, code, mtu, &offender).unwrap();
    out.truncate(len);
    out
}

fn v6_error(mtu: u32) -> Vec<u8> {
    let (mut out, bytes) = (vec![0; ROOM], offender(6));
    let offender = ipv6::Packet::new(&bytes).unwrap();
    let len = v6::packet_too_big(&mut out, "fd00::1".parse().unwrap(), mtu, &offender).unwrap();
    out.truncate(len);
    out
}

#[test]
fn errors_of_both_versions_name_the_mtu() {
    assert_eq!(told(&v4_error(v4::FRAGMENTATION_NEEDED, 1400)), Some(1400));
    assert_eq!(told(&v6_error(1400)), Some(1400));
    assert_eq!(told(&v6_error(100_000)), Some(u16::MAX));
}

#[test]
fn forged_errors_cannot_say_too_little() {
    let forged = v4_error(v4::FRAGMENTATION_NEEDED, 68);
    assert_eq!(told(&forged), Some(pmtu::MIN_V4));
    assert_eq!(told(&v6_error(0)), Some(pmtu::MIN_V6));
}

#[test]
fn nothing_else_says_anything() {
    assert_eq!(told(&[]), None);
    assert_eq!(told(&offender(4)), None);
    assert_eq!(told(&offender(6)), None);
    assert_eq!(told(&v4_error(v4::HOST_UNREACHABLE, 0)), None);
    // A router older than RFC 1191.
    assert_eq!(told(&v4_error(v4::FRAGMENTATION_NEEDED, 0)), None);
    let mut fragment = v4_error(v4::FRAGMENTATION_NEEDED, 1400);
    fragment[7] = 3;
    assert_eq!(told(&fragment), None);
}

#[test]
fn it_only_falls_and_news_are_told_once() {
    let pods = PodMtu::new(1450);
    assert!(!pods.learn(1450));
    assert!(pods.learn(1400));
    assert!(!pods.learn(1400));
    assert!(!pods.learn(1430));
    assert_eq!(pods.get(), 1400);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(mut bytes: Vec<u8>, version in 0_u8..16) {
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | *first & 0xf;
        }
        if let Some(mtu) = told(&bytes) {
            prop_assert!(mtu >= pmtu::MIN_V4);
        }
    }
}
