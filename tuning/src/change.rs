//! Changing a host, and putting it back, so that a crash at any moment loses no old value.
//!
//! The journal knows the values of all knobs that are wanted before the first one is changed, since
//! drivers that are given other queues choose anew what belongs to them. Each change is looked at afterwards; one that
//! the kernel made something else of is taken back.

use crate::journal::{Entry, Journal, JournalError, Store};
use crate::knob::{Knob, KnobError, Knobs};
use serde::Serialize;

/// How often values that others reset on the way are put back.
const PASSES: usize = 3;

/// What has become of a knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Which, as people call it.
    pub knob: String,
    /// The value that was found.
    pub from: String,
    /// The value that was wanted.
    pub to: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It has the value that was planned.
    Made,
    /// It has its old value again.
    Restored,
    /// Somebody else has changed it since, so it has been left alone.
    Foreign,
    /// It is not there any more.
    Gone,
    /// It cannot be changed, and is as it was. Why.
    Refused(String),
}

/// Give knobs these values, and those that an earlier run has changed and are not among them their
/// old ones. Those that have their value are not touched.
pub fn apply(
    knobs: &impl Knobs,
    store: &Store,
    profile: &str,
    wanted: &[(Knob, String)],
) -> Result<Vec<Done>, JournalError> {
    let mut journal = store.load()?;
    let is_left = |entry: &&Entry| wanted.iter().all(|(knob, _)| *knob != entry.knob);
    let left: Vec<Entry> = journal.entries.iter().filter(is_left).cloned().collect();
    let known = journal.clone();
    let found: Vec<Result<String, KnobError>> =
        wanted.iter().map(|(knob, _)| knobs.read(knob)).collect();
    let is_open =
        |(found, (_, to)): (&Result<_, _>, &(_, String))| found.as_ref().is_ok_and(|now| now != to);
    if !left.is_empty() || found.iter().zip(wanted).any(is_open) {
        for ((knob, _), now) in wanted.iter().zip(&found) {
            if let Ok(now) = now {
                journal.begin(knob, now);
            }
        }
        store.save(&journal)?;
    }
    let mut done = restore(knobs, &mut journal, left, false);
    store.save(&journal)?;
    profile.clone_into(&mut journal.profile);
    let mut alone = Vec::new();
    for ((knob, to), found) in wanted.iter().zip(found) {
        let now = match knobs.read(knob) {
            Ok(now) => now,
            Err(error) => {
                done.push(told(knob, &found.unwrap_or_default(), to, refusal(error)));
                continue;
            }
        };
        // What resets it on the way there does so on the way back, whatever comes of it here.
        let is_reset = found.as_ref().is_ok_and(|found| *found != now);
        if !is_reset && known.of(knob).is_none() {
            alone.push(knob);
        }
        if now == *to {
            if journal.of(knob).is_some() {
                journal.note(knob, &now, to);
            }
            continue;
        }
        journal.note(knob, &now, to);
        store.save(&journal)?;
        let before = found.unwrap_or(now);
        let outcome = make(knobs, knob, &before, to);
        done.push(told(knob, &before, to, outcome));
    }
    for (knob, _) in wanted {
        let old = journal.of(knob).map(|entry| entry.old.clone());
        if let Some(old) = old.filter(|old| has(knobs, knob, old)) {
            match alone.contains(&knob) {
                true => journal.forget(knob),
                false => journal.begin(knob, &old),
            }
        }
    }
    store.save(&journal)?;
    Ok(done)
}

fn has(knobs: &impl Knobs, knob: &Knob, value: &str) -> bool {
    knobs.read(knob).is_ok_and(|found| found == value)
}

/// Change a knob that was `before` when the run began.
fn make(knobs: &impl Knobs, knob: &Knob, before: &str, to: &str) -> Outcome {
    let reason = match knobs.write(knob, to).and_then(|()| knobs.read(knob)) {
        Ok(value) if value == to => return Outcome::Made,
        Ok(value) => format!("the kernel made {value} of it"),
        Err(error) => error.to_string(),
    };
    // Half a change is none. If it cannot be taken back, the journal remembers it.
    if !has(knobs, knob, before) {
        let _ = knobs.write(knob, before);
    }
    Outcome::Refused(reason)
}

