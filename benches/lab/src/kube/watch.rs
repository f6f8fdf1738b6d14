//! Watches: a stream of events, a line of JSON each.

use super::failure::Failure;
use super::faults::WatchOrders;
use super::list::{parse_version, scope, selector};
use super::request::{Query, Target};
use super::resource::Resource;
use super::selector::Selector;
use super::store::{Change, Forgotten, Scope, Store, bare};
use bytes::Bytes;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval_at, sleep_until};

/// How long a watch lasts where the client does not say. Real ones take a time between this and
/// the double.
const DEFAULT_TIME: Duration = Duration::from_secs(30 * 60);

/// Bytes of events that are sent at once.
const BATCH: usize = 64 << 10;

/// Marks the bookmark after which a streaming list is complete.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// How servers have come to know streaming lists (`sendInitialEvents`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamingLists {
    /// Served, as by default from 1.32 on.
    #[default]
    Served,
    /// 422: known, and turned off, as from 1.27 on by default.
    TurnedOff,
    /// 422, because of `resourceVersionMatch`, as before 1.27: the other parameter is unknown.
    Unknown,
}

/// What a watch sends to its connection. An error breaks that.
pub(super) type Sent = mpsc::Sender<io::Result<Bytes>>;

/// A watch that is in order.
#[derive(Debug)]
pub(super) struct Watch {
    store: Arc<Store>,
    resource: Resource,
    scope: Scope,
    selector: Selector,
    begin: Begin,
    bookmarks: bool,
    time: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// With what is there, and then its end is marked if that was asked for.
    Present { marked: bool },
    /// With what has changed since.
    After(u64),
}

/// What goes on around a watch.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) orders: watch::Receiver<WatchOrders>,
    /// Time between bookmarks.
    pub(super) bookmark_interval: Duration,
}

/// Why a watch ends before its time.
enum End {
    /// Nobody reads it any more, or it was told to end.
    Quiet,
    Failed(Failure),
}

impl Watch {
    pub(super) fn new(
        store: &Arc<Store>,
        resource: &Resource,
        target: &Target,
        query: &Query,
        lists: StreamingLists,
    ) -> Result<Watch, Failure> {
        check_options(query, lists)?;
        let bookmarks = query.is_true("allowWatchBookmarks");
        let begin = begin(store, query, bookmarks && lists == StreamingLists::Served)?;
        let seconds = query
            .get("timeoutSeconds")
            .parse()
            .ok()
            .filter(|seconds| *seconds > 0);
        Ok(Watch {
            store: store.clone(),
            resource: resource.clone(),
            scope: scope(resource, target),
            selector: selector(resource, query)?,
            begin,
            bookmarks,
            time: seconds.map_or(DEFAULT_TIME, Duration::from_secs),
        })
    }

    /// Send events until the watch's time is over, its connection is closed, or it is told to
    /// end.
    pub(super) async fn run(self, mut around: Surroundings, to: Sent) {
        let closed = to.clone();
        let ended = tokio::select! {
            ended = self.events(&mut around, &to) => ended,
            () = closed.closed() => return,
        };
        if let Err(End::Failed(failure)) = ended {
            let line = format!("{{\"type\":\"ERROR\",\"object\":{}}}\n", failure.status());
            // Who has gone needs no reason.
            let _ = to.send(Ok(line.into())).await;
        }
    }

    async fn events(&self, around: &mut Surroundings, to: &Sent) -> Result<(), End> {
        let mut out = Out {
            to,
            batch: Vec::new(),
        };
        let mut latest = self.store.latest();
        let mut told = around.orders.borrow_and_update().clone();
        let mut cursor = self.begin(&mut out).await?;
        let end = Instant::now() + self.time;
        let every = around.bookmark_interval;
        let mut ticks = interval_at(Instant::now() + every, every);
        loop {
            latest.borrow_and_update();
            if !told.silent {
                cursor = self.catch_up(cursor, &mut out).await?;
            }
            tokio::select! {
                // The store outlives its watches, and so do the orders.
                _ = latest.changed() => {}
                _ = around.orders.changed() => {
                    let orders = around.orders.borrow_and_update().clone();
                    self.obey(&told, &orders, cursor, &mut out).await?;
                    told = orders;
                }
                _ = ticks.tick(), if !told.silent => self.bookmark(cursor, &mut out).await?,
                () = sleep_until(end) => return Ok(()),
            }
        }
    }

    /// Send what the watch begins with; the version up to which all is sent then.
    async fn begin(&self, out: &mut Out<'_>) -> Result<u64, End> {
        let Begin::Present { marked } = self.begin else {
            return match self.begin {
                Begin::After(after) => Ok(after),
                Begin::Present { .. } => Ok(self.store.version()),
            };
        };
        let present = self
            .store
            .list(&self.scope, None)
            .map_err(|error| expired(0, &error))?;
        for object in present
            .objects
            .iter()
            .filter(|object| self.selector.selects(object))
        {
            out.event("ADDED", &self.typed(object)).await?;
        }
        if marked {
            let mut end = self.bare(present.version);
            end["metadata"]["annotations"] = serde_json::json!({INITIAL_EVENTS_END: "true"});
            out.event("BOOKMARK", end.to_string().as_bytes()).await?;
        }
        out.flush().await?;
        Ok(present.version)
    }

