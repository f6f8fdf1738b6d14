//! What happens to leases, as it happens.

use super::record::Record;
use super::{AdminError, Keys};
use crate::subnets::etcd::connection::{Failure, Retry};
use crate::subnets::etcd::refusal;
use crate::subnets::etcd::store::MESSAGE_MAX;
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
}

/// What is known of the keys, and up to which revision.
struct Known {
    records: BTreeMap<String, Record>,
    revision: i64,
}

/// Tell all changes. The first failure is an error; later ones are waited for.
pub(super) async fn follow(
    keys: &Keys,
    mut tell: impl FnMut(News) -> ControlFlow<()>,
) -> Result<(), AdminError> {
    let (kvs, revision) = keys.read().await?;
    let mut known = Known {
        records: by_key(keys.records(&kvs)),
        revision,
    };
    let mut retry = Retry::new(keys.connection.timing());
    let mut told = false;
    loop {
        let interruption = match stream(keys, &mut known, &mut tell, &mut retry).await {
            Ok(ControlFlow::Break(())) => return Ok(()),
            Ok(ControlFlow::Continue(())) => {
                told = false;
                continue;
            }
            Err(interruption) => interruption,
        };
        if !told && tell(News::Interrupted(interruption.to_string())).is_break() {
            return Ok(());
        }
        told = true;
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
    let (mut stream, mut response) = open(keys, known.revision + 1).await?;
    loop {
        if response.compact_revision() > 0 {
            let (kvs, revision) = keys.read().await?;
            let news = known.replace(keys.records(&kvs), revision);
            return Ok(news.into_iter().try_for_each(tell));
        }
        if response.canceled() {
            return Err(AdminError::Refused(format!(
                "etcd ended the watch: {}",
                response.cancel_reason()
            )));
        }
        retry.reset();
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
        self.revision = self.revision.max(kv.mod_revision());
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
    fn replace(&mut self, records: Vec<Record>, revision: i64) -> Vec<News> {
        self.revision = revision;
        let now = by_key(records);
        let gone = self.records.extract_if(.., |key, _| !now.contains_key(key));
        let mut news: Vec<News> = gone.map(|(_, record)| News::Deleted(record)).collect();
        for (key, record) in now {
            let revision = self.records.get(&key).map(|before| before.revision);
            if revision != Some(record.revision) {
                news.push(self.put(record));
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