/// Give all knobs that have been changed their old values again, the last one first. One that
/// somebody else has changed since is left alone, unless `force`.
pub fn rollback(knobs: &impl Knobs, store: &Store, force: bool) -> Result<Vec<Done>, JournalError> {
    let mut journal = store.load()?;
    let all = journal.entries.clone();
    let done = restore(knobs, &mut journal, all, force);
    store.save(&journal)?;
    Ok(done)
}

/// Restore `entries`, the last one first, and have the journal forget those that are as they were.
fn restore(
    knobs: &impl Knobs,
    journal: &mut Journal,
    entries: Vec<Entry>,
    force: bool,
) -> Vec<Done> {
    let mut done = Vec::new();
    let mut back = Vec::new();
    for entry in entries.into_iter().rev() {
        let (now, outcome) = restore_one(knobs, &entry, force);
        let is_over = matches!(outcome, None | Some(Outcome::Restored | Outcome::Gone));
        done.extend(outcome.map(|outcome| told(&entry.knob, &now, &entry.old, outcome)));
        if is_over {
            back.push(entry);
        }
    }
    // A driver that is given other queues may choose anew what belongs to them.
    for _ in 1..PASSES {
        let was_reset = |entry: &&Entry| knobs.read(&entry.knob).is_ok_and(|now| now != entry.old);
        for entry in back.iter().filter(was_reset) {
            let _ = knobs.write(&entry.knob, &entry.old);
        }
    }
    for entry in &back {
        // If it was reset once more, the next run is to know of it.
        if !knobs.read(&entry.knob).is_ok_and(|now| now != entry.old) {
            journal.forget(&entry.knob);
        }
    }
    done
}

/// The value that was found, and what came of it; nothing if it was the old one.
fn restore_one(knobs: &impl Knobs, entry: &Entry, force: bool) -> (String, Option<Outcome>) {
    let now = match knobs.read(&entry.knob) {
        Ok(now) => now,
        Err(error) => return (String::new(), Some(refusal(error))),
    };
    if now == entry.old {
        return (now, None);
    }
    if entry.is_foreign(&now) && !force {
        return (now, Some(Outcome::Foreign));
    }
    let outcome = match knobs.write(&entry.knob, &entry.old) {
        Ok(()) => match knobs.read(&entry.knob) {
            Ok(value) if value == entry.old => Outcome::Restored,
            Ok(value) => Outcome::Refused(format!("the kernel made {value} of it")),
            Err(error) => refusal(error),
        },
        Err(error) => refusal(error),
    };
    (now, Some(outcome))
}

fn refusal(error: KnobError) -> Outcome {
    match error {
        KnobError::Gone => Outcome::Gone,
        KnobError::Refused(reason) => Outcome::Refused(reason),
    }
}

fn told(knob: &Knob, from: &str, to: &str, outcome: Outcome) -> Done {
    Done {
        knob: knob.to_string(),
        from: from.to_owned(),
        to: to.to_owned(),
        outcome,
    }
}

/// How a knob of the journal is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Which, as people call it.
    pub knob: String,
    /// What it was before weft.
    pub old: String,
    /// What it was given.
    pub wanted: String,
    /// What it is; none if it cannot be read.
    pub now: Option<String>,
}

impl State {
    /// Whether it is not what it was given.
    pub fn has_drifted(&self) -> bool {
        match &self.now {
            Some(now) => *now != self.wanted,
            // One that went with a queue before it was given anything is none of ours.
            None => self.wanted != self.old,
        }
    }
}

/// How all knobs of a journal are.
pub fn states(knobs: &impl Knobs, journal: &Journal) -> Vec<State> {
    let state = |entry: &Entry| State {
        knob: entry.knob.to_string(),
        old: entry.old.clone(),
        wanted: entry.wanted().to_owned(),
        now: knobs.read(&entry.knob).ok(),
    };
    journal.entries.iter().map(state).collect()
}

#[cfg(test)]
mod tests;
