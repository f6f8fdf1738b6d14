//! All keys under a prefix and what happens to them, across interruptions.

use super::connection::{Connection, Failure};
use super::list::list;
use super::refusal;
use super::store::{MESSAGE_MAX, Position, position};
use etcd_client::{
    Client, Error, Event, EventType, GetOptions, KeyValue, WatchOptions, WatchStream,
};
use tracing::{info, warn};

/// What a feed tells.
pub(super) enum News {
    /// All keys there are: at first, and whenever some change may have been missed.
    All(Vec<KeyValue>),
    /// What has happened since, in order; nothing, after an interruption in which nothing was
    /// missed.
    Changes(Vec<Event>),
}

/// The keys under a prefix. After an interruption it goes on after the last change that it has
/// seen if it can be sure that etcd's history up to there is still the one that it saw, and else
/// lists anew: a store that was put back from a snapshot has the same ids, and its revisions
/// soon are as high as before.
pub(super) struct Feed<'a> {
    connection: &'a Connection,
    prefix: String,
    /// `None` before the first list.
    history: Option<History>,
    /// `None` when it has to be opened.
    stream: Option<WatchStream>,
}

/// Up to where etcd's history is known.
struct History {
    position: Position,
    proof: Option<Proof>,
}

/// The last change that is known, if only one history can hold it: a write of a key on an etcd
/// lease. etcd gives no lease the id of an earlier one, whatever it was put back from, so where
/// this write is, everything before it is the same, too.
#[derive(Clone)]
struct Proof {
    key: Vec<u8>,
    lease: i64,
}

/// What became of a history.
enum Verdict {
    Same,
    Compacted,
    Other,
}

impl Feed<'_> {
    /// What is under `prefix`, which ends with a slash; nothing is sent yet.
    pub(super) fn new(connection: &Connection, prefix: String) -> Feed<'_> {
        Feed {
            connection,
            prefix,
            history: None,
            stream: None,
        }
    }

    /// Wait for what comes next. A failure is an interruption: the next call tries to go on.
    pub(super) async fn next(&mut self) -> Result<News, Failure> {
        loop {
            let (Some(stream), Some(history)) = (&mut self.stream, &mut self.history) else {
                return self.open().await;
            };
            let broken = match stream.message().await {
                Ok(Some(response)) if !response.canceled() => {
                    match history.take_in(response.events()) {
                        changes if changes.is_empty() => continue,
                        changes => return Ok(News::Changes(changes)),
                    }
                }
                Ok(Some(response)) => refusal::cancelled(response.cancel_reason()),
                Ok(None) => "the server has ended it".to_owned(),
                Err(error) => refusal::describe(&error),
            };
            self.stream = None;
            return Err(Failure::Broken(broken));
        }
    }

    async fn open(&mut self) -> Result<News, Failure> {
        if let Some(news) = self.resume().await? {
            return Ok(news);
        }
        // The watch first: whatever puts another history in place after the list ends it.
        let stream = watch(self.connection, &self.prefix, Keys::Below, Since::Now).await?;
        let (position, keys) = list(self.connection, &self.prefix).await?;
        let history = History::of_list(position, &keys);
        if self
            .history
            .as_ref()
            .is_some_and(|before| before.is_proved_wrong_by(position))
        {
            told_other_history();
        }
        (self.history, self.stream) = (Some(history), Some(stream));
        Ok(News::All(keys))
    }

    /// Go on after the last change, if history up to there is the same.
    async fn resume(&mut self) -> Result<Option<News>, Failure> {
        let Some(history) = &self.history else {
            return Ok(None);
        };
        let Some(proof) = history.proof.clone() else {
            return Ok(None);
        };
        // The watch first here, too.
        let since = Since::Revision(history.position.revision + 1);
        let stream = watch(self.connection, &self.prefix, Keys::Below, since).await?;
        match verify(self.connection, history.position, proof).await? {
            Verdict::Same => {
                self.stream = Some(stream);
                return Ok(Some(News::Changes(Vec::new())));
            }
            Verdict::Compacted => info!("etcd has compacted its history: listing all leases again"),
            Verdict::Other => told_other_history(),
        }
        self.history = None;
        Ok(None)
    }
}