    async fn catch_up(&self, cursor: u64, out: &mut Out<'_>) -> Result<u64, End> {
        let changes = self.store.changes(&self.scope, cursor);
        let (latest, changes) = changes.map_err(|error| expired(cursor, &error))?;
        for change in changes {
            if let Some(kind) = seen_as(&change, &self.selector) {
                out.event(kind, &self.typed(&change.object)).await?;
            }
        }
        out.flush().await?;
        Ok(latest)
    }

    async fn bookmark(&self, version: u64, out: &mut Out<'_>) -> Result<(), End> {
        if self.bookmarks {
            let bare = self.bare(version).to_string();
            out.event("BOOKMARK", bare.as_bytes()).await?;
        }
        out.flush().await
    }

    async fn obey(
        &self,
        told: &WatchOrders,
        orders: &WatchOrders,
        cursor: u64,
        out: &mut Out<'_>,
    ) -> Result<(), End> {
        if orders.broken != told.broken {
            let half = Bytes::from_static(br#"{"type":"MODIFIED","object":{"kind":"No"#);
            out.send(Ok(half)).await?;
            // What the connection has not taken yet would go with it.
            let taken = out.to.reserve_many(out.to.max_capacity()).await;
            drop(taken.map_err(|_| End::Quiet)?);
            let _ = out.send(Err(io::ErrorKind::ConnectionReset.into())).await;
            return Err(End::Quiet);
        }
        if orders.ended != told.ended {
            return Err(End::Quiet);
        }
        match orders.bookmarks != told.bookmarks && !orders.silent {
            true => self.bookmark(cursor, out).await,
            false => Ok(()),
        }
    }

    fn typed(&self, object: &super::store::Stored) -> Bytes {
        object.typed(&self.resource.kind, &self.resource.api_version())
    }

    fn bare(&self, version: u64) -> serde_json::Value {
        bare(&self.resource.kind, &self.resource.api_version(), version)
    }
}

/// What a watch begins with. Where streaming lists are `marked`, each that begins with what is
/// there is one, also if the client does not say so.
fn begin(store: &Store, query: &Query, marked: bool) -> Result<Begin, Failure> {
    let version = match query.get("resourceVersion") {
        "" => 0,
        text => parse_version(text)?,
    };
    let (said, latest) = (query.get("sendInitialEvents"), store.version());
    match (said.is_empty(), query.is_true("sendInitialEvents"), version) {
        (true, _, 0) => Ok(Begin::Present { marked }),
        (false, false, 0) => Ok(Begin::After(latest)),
        (_, false, after) => Ok(Begin::After(after)),
        (_, true, wanted) if wanted > latest => Err(Failure::too_new(wanted, latest)),
        (_, true, _) => Ok(Begin::Present { marked }),
    }
}

/// What a watch with a selector sees of a change.
fn seen_as(change: &Change, selector: &Selector) -> Option<&'static str> {
    let was = change
        .before
        .as_ref()
        .is_some_and(|before| selector.selects(before));
    let is = !change.deleted && selector.selects(&change.object);
    match (was, is) {
        (false, true) => Some("ADDED"),
        (true, true) => Some("MODIFIED"),
        (true, false) => Some("DELETED"),
        (false, false) => None,
    }
}

fn expired(wanted: u64, forgotten: &Forgotten) -> End {
    let message = format!("too old resource version: {wanted} ({})", forgotten.oldest);
    End::Failed(Failure::expired(message))
}

fn check_options(query: &Query, lists: StreamingLists) -> Result<(), Failure> {
    let (rule, initial) = (
        query.get("resourceVersionMatch"),
        query.get("sendInitialEvents"),
    );
    let forbidden = |field: &str, why: &str| {
        let why = format!("Forbidden: {why}");
        Err(Failure::invalid("ListOptions.meta.k8s.io", "", field, &why))
    };
    let matching = "resourceVersionMatch";
    match lists {
        StreamingLists::Unknown if rule.is_empty() => Ok(()),
        StreamingLists::Unknown => {
            forbidden(matching, "resourceVersionMatch is forbidden for watch")
        }
        _ if initial.is_empty() && rule.is_empty() => Ok(()),
        _ if initial.is_empty() => {
            let why =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            forbidden(matching, why)
        }
        _ if rule != "NotOlderThan" => {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            forbidden(matching, why)
        }
        StreamingLists::TurnedOff => {
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            forbidden("sendInitialEvents", why)
        }
        StreamingLists::Served => Ok(()),
    }
}

/// Events on their way, some at a time.
struct Out<'a> {
    to: &'a Sent,
    batch: Vec<u8>,
}

impl Out<'_> {
    async fn event(&mut self, kind: &str, object: &[u8]) -> Result<(), End> {
        let head = format!(r#"{{"type":"{kind}","object":"#);
        self.batch.extend_from_slice(head.as_bytes());
        self.batch.extend_from_slice(object);
        self.batch.extend_from_slice(b"}\n");
        match self.batch.len() < BATCH {
            true => Ok(()),
            false => self.flush().await,
        }
    }

    async fn flush(&mut self) -> Result<(), End> {
        match std::mem::take(&mut self.batch) {
            empty if empty.is_empty() => Ok(()),
            batch => self.send(Ok(batch.into())).await,
        }
    }

    async fn send(&self, sent: io::Result<Bytes>) -> Result<(), End> {
        self.to.send(sent).await.map_err(|_| End::Quiet)
    }
}
