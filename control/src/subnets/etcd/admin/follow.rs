//! What happens to leases, as it happens.

use super::error::AdminError;
use super::leases::Leases;
use super::record::Record;
use crate::subnets::etcd::client::Failure;
use crate::subnets::etcd::store::Update;
use etcd_client::{Event, EventType};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum LeaseChange {
    /// A lease is new.
    New(Record),
    /// A lease was written again with the same value.
    Renewed(Record),
    /// A lease says something else than before.
    Changed(Record),
    /// A lease, as it was last known, is gone.
    Deleted(Record),
    /// Changes cannot be seen at the moment; those since will come later.
    Interrupted(String),
    /// Changes are seen again.
    Resumed,
}

/// Report all changes. The first failure is an error; later ones are waited for.
pub(super) async fn follow(
    leases: &Leases,
    mut report: impl FnMut(LeaseChange) -> ControlFlow<()>,
) -> Result<(), AdminError> {
    let mut feed = leases.feed();
    let mut known = KnownRecords::default();
    let first = feed.next().await.map_err(|failure| leases.error(failure))?;
    known.take_in(leases, &first);
    let mut interrupted = false;
    loop {
        let changes = match feed.next().await {
            Ok(update) => {
                let mut changes = known.take_in(leases, &update);
                if std::mem::take(&mut interrupted) {
                    // What a list brings has happened in the meantime, what a watch brings since.
                    let at = if matches!(update, Update::All(_)) {
                        changes.len()
                    } else {
                        0
                    };
                    changes.insert(at, LeaseChange::Resumed);
                }
                changes
            }
            // A server that is stopped ends its watches; the next one has the rest.
            Err(Failure::Broken(_)) => Vec::new(),
            Err(_) if interrupted => Vec::new(),
            Err(failure) => {
                interrupted = true;
                vec![LeaseChange::Interrupted(leases.error(failure).to_string())]
            }
        };
        if changes.into_iter().try_for_each(&mut report).is_break() {
            return Ok(());
        }
    }
}

/// The keys as they were last seen.
#[derive(Default)]
struct KnownRecords(BTreeMap<String, Record>);

impl KnownRecords {
    /// What an update changes.
    fn take_in(&mut self, leases: &Leases, update: &Update) -> Vec<LeaseChange> {
        match update {
            Update::All(keys) => self.replace(leases.records(keys)),
            Update::Changes(events) => self.change(leases, events),
        }
    }

    fn change(&mut self, leases: &Leases, events: &[Event]) -> Vec<LeaseChange> {
        let change = |event: &Event| {
            let record = leases.record(event.kv()?);
            Some(match event.event_type() {
                EventType::Delete => {
                    let last = self.0.remove(&record.key);
                    LeaseChange::Deleted(last.unwrap_or(record))
                }
                EventType::Put => self.put(record),
            })
        };
        events.iter().filter_map(change).collect()
    }

    fn put(&mut self, record: Record) -> LeaseChange {
        let before = self.0.insert(record.key.clone(), record.clone());
        match before {
            None => LeaseChange::New(record),
            Some(before) if before.value == record.value => LeaseChange::Renewed(record),
            Some(_) => LeaseChange::Changed(record),
        }
    }

    /// Take a new list in place of everything before; what has changed.
    fn replace(&mut self, records: Vec<Record>) -> Vec<LeaseChange> {
        let now = by_key(records);
        let gone = self.0.extract_if(.., |key, _| !now.contains_key(key));
        let mut changes: Vec<LeaseChange> = gone
            .map(|(_, record)| LeaseChange::Deleted(record))
            .collect();
        for (key, record) in now {
            // In another history a revision may be a former one, and is no renewal.
            let same = self.0.get(&key).is_some_and(|before| {
                before.value == record.value && before.revision >= record.revision
            });
            match same {
                true => _ = self.0.insert(key, record),
                false => changes.push(self.put(record)),
            }
        }
        changes
    }
}

fn by_key(records: Vec<Record>) -> BTreeMap<String, Record> {
    let pairs = records
        .into_iter()
        .map(|record| (record.key.clone(), record));
    pairs.collect()
}
