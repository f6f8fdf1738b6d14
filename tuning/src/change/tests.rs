//! Hosts in memory, on which runs are killed at every step.

mod drivers;

use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use tempfile::TempDir;

/// A host whose user dies when `steps` are used up: before a read, before a write, or behind one.
struct Memory {
    values: RefCell<BTreeMap<Knob, String>>,
    steps: Cell<usize>,
    refuses: Option<Knob>,
    /// What one knob resets when it is written.
    resets: Option<(Knob, Vec<Knob>)>,
    /// What goes when one knob is written.
    removes: Option<(Knob, Knob)>,
    /// A value of one knob, and what the kernel makes of it.
    makes: Option<(Knob, &'static str, &'static str)>,
}

/// What a dying run panics with.
struct Killed;

impl Memory {
    fn new(values: &[(Knob, &str)]) -> Memory {
        let values = values
            .iter()
            .map(|(knob, value)| (knob.clone(), (*value).to_owned()));
        Memory {
            values: RefCell::new(values.collect()),
            steps: Cell::new(usize::MAX),
            refuses: None,
            resets: None,
            removes: None,
            makes: None,
        }
    }

    fn step(&self) {
        match self.steps.get().checked_sub(1) {
            Some(left) => self.steps.set(left),
            None => panic::resume_unwind(Box::new(Killed)),
        }
    }

    fn set(&self, knob: &Knob, value: &str) {
        self.values
            .borrow_mut()
            .insert(knob.clone(), value.to_owned());
    }

    fn now(&self) -> BTreeMap<Knob, String> {
        self.values.borrow().clone()
    }
}

impl Knobs for Memory {
    fn read(&self, knob: &Knob) -> Result<String, KnobError> {
        self.step();
        let value = self.values.borrow().get(knob).cloned();
        value.ok_or(KnobError::Gone)
    }

    fn write(&self, knob: &Knob, value: &str) -> Result<(), KnobError> {
        self.step();
        if self.refuses.as_ref() == Some(knob) {
            return Err(KnobError::Refused("read-only".to_owned()));
        }
        let made = match &self.makes {
            Some((own, wish, made)) if own == knob && *wish == value => made,
            _ => value,
        };
        self.set(knob, made);
        if let Some((cause, victims)) = &self.resets
            && cause == knob
        {
            victims.iter().for_each(|victim| self.set(victim, "reset"));
        }
        if let Some((cause, victim)) = &self.removes
            && cause == knob
        {
            self.values.borrow_mut().remove(victim);
        }
        self.step();
        Ok(())
    }
}

fn knob(number: u32) -> Knob {
    Knob::Governor { cpu: number }
}

fn host() -> Memory {
    Memory::new(&[
        (knob(0), "a"),
        (knob(1), "b"),
        (knob(2), "c"),
        (knob(3), "d"),
    ])
}

fn wanted(pairs: &[(u32, &str)]) -> Vec<(Knob, String)> {
    let pairs = pairs.iter();
    pairs
        .map(|(number, value)| (knob(*number), (*value).to_owned()))
        .collect()
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = at(dir.path());
    (dir, store)
}

fn at(dir: &Path) -> Store {
    Store::at(&dir.join("tune.json"), "boot")
}

/// Run `f` on a host that kills it after so many steps; whether it was killed.
fn killed_after(host: &Memory, steps: usize, f: impl FnOnce()) -> bool {
    host.steps.set(steps);
    let outcome = panic::catch_unwind(AssertUnwindSafe(f));
    host.steps.set(usize::MAX);
    match outcome {
        Ok(()) => false,
        Err(panic) if panic.is::<Killed>() => true,
        Err(panic) => panic::resume_unwind(panic),
    }
}

#[test]
fn rollback_restores_exactly_what_apply_has_changed() {
    let (_dir, store) = store();
    let host = host();
    let before = host.now();
    let done = apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "b"), (2, "C")])).unwrap();
    assert_eq!(done.len(), 2, "one was right already: {done:?}");
    assert!(done.iter().all(|done| done.outcome == Outcome::Made));
    assert_eq!(host.now()[&knob(0)], "A");
    let states = states(&host, &store.load().unwrap());
    assert!(states.iter().all(|state| !state.has_drifted()));
    let done = rollback(&host, &store, false).unwrap();
    let order: Vec<&str> = done.iter().map(|done| &*done.knob).collect();
    assert_eq!(
        order,
        ["cpu2 scaling_governor", "cpu0 scaling_governor"],
        "the last one first"
    );
    assert_eq!(host.now(), before);
    assert!(rollback(&host, &store, false).unwrap().is_empty());
}

#[test]
fn a_second_apply_keeps_the_first_old_values() {
    let (_dir, store) = store();
    let host = host();
    let before = host.now();
    let plan = wanted(&[(0, "A"), (1, "B")]);
    apply(&host, &store, "x", &plan).unwrap();
    assert!(apply(&host, &store, "x", &plan).unwrap().is_empty());
    apply(&host, &store, "x", &wanted(&[(0, "AA"), (1, "B")])).unwrap();
    assert_eq!(host.now()[&knob(0)], "AA");
    rollback(&host, &store, false).unwrap();
    assert_eq!(host.now(), before);
}

