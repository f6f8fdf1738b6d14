//! What happens to leases, as it happens.

use super::record::Record;
use super::{AdminError, Keys};
use crate::subnets::etcd::connection::Failure;
use crate::subnets::etcd::feed::{self, Feed};
use crate::subnets::etcd::retry::Retry;
use etcd_client::{Event, EventType};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum News {
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

/// Tell all changes. The first failure is an error; later ones are waited for.
pub(super) async fn follow(
    keys: &Keys,
    mut tell: impl FnMut(News) -> ControlFlow<()>,
) -> Result<(), AdminError> {
    let mut feed = Feed::new(&keys.connection, keys.path(""));
    let mut known = match feed.next().await.map_err(|failure| keys.error(failure))? {
        feed::News::All(all) => Known(by_key(keys.records(&all))),
        feed::News::Changes(_) => Known(BTreeMap::new()),
    };
    let mut retry = Retry::new(keys.connection.timing());
    retry.granted(Instant::now());
    let mut interrupted = false;
    loop {
        let (before, after) = match feed.next().await {
            Ok(feed::News::All(all)) => {
                retry.granted(Instant::now());
                (known.replace(keys.records(&all)), Vec::new())
            }
            Ok(feed::News::Changes(changes)) => {
                retry.reset();
                (Vec::new(), known.take_in(keys, &changes))
            }
            Err(failure) => {
                // A server that is stopped ends its watches; the next one has the rest.
                let passing = matches!(failure, Failure::Broken(_));
                let reason = keys.error(failure).to_string();
                if !passing
                    && !std::mem::replace(&mut interrupted, true)
                    && tell(News::Interrupted(reason)).is_break()
                {
                    return Ok(());
                }
                retry.pause(Failure::Unreachable).await;
                continue;
            }
        };
        let resumed = std::mem::take(&mut interrupted).then_some(News::Resumed);
        let mut news = before.into_iter().chain(resumed).chain(after);
        if news.try_for_each(&mut tell).is_break() {
            return Ok(());
        }
    }
}

/// The keys as they were last seen.
struct Known(BTreeMap<String, Record>);

impl Known {
    /// Take in changes.
    fn take_in(&mut self, keys: &Keys, changes: &[Event]) -> Vec<News> {
        let prefix = keys.path("");
        let news = |event: &Event| {
            let record = Record::of(event.kv()?, &prefix);
            Some(match event.event_type() {
                EventType::Delete => {
                    let last = self.0.remove(&record.key);
                    News::Deleted(last.unwrap_or(record))
                }
                EventType::Put => self.put(record),
            })
        };
        changes.iter().filter_map(news).collect()
    }

    fn put(&mut self, record: Record) -> News {
        let before = self.0.insert(record.key.clone(), record.clone());
        match before {
            None => News::New(record),
            Some(before) if before.value == record.value => News::Renewed(record),
            Some(_) => News::Changed(record),
        }
    }

    /// Take a new list in place of everything before; what has changed.
    fn replace(&mut self, records: Vec<Record>) -> Vec<News> {
        let now = by_key(records);
        let gone = self.0.extract_if(.., |key, _| !now.contains_key(key));
        let mut news: Vec<News> = gone.map(|(_, record)| News::Deleted(record)).collect();
        for (key, record) in now {
            // In another history a revision may be a former one, and is no renewal.
            let same = self.0.get(&key).is_some_and(|before| {
                before.value == record.value && before.revision >= record.revision
            });
            match same {
                true => _ = self.0.insert(key, record),
                false => news.push(self.put(record)),
            }
        }
        news
    }
}

fn by_key(records: Vec<Record>) -> BTreeMap<String, Record> {
    let pairs = records
        .into_iter()
        .map(|record| (record.key.clone(), record));
    pairs.collect()
}
