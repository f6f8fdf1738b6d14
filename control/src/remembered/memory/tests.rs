use super::*;
use crate::lease::choose;
use proptest::prelude::*;

const PREFIX: &str = "/coreos.com/network/";
const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;

fn attrs(last: u8) -> LeaseAttrs {
    let mac = format!("0e:00:00:00:00:{last:02x}");
    let json = format!(
        r#"{{"PublicIP":"192.0.2.{last}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
    );
    LeaseAttrs::parse(&json).unwrap()
}

fn key(third: u8) -> SubnetKey {
    format!("10.5.{third}.0-24").parse().unwrap()
}

fn memory() -> Memory {
    let peers = [2, 3].map(|last| (key(last), Arc::new(attrs(last))));
    Memory {
        written: NOW - HOUR,
        since_boot: None,
        config: CONFIG.to_owned(),
        advertised: PerFamily::default(),
        own: Own {
            key: key(1),
            attrs: attrs(1),
            revision: 7,
            ends: Some(NOW + HOUR),
        },
        peers: Arc::new(peers.into()),
    }
}

fn mismatch(memory: &Memory, config: &NetworkConfig, attrs: &LeaseAttrs) -> Option<String> {
    memory.mismatch(config, attrs, |key| choose::compatible(config, key))
}

fn config(text: &str) -> NetworkConfig {
    NetworkConfig::parse(text).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let reserved = Memory {
        own: Own {
            ends: None,
            ..memory().own
        },
        peers: Peers::default(),
        ..memory()
    };
    let told = Memory {
        advertised: PerFamily {
            v4: Some([192, 0, 2, 1].into()),
            v6: Some("2001:db8::1".parse().unwrap()),
        },
        ..memory()
    };
    for memory in [memory(), reserved, told] {
        let text = memory.render(PREFIX);
        assert_eq!(Memory::parse(&text, PREFIX).as_ref(), Ok(&memory));
    }
    let text = String::from_utf8(memory().render(PREFIX)).unwrap();
    let as_in_etcd = format!(r#""10.5.2.0-24":{}"#, attrs(2).to_json());
    assert!(text.contains(&as_in_etcd), "{text}");
}

#[test]
fn a_node_without_ipv4_is_read_as_it_was() {
    let mut memory = memory();
    memory.own.key = "0.0.0.0-0&fd00:5:0:1::-64".parse().unwrap();
    memory.own.attrs = LeaseAttrs::host_gw(None, Some("2001:db8::1".parse().unwrap()));
    let text = memory.render(PREFIX);
    assert_eq!(Memory::parse(&text, PREFIX), Ok(memory));
}

#[test]
fn what_cannot_be_read_is_one_line() {
    let text = String::from_utf8(memory().render(PREFIX)).unwrap();
    for (from, to, reason) in [
        ("/coreos.com/network/", "/other/", "network /other/, not of"),
        ("10.5.2.0-24", "10.5.2.1-24", "it names no subnet"),
        ("10.5.2.0-24", "x/10.5.2.0-24", "it names no subnet"),
        ("192.0.2.3", "192.0.2.300", "PublicIP"),
        ("10.5.1.0-24", "10.5.1.0", "it names no subnet"),
        ("10.5.0.0/16", "10.5.0.0/99", "network config: "),
        ("\"revision\":7", "\"revision\":\"7\"", "cannot be read"),
        ("\"ends\"", "\"end\"", "cannot be read"),
        ("{", "[", "cannot be read"),
    ] {
        let altered = text.replacen(from, to, 1);
        let error = Memory::parse(altered.as_bytes(), PREFIX).unwrap_err();
        assert!(error.contains(reason), "{to}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    for len in 0..text.len() {
        assert!(Memory::parse(&text.as_bytes()[..len], PREFIX).is_err());
    }
}

#[test]
fn a_lease_that_has_ended_is_not_used_unless_it_is_asked_for() {
    let memory = memory();
    assert_eq!(memory.refusal(NOW, false), None);
    assert_eq!(memory.refusal(NOW + HOUR - 1, false), None);
    let reason = memory.refusal(NOW + HOUR, false).unwrap();
    assert!(
        reason.contains("10.5.1.0-24 in it ended 0s ago") && reason.contains("-use-ended-lease"),
        "{reason}"
    );
    let reason = memory.refusal(NOW + 3 * HOUR, false).unwrap();
    assert!(reason.contains("ended 2h00m ago"), "{reason}");
    assert_eq!(memory.refusal(NOW + 1000 * HOUR, true), None);
    let mut reserved = memory;
    reserved.own.ends = None;
    assert_eq!(reserved.refusal(NOW + 1000 * HOUR, false), None);
}

#[test]
fn times_that_cannot_be_are_refused_whatever_is_asked_for() {
    for use_ended in [false, true] {
        let mut memory = memory();
        memory.written = NOW + CLOCK_SLACK;
        assert_eq!(memory.refusal(NOW, use_ended), None);
        memory.written += 1;
        let reason = memory.refusal(NOW, use_ended).unwrap();
        assert!(reason.contains("written 1m01s from now"), "{reason}");
        memory.written = u64::MAX;
        assert!(memory.refusal(NOW, use_ended).is_some());

        memory.written = NOW - HOUR;
        memory.own.ends = Some(NOW + LIFE_MAX);
        assert_eq!(memory.refusal(NOW, use_ended), None);
        for ends in [NOW + LIFE_MAX + 1, u64::MAX] {
            memory.own.ends = Some(ends);
            let reason = memory.refusal(NOW, use_ended).unwrap();
            assert!(reason.contains("which no lease does"), "{reason}");
        }
    }
}

#[test]
fn it_is_for_the_same_node_in_the_same_network_only() {
    let memory = memory();
    let same = config(r#"{ "Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"} }"#);
    assert_eq!(mismatch(&memory, &same, &attrs(1)), None, "spelt otherwise");
    let mut other_mac = attrs(2);
    other_mac.public_ip = [192, 0, 2, 1].into();
    let mut other_v6 = attrs(1);
    other_v6.public_ipv6 = Some("2001:db8::1".parse().unwrap());
    for (config_text, attrs, reason) in [
        (&*CONFIG.replace("10.5.", "10.6."), attrs(1), "is another"),
        (&CONFIG.replace("vxlan", "host-gw"), attrs(1), "is another"),
        (CONFIG, attrs(9), "is of 192.0.2.1, not of 192.0.2.9"),
        (CONFIG, other_mac, "has another MAC"),
        (CONFIG, other_v6, "has other attributes"),
    ] {
        let found = mismatch(&memory, &config(config_text), &attrs).unwrap();
        assert!(found.contains(reason), "{found}");
    }
    let mut outside = memory;
    outside.own.key = "10.9.1.0-24".parse().unwrap();
    let found = mismatch(&outside, &same, &attrs(1)).unwrap();
    assert!(
        found.contains("does not allow the lease 10.9.1.0-24"),
        "{found}"
    );
}

#[test]
fn times_of_the_same_boot_are_right_although_the_clock_was_set() {
    let now = Clock::read();
    // Three hours ago by a clock that goes; then somebody set it, ahead or back.
    for set in [10 * HOUR as i64, -10 * HOUR as i64, 0] {
        let written = Clock {
            now: (now.now - 3 * HOUR).saturating_add_signed(-set),
            up: now.up.saturating_sub(3 * HOUR),
        };
        let Some(since_boot) = SinceBoot::at(written) else {
            return eprintln!("skipped: boots have no names here");
        };
        // A machine that was booted less than three hours ago.
        let age = now.up - written.up;
        let mut found = memory();
        found.since_boot = Some(since_boot);
        found.written = written.now;
        found.own.ends = Some(written.now + 21 * HOUR);
        found.follow_clock(now);
        let is_close = |told: u64, expected: u64| told.abs_diff(expected) <= 3;
        assert!(is_close(now.now - found.written, age), "{set}");
        let left = found.own.ends.unwrap() - now.now;
        assert!(is_close(left, 21 * HOUR - age), "{set}: {left}");
        assert_eq!(found.refusal(now.now, false), None);
    }
}

#[test]
fn times_of_an_earlier_boot_are_those_of_the_clock() {
    let now = Clock::read();
    let text = String::from_utf8(memory().render(PREFIX)).unwrap();
    for since_boot in [r#"{"id":"another","up":5}"#, "null"] {
        let text = text.replace("null,\"prefix\"", &format!("{since_boot},\"prefix\""));
        let mut found = Memory::parse(text.as_bytes(), PREFIX).unwrap();
        assert_eq!(found.since_boot.is_some(), since_boot != "null");
        found.follow_clock(now);
        assert_eq!(found.written, memory().written);
        assert_eq!(found.own, memory().own);
    }
    // Nor did the first versions of the file have it.
    let without = text.replace(r#""since_boot":null,"#, "");
    assert_ne!(without, text);
    assert_eq!(Memory::parse(without.as_bytes(), PREFIX), Ok(memory()));
}

proptest! {
    #[test]
    fn any_bytes_are_a_memory_or_a_line(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Err(reason) = Memory::parse(&bytes, PREFIX) {
            prop_assert!(!reason.chars().any(char::is_control), "{reason:?}");
        }
    }

    #[test]
    fn any_alteration_is_a_memory_or_a_line(at in 0..700_usize, byte in any::<u8>(), now in any::<u64>()) {
        let mut text = memory().render(PREFIX);
        let at = at % text.len();
        text[at] = byte;
        match Memory::parse(&text, PREFIX) {
            Ok(memory) => {
                let now = now % (u64::MAX / 2);
                if memory.refusal(now, true).is_none() {
                    memory.own.lease();
                }
            }
            Err(reason) => prop_assert!(!reason.chars().any(char::is_control), "{reason:?}"),
        }
    }
}
