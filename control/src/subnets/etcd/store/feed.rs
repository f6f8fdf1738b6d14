//! All keys under a prefix and what happens to them, across interruptions.

use super::list::list;
use super::position::{Position, position};
use super::stream::{self, Scope, Since};
use crate::subnets::etcd::client::{Connection, Failure, Retry, refusal};
use etcd_client::{Client, Event, EventType, GetOptions, KeyValue, WatchStream};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use tracing::{info, warn};

/// What a feed tells.
pub(crate) enum Update {
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
pub(crate) struct Feed<'a> {
    connection: &'a Connection,
    prefix: String,
    /// `None` before the first list.
    history: Option<History>,
    /// `None` when it has to be opened.
    stream: Option<WatchStream>,
    retry: Retry,
    /// How long to wait first, after a failure.
    pause: Option<Duration>,
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
    pub(crate) fn new(connection: &Connection, prefix: String) -> Feed<'_> {
        Feed {
            connection,
            prefix,
            history: None,
            stream: None,
            retry: connection.timing().retry(),
            pause: None,
        }
    }

    /// Wait for what comes next. A failure is an interruption: the next call waits for a while,
    /// longer each time, and tries to go on.
    pub(crate) async fn next(&mut self) -> Result<Update, Failure> {
        if let Some(pause) = self.pause {
            sleep(pause).await;
            self.pause = None;
        }
        let outcome = self.receive().await;
        match &outcome {
            // No reset: a watch that breaks each time would bring one list after another.
            Ok(Update::All(_)) => self.retry.granted(Instant::now()),
            Ok(Update::Changes(_)) => self.retry.reset(),
            Err(_) => self.pause = Some(self.retry.failed()),
        }
        outcome
    }

    /// Log a failure unless it is the one logged last.
    pub(crate) fn note(&mut self, failure: Failure) {
        self.retry.note(failure);
    }

    async fn receive(&mut self) -> Result<Update, Failure> {
        loop {
            let (Some(stream), Some(history)) = (&mut self.stream, &mut self.history) else {
                return self.open().await;
            };
            let broken = match stream.message().await {
                Ok(Some(response)) if !response.canceled() => {
                    match history.take_in(response.events()) {
                        changes if changes.is_empty() => continue,
                        changes => return Ok(Update::Changes(changes)),
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

    async fn open(&mut self) -> Result<Update, Failure> {
        if let Some(update) = self.resume().await? {
            return Ok(update);
        }
        // The watch first: whatever puts another history in place after the list ends it.
        let stream = stream::open(self.connection, &self.prefix, Scope::Below, Since::Now).await?;
        let (position, keys) = list(self.connection, &self.prefix).await?;
        let history = History::of_list(position, &keys);
        if self
            .history
            .as_ref()
            .is_some_and(|before| before.is_proved_wrong_by(position))
        {
            log_other_history();
        }
        (self.history, self.stream) = (Some(history), Some(stream));
        Ok(Update::All(keys))
    }

    /// Go on after the last change, if history up to there is the same.
    async fn resume(&mut self) -> Result<Option<Update>, Failure> {
        let Some(history) = &self.history else {
            return Ok(None);
        };
        let Some(proof) = history.proof.clone() else {
            return Ok(None);
        };
        // The watch first here, too.
        let since = Since::Revision(history.position.revision + 1);
        let stream = stream::open(self.connection, &self.prefix, Scope::Below, since).await?;
        match verify(self.connection, history.position, proof).await? {
            Verdict::Same => {
                self.stream = Some(stream);
                return Ok(Some(Update::Changes(Vec::new())));
            }
            Verdict::Compacted => info!("etcd has compacted its history: listing all leases again"),
            Verdict::Other => log_other_history(),
        }
        self.history = None;
        Ok(None)
    }
}

fn log_other_history() {
    warn!(
        code = "W0207",
        "etcd's history is another than before: listing all leases again"
    );
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