fn told_other_history() {
    warn!("etcd's history is another than before: listing all leases again");
}

impl History {
    fn of_list(position: Position, keys: &[KeyValue]) -> History {
        // Below the list's own revision there may be a deletion that no key tells of.
        let last = keys
            .iter()
            .find(|kv| kv.mod_revision() == position.revision);
        History {
            position,
            proof: last.and_then(Proof::of),
        }
    }

    /// Take in what a watch tells; what of it is new.
    fn take_in(&mut self, events: &[Event]) -> Vec<Event> {
        let known = self.position.revision;
        let revision = |event: &Event| event.kv().map_or(0, KeyValue::mod_revision);
        let new = events.iter().filter(|event| revision(event) > known);
        let new: Vec<Event> = new.cloned().collect();
        for event in &new {
            if revision(event) > self.position.revision {
                self.position.revision = revision(event);
                self.proof = None;
            }
            let written = event.kv().filter(|_| event.event_type() == EventType::Put);
            self.proof = written.and_then(Proof::of).or(self.proof.take());
        }
        new
    }

    /// Whether a later look at etcd cannot be one at the same history.
    fn is_proved_wrong_by(&self, now: Position) -> bool {
        now.cluster != self.position.cluster || now.revision < self.position.revision
    }
}

impl Proof {
    fn of(kv: &KeyValue) -> Option<Proof> {
        (kv.lease() != 0).then(|| Proof {
            key: kv.key().to_vec(),
            lease: kv.lease(),
        })
    }
}

/// Whether etcd's history holds at `at.revision` what `proof` says.
async fn verify(connection: &Connection, at: Position, proof: Proof) -> Result<Verdict, Failure> {
    let read = |client: Client| {
        let Proof { key, lease } = proof.clone();
        async move {
            let options = GetOptions::new()
                .with_keys_only()
                .with_revision(at.revision);
            let response = match client.kv_client().get(key, Some(options)).await {
                Err(error) if refusal::is_of_compacted(&error) => return Ok(Verdict::Compacted),
                Err(error) if refusal::is_about_revision(&error) => return Ok(Verdict::Other),
                outcome => outcome?,
            };
            let same = position(response.header())?.cluster == at.cluster;
            let kv = response.kvs().first().filter(|_| same);
            let is_it = |kv: &KeyValue| kv.mod_revision() == at.revision && kv.lease() == lease;
            Ok(match kv.is_some_and(is_it) {
                true => Verdict::Same,
                false => Verdict::Other,
            })
        }
    };
    connection.call("tell its history", read).await
}

/// Which keys to watch.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    One,
    /// All that begin so.
    Below,
}

/// From where on to watch.
#[derive(Clone, Copy)]
pub(super) enum Since {
    Now,
    Revision(i64),
}

/// A watch that stands: the server has said so.
pub(super) async fn watch(
    connection: &Connection,
    path: &str,
    keys: Keys,
    since: Since,
) -> Result<WatchStream, Failure> {
    let options = match since {
        Since::Now => WatchOptions::new(),
        Since::Revision(from) => WatchOptions::new().with_start_revision(from),
    };
    let options = match keys {
        Keys::One => options,
        Keys::Below => options.with_prefix(),
    };
    let open = |client: Client| {
        let options = options.clone();
        async move {
            let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_MAX);
            let mut stream = watch.watch(path, Some(options)).await?;
            match stream.message().await? {
                // What it was cancelled for may be a matter of who asks; else it is told again.
                Some(first) if first.canceled() => {
                    let reason = first.cancel_reason();
                    let refusal = refusal::of_cancelled_watch(reason);
                    Err(refusal.unwrap_or_else(|| Error::WatchError(refusal::cancelled(reason))))
                }
                Some(_) => Ok(stream),
                None => Err(Error::WatchError("the stream ended at once".into())),
            }
        }
    };
    connection.call("watch leases", open).await
}