#[test]
fn another_profile_takes_back_what_it_does_not_want() {
    let (_dir, store) = store();
    let host = host();
    let before = host.now();
    apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B")])).unwrap();
    let done = apply(&host, &store, "y", &wanted(&[(1, "B"), (2, "C")])).unwrap();
    assert_eq!(done[0].outcome, Outcome::Restored);
    let now = host.now();
    assert_eq!([0, 1, 2].map(|n| &*now[&knob(n)]), ["a", "B", "C"]);
    assert_eq!(store.load().unwrap().profile, "y");
    rollback(&host, &store, false).unwrap();
    assert_eq!(host.now(), before);
}

#[test]
fn wherever_a_run_is_killed_the_old_values_come_back() {
    let first = wanted(&[(0, "A"), (1, "B"), (2, "C")]);
    let second = wanted(&[(1, "BB"), (3, "D")]);
    let mut kills = 0;
    for steps in 0.. {
        let (dir, store) = store();
        let host = host();
        let before = host.now();
        let was_killed = killed_after(&host, steps, || {
            apply(&host, &store, "x", &first).unwrap();
            apply(&host, &store, "y", &second).unwrap();
            rollback(&host, &store, false).unwrap();
        });
        kills += usize::from(was_killed);
        let done = rollback(&host, &at(dir.path()), false).unwrap();
        let foreign = done.iter().filter(|done| done.outcome == Outcome::Foreign);
        assert_eq!(foreign.count(), 0, "after {steps} steps: {done:?}");
        assert_eq!(host.now(), before, "after {steps} steps");
        assert!(
            !dir.path().join("tune.json").exists(),
            "after {steps} steps"
        );
        if !was_killed {
            break;
        }
    }
    assert!(kills > 30, "only {kills} moments were tried");
}

#[test]
fn what_somebody_else_has_changed_is_left_alone_unless_forced() {
    let (_dir, store) = store();
    let host = host();
    let before = host.now();
    apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B")])).unwrap();
    host.set(&knob(0), "theirs");
    let drifted: Vec<State> = states(&host, &store.load().unwrap());
    assert_eq!(
        drifted.iter().filter(|state| state.has_drifted()).count(),
        1
    );
    let done = rollback(&host, &store, false).unwrap();
    let foreign: Vec<&Done> = done
        .iter()
        .filter(|done| done.outcome == Outcome::Foreign)
        .collect();
    assert_eq!(
        (&*foreign[0].knob, &*foreign[0].from),
        ("cpu0 scaling_governor", "theirs")
    );
    assert_eq!(host.now()[&knob(0)], "theirs");
    assert_eq!(host.now()[&knob(1)], "b");
    rollback(&host, &store, true).unwrap();
    assert_eq!(host.now(), before);
}

#[test]
fn a_refused_knob_is_told_and_the_rest_goes_on() {
    let (_dir, store) = store();
    let mut host = host();
    host.refuses = Some(knob(0));
    let done = apply(&host, &store, "x", &wanted(&[(0, "A"), (1, "B"), (9, "Z")])).unwrap();
    let outcomes: Vec<&Outcome> = done.iter().map(|done| &done.outcome).collect();
    let refused = Outcome::Refused("read-only".to_owned());
    assert_eq!(outcomes, [&refused, &Outcome::Made, &Outcome::Gone]);
    let journal = store.load().unwrap();
    assert_eq!(
        journal.entries.len(),
        1,
        "only what was changed is remembered"
    );
    // One that cannot be put back stays in the journal.
    host.refuses = Some(knob(1));
    rollback(&host, &store, false).unwrap();
    assert_eq!(store.load().unwrap().entries.len(), 1);
}

#[test]
fn a_value_of_which_the_kernel_makes_another_is_taken_back() {
    let (_dir, store) = store();
    let mut host = host();
    host.makes = Some((knob(0), "3", "4"));
    let before = host.now();
    let done = apply(&host, &store, "x", &wanted(&[(0, "3")])).unwrap();
    assert_eq!(
        done[0].outcome,
        Outcome::Refused("the kernel made 4 of it".to_owned())
    );
    assert_eq!(host.now(), before);
    assert!(store.load().unwrap().entries.is_empty());
}

#[test]
fn nothing_is_changed_where_the_journal_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let store = Store::at(&dir.path().join("file/tune.json"), "boot");
    let host = host();
    let before = host.now();
    assert!(apply(&host, &store, "x", &wanted(&[(0, "A")])).is_err());
    assert_eq!(host.now(), before);
}

proptest! {
    #[test]
    fn any_sequence_of_applies_and_kills_is_put_back(
        runs in proptest::collection::vec(
            (proptest::collection::btree_map(0_u32..4, "[a-d]", 0..4), 0_usize..40),
            1..5,
        ),
    ) {
        let (_dir, store) = store();
        let host = host();
        let before = host.now();
        for (plan, steps) in runs {
            let plan: Vec<_> = plan.into_iter().map(|(n, value)| (knob(n), value)).collect();
            killed_after(&host, steps, || {
                apply(&host, &store, "x", &plan).unwrap();
            });
        }
        rollback(&host, &store, false).unwrap();
        prop_assert_eq!(host.now(), before);
        prop_assert!(store.load().unwrap().entries.is_empty());
    }
}
