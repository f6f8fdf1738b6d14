use super::*;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::Ipv4Addr;

fn v4(last: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x0a00_0000 + last).into()
}

#[test]
fn a_lesson_is_for_its_address_and_its_time() {
    let paths = PathMtus::new();
    assert!(paths.is_empty());
    assert_eq!(paths.get(v4(1), 0), None);
    paths.learn(v4(1), 1400, 5);
    assert!(!paths.is_empty() && paths.any(5));
    assert_eq!(paths.get(v4(1), 5), Some(1400));
    assert_eq!(paths.get(v4(2), 5), None);
    assert_eq!(paths.get(v4(1), LIFETIME_MS + 4), Some(1400));
    assert_eq!(paths.get(v4(1), LIFETIME_MS + 5), None);
    assert!(!paths.any(LIFETIME_MS + 5));
}

#[test]
fn the_latest_lesson_counts_whether_smaller_or_larger() {
    let paths = PathMtus::new();
    for mtu in [1400, 1300, 1450] {
        paths.learn(v4(1), mtu, 0);
        assert_eq!(paths.get(v4(1), 0), Some(mtu));
    }
    paths.learn(v4(1), 1420, 1000);
    assert_eq!(paths.get(v4(1), LIFETIME_MS + 999), Some(1420));
}

#[test]
fn one_at_a_time_is_to_ask_whether_a_lesson_holds() {
    let paths = PathMtus::new();
    paths.learn(v4(1), 1400, 0);
    let known = |now, is_due| {
        let known = Some(KnownMtu { mtu: 1400, is_due });
        assert_eq!(paths.look(v4(1), now), known, "{now} ms");
    };
    known(ASK_EVERY_MS - 1, false);
    known(ASK_EVERY_MS, true);
    known(ASK_EVERY_MS, false);
    known(2 * ASK_EVERY_MS, true);
    paths.learn(v4(1), 1400, 3 * ASK_EVERY_MS);
    known(4 * ASK_EVERY_MS - 1, false);
    known(3 * ASK_EVERY_MS + LIFETIME_MS - 1, true);
    paths.forget(v4(1), 4 * ASK_EVERY_MS);
    assert_eq!(paths.look(v4(1), 4 * ASK_EVERY_MS), None);
    paths.learn(v4(1), 1300, 5 * ASK_EVERY_MS);
    assert_eq!(paths.get(v4(1), 5 * ASK_EVERY_MS), Some(1300));
}

#[test]
fn mtus_below_the_least_are_not_believed() {
    let paths = PathMtus::new();
    let v6 = "fd00::1".parse().unwrap();
    for addr in [v4(1), v6, "::ffff:192.0.2.1".parse().unwrap()] {
        paths.learn(addr, 68, 0);
    }
    assert_eq!(paths.get(v4(1), 0), Some(552));
    assert_eq!(paths.get(v6, 0), Some(1280));
    let mapped = "192.0.2.1".parse().unwrap();
    assert_eq!(paths.get(mapped, 0), Some(552), "the same host");
}

#[test]
fn addresses_that_differ_in_any_bit_are_told_apart() {
    let paths = PathMtus::new();
    let base = 0xfd00_u128 << 112;
    paths.learn(IpAddr::V6(base.into()), 1300, 0);
    for bit in 0..128 {
        let other = IpAddr::V6((base ^ 1 << bit).into());
        assert_eq!(paths.get(other, 0), None, "bit {bit}");
    }
}

#[test]
fn more_paths_than_slots_push_out_the_oldest() {
    let paths = PathMtus::new();
    let all = 0..50_000u32;
    for n in all.clone() {
        paths.learn(v4(n), 1400, u64::from(n));
        assert_eq!(paths.get(v4(n), u64::from(n)), Some(1400));
    }
    let now = u64::from(all.end);
    let known: Vec<u32> = all.filter(|&n| paths.get(v4(n), now).is_some()).collect();
    assert!(known.len() <= SETS * WAYS && known.len() > SETS * WAYS / 2);
    // Spread evenly, the last thousand learned are the ones that are known.
    let median = known[known.len() / 2];
    assert!(median > 49_000, "{median}");
}

#[test]
fn a_place_whose_time_is_over_is_taken_before_others() {
    let paths = PathMtus::new();
    let set = |n: u32| hash_addr(v4(n)) >> 56;
    let mut same = (0..).filter(|&n| set(n) == set(0));
    let mut names = [0; WAYS + 1];
    names.fill_with(|| same.next().unwrap());
    for (i, &n) in names[..WAYS].iter().enumerate() {
        // The third was learned first.
        paths.learn(v4(n), 1400, if i == 2 { 0 } else { 1000 });
    }
    paths.learn(v4(names[WAYS]), 1300, 2000);
    let known = names.map(|n| paths.get(v4(n), 2000).is_some());
    assert_eq!(known, [true, true, false, true, true]);
}

#[test]
fn readers_never_see_half_a_lesson() {
    let paths = PathMtus::new();
    // All in one set, so that slots change hands all the time.
    let set = |n: u32| hash_addr(v4(n)) >> 56;
    let names: Vec<u32> = (0..).filter(|&n| set(n) == set(0)).take(12).collect();
    let mtu = |n: u32| 600 + (n % 10_000) as u16;
    std::thread::scope(|scope| {
        for part in names.chunks(6) {
            let paths = &paths;
            scope.spawn(move || {
                for round in 0..20_000 {
                    let n = part[round % part.len()];
                    paths.learn(v4(n), mtu(n), round as u64);
                }
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                let mut found = 0;
                for round in 0..100_000 {
                    let n = names[round % names.len()];
                    if let Some(got) = paths.get(v4(n), 0) {
                        assert_eq!(got, mtu(n));
                        found += 1;
                    }
                }
                found
            });
        }
    });
    // Whoever writes last leaves its slot whole.
    let known = names.iter().filter(|&&n| paths.get(v4(n), 0).is_some());
    assert_eq!(known.count(), WAYS);
}

proptest! {
    /// What the table says is what was last learned and is still in force; it may have
    /// forgotten, but with so few addresses it has not.
    #[test]
    fn it_agrees_with_a_map(steps in prop::collection::vec((0u32..40, 552u16..9000, 0u64..200_000), 1..60)) {
        let paths = PathMtus::new();
        let mut map = HashMap::new();
        let mut now = 0;
        let mut crowded = [0usize; SETS];
        for n in 0..40 {
            crowded[(hash_addr(v4(n)) >> 56) as usize] += 1;
        }
        prop_assume!(crowded.iter().all(|&n| n <= WAYS));
        for (n, mtu, wait) in steps {
            now += wait;
            paths.learn(v4(n), mtu, now);
            map.insert(n, (mtu, now + LIFETIME_MS));
            for n in 0..40 {
                let expected = map.get(&n).filter(|(_, until)| now < *until).map(|(mtu, _)| *mtu);
                prop_assert_eq!(paths.get(v4(n), now), expected);
            }
        }
    }
}
