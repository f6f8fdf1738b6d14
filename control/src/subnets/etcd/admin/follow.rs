//! What happens to leases, as it happens.

use super::record::Record;
use super::{AdminError, Keys};
use crate::subnets::etcd::connection::{Failure, Retry};
use crate::subnets::etcd::refusal;
use crate::subnets::etcd::store::{MESSAGE_MAX, Position};
use etcd_client::{Client, Error, EventType, KeyValue, WatchOptions, WatchResponse, WatchStream};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

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

/// What is known of the keys, and up to where in etcd's history.
struct Known {
    records: BTreeMap<String, Record>,
    position: Position,
    /// Whether it has been told that changes cannot be seen.
    interrupted: bool,
}

/// Tell all changes. The first failure is an error; later ones are waited for.
pub(super) async fn follow(
    keys: &Keys,
    mut tell: impl FnMut(News) -> ControlFlow<()>,
) -> Result<(), AdminError> {
    let (kvs, position) = keys.read().await?;
    let mut known = Known {
        records: by_key(keys.records(&kvs)),
        position,
        interrupted: false,
    };
    let mut retry = Retry::new(keys.connection.timing());
    loop {
        let interruption = match stream(keys, &mut known, &mut tell, &mut retry).await {
            Ok(ControlFlow::Break(())) => return Ok(()),
            Ok(ControlFlow::Continue(())) => continue,
            Err(interruption) => interruption,
        };
        let told = std::mem::replace(&mut known.interrupted, true);
        if !told && tell(News::Interrupted(interruption.to_string())).is_break() {
            return Ok(());
        }
        retry.pause(Failure::Unreachable).await;
    }
}

/// Open one watch and tell its events until it ends.
async fn stream(
    keys: &Keys,
    known: &mut Known,
    tell: &mut impl FnMut(News) -> ControlFlow<()>,
    retry: &mut Retry,
) -> Result<ControlFlow<()>, AdminError> {
    // A store put back from a backup or replaced by another has another history. Waiting for
    // our revision to come up in it could take for ever.
    let now = keys.position().await?;
    if now.cluster != known.position.cluster || now.revision < known.position.revision {
        return list_again(keys, known, tell).await;
    }
    let (mut stream, mut response) = open(keys, known.position.revision + 1).await?;
    loop {
        if response.compact_revision() > 0 {
            return list_again(keys, known, tell).await;
        }
        if response.canceled() {
            return Err(AdminError::Refused(format!(
                "etcd ended the watch: {}",
                response.cancel_reason()
            )));
        }
        retry.reset();
        if std::mem::take(&mut known.interrupted) && tell(News::Resumed).is_break() {
            return Ok(ControlFlow::Break(()));
        }
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            let news = known.take(keys, kv, event.event_type());
            if tell(news).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        response = match stream.message().await {
            Ok(Some(next)) => next,
            // A server that is stopped ends its watches; the next one has the rest.
            Ok(None) => return Ok(ControlFlow::Continue(())),
            Err(error) => return Err(AdminError::Unreachable(refusal::describe(&error))),
        };
    }
}

/// Tell what has changed while nobody could see it.
async fn list_again(
    keys: &Keys,
    known: &mut Known,
    tell: &mut impl FnMut(News) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, AdminError> {
    let (kvs, position) = keys.read().await?;
    let news = known.replace(keys.records(&kvs), position);
    Ok(news.into_iter().try_for_each(tell))
}

async fn open(keys: &Keys, from: i64) -> Result<(WatchStream, WatchResponse), AdminError> {
    let path = keys.path("");
    let open = |client: Client| {
        let path = path.clone();
        async move {
            let options = WatchOptions::new().with_prefix().with_start_revision(from);
            let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_MAX);
            let mut stream = watch.watch(path, Some(options)).await?;
            match stream.message().await? {
                Some(first) => match refusal::of_cancelled_watch(first.cancel_reason()) {
                    Some(refusal) => Err(refusal),
                    None => Ok((stream, first)),
                },
                None => Err(Error::WatchError("the stream ended at once".into())),
            }
        }
    };
    keys.call("watch leases", open).await
}

impl Known {
    /// Take in one event.
    fn take(&mut self, keys: &Keys, kv: &KeyValue, event: EventType) -> News {
        let revision = &mut self.position.revision;
        *revision = kv.mod_revision().max(*revision);
        let record = Record::of(kv, &keys.path(""));
        match event {
            EventType::Delete => {
                let last = self.records.remove(&record.key);
                News::Deleted(last.unwrap_or(record))
            }
            EventType::Put => self.put(record),
        }
    }

    fn put(&mut self, record: Record) -> News {
        let before = self.records.insert(record.key.clone(), record.clone());
        match before {
            None => News::New(record),
            Some(before) if before.value == record.value => News::Renewed(record),
            Some(_) => News::Changed(record),
        }
    }

    /// Take a new list in place of everything before; what has changed.
    fn replace(&mut self, records: Vec<Record>, position: Position) -> Vec<News> {
        // Another history has other revisions, which say nothing about what is the same.
        let one_history = self.position.cluster == position.cluster
            && self.position.revision <= position.revision;
        self.position = position;
        let now = by_key(records);
        let gone = self.records.extract_if(.., |key, _| !now.contains_key(key));
        let mut news: Vec<News> = gone.map(|(_, record)| News::Deleted(record)).collect();
        for (key, record) in now {
            let before = self.records.get(&key);
            let same = before.is_some_and(|before| match one_history {
                true => before.revision == record.revision,
                false => before.value == record.value,
            });
            match same {
                true => _ = self.records.insert(key, record),
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
