//! Drivers that choose other knobs anew, or take them away, when one is written.

use super::*;

/// A driver that chooses knobs 1 and 2 anew when it is given other queues, which is knob 0.
fn driver() -> Memory {
    let mut host = host();
    host.resets = Some((knob(0), vec![knob(1), knob(2)]));
    host
}

#[test]
fn what_a_driver_resets_on_the_way_there_has_its_first_value_again_afterwards() {
    let (_dir, store) = store();
    let host = driver();
    let before = host.now();
    // Knob 2 has what is wanted, until the driver resets it.
    let plan = wanted(&[(0, "A"), (1, "B"), (2, "c")]);
    let done = apply(&host, &store, "x", &plan).unwrap();
    assert_eq!((&*done[1].from, &*done[1].to), ("b", "B"));
    let now = host.now();
    assert_eq!([0, 1, 2].map(|n| &*now[&knob(n)]), ["A", "B", "c"]);
    let old = store.load().unwrap();
    let old: Vec<&str> = old.old().map(|(_, old)| old).collect();
    assert_eq!(
        old,
        ["a", "b", "c"],
        "what was reset once is reset again on the way back"
    );
    rollback(&host, &store, false).unwrap();
    assert_eq!(host.now(), before);
}

#[test]
fn what_a_driver_resets_and_then_refuses_to_change_is_as_it_was() {
    let (_dir, store) = store();
    let mut host = driver();
    let before = host.now();
    host.makes = Some((knob(1), "B", "rounded"));
    apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B")])).unwrap();
    assert_eq!(host.now()[&knob(1)], "b");
    let is_so = |state: &State| !state.has_drifted();
    assert!(states(&host, &store.load().unwrap()).iter().all(is_so));
    rollback(&host, &store, false).unwrap();
    assert_eq!(host.now()[&knob(1)], before[&knob(1)]);

    host.refuses = Some(knob(1));
    apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B")])).unwrap();
    assert_eq!(host.now()[&knob(1)], "reset");
    host.refuses = None;
    rollback(&host, &store, false).unwrap();
    assert_eq!(host.now()[&knob(1)], before[&knob(1)], "remembered");
}

#[test]
fn a_run_that_is_killed_beside_a_driver_that_resets_loses_no_old_value() {
    let first = wanted(&[(0, "A"), (1, "B"), (2, "C")]);
    let second = wanted(&[(0, "AA"), (1, "B"), (2, "CC")]);
    for steps in 0.. {
        let (dir, store) = store();
        let host = driver();
        let before = host.now();
        let was_killed = killed_after(&host, steps, || {
            apply(&host, &store, "x", &first).unwrap();
            apply(&host, &store, "y", &second).unwrap();
        });
        rollback(&host, &at(dir.path()), false).unwrap();
        assert_eq!(host.now(), before, "after {steps} steps");
        if !was_killed {
            assert!(steps > 20, "only {steps} moments were tried");
            break;
        }
    }
}

#[test]
fn a_queue_that_goes_before_it_is_set_up_has_not_drifted() {
    let (_dir, store) = store();
    let mut host = host();
    host.removes = Some((knob(0), knob(1)));
    let done = apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B")])).unwrap();
    assert_eq!(done[1].outcome, Outcome::Gone);
    let journal = store.load().unwrap();
    assert_eq!(
        journal.entries.len(),
        2,
        "it may come back with another value"
    );
    assert!(
        states(&host, &journal)
            .iter()
            .all(|state| !state.has_drifted())
    );
}

#[test]
fn what_a_driver_resets_on_the_way_back_is_put_back_as_well() {
    let (_dir, store) = store();
    let mut host = host();
    let before = host.now();
    apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B")])).unwrap();
    host.resets = Some((knob(0), vec![knob(1)]));
    rollback(&host, &store, false).unwrap();
    assert_eq!(host.now(), before);
}
