//! All nodes, and every change: a list, then a watch that goes on from it for as long as it can.
//!
//! Where the server streams lists (Kubernetes 1.32), the list is the beginning of the watch, and
//! nobody holds it whole. Elsewhere it comes in pages. A watch that the server ends goes on from the
//! last version that was told; bookmarks keep that young where nothing happens. A version that the
//! server has forgotten takes a list again, of which only what differs is told.

use super::client::{AnswerLines, ApiConnection, ApiFailure, ApiRequest, escape};
use super::event::NodeEvent;
use super::known::{KnownNodes, Told};
use super::node::NodeState;
use super::own::OwnNode;
use super::prefix::AnnotationPrefix;
use super::split::{ListEnd, ListSplitter};
use crate::subnets::LeaseEvent;
use crate::subnets::remote::Retry;
use rand::RngExt;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tracing::{debug, info, warn};

/// Nodes in one page of a list. Servers that list from their memory may send all at once.
const PAGE: usize = 500;

/// A watch that ends sooner is begun again after a pause.
const SHORT: Duration = Duration::from_secs(1);

/// Streamed lists that may break off before the server is asked for pages.
const UNENDED_MAX: usize = 3;

/// With which status a server refuses to stream a list.
const STREAMS_NO_LISTS: [u16; 3] = [400, 405, 422];

/// What all that is told comes from.
pub(super) struct NodeFeed<'a> {
    connection: &'a ApiConnection,
    prefix: &'a AnnotationPrefix,
    /// The name of the own node.
    node: &'a str,
    own: &'a watch::Sender<OwnNode>,
    known: KnownNodes,
    events: &'a mpsc::Sender<LeaseEvent>,
    retry: Retry,
    /// The version up to which everything has been told; `None`: a list is due.
    version: Option<String>,
    /// Whether the server streams lists, as far as is known.
    streams: bool,
    /// Streamed lists in a row that did not come to their end.
    unended: usize,
    /// Whether a server's memory may be listed, which may be a little old: once at the start.
    from_memory: bool,
    /// Whether a list has named the own node.
    seen_own: bool,
    /// What was last said of events that cannot be read.
    unreadable: String,
}

/// How it ends, or what interrupts it.
enum End {
    /// Nobody listens.
    Closed,
    /// The server has forgotten the version.
    Gone(String),
    Failed(ApiFailure),
}

impl From<ApiFailure> for End {
    fn from(failure: ApiFailure) -> End {
        match failure.status() {
            Some(410) => End::Gone("the server answers 410 Gone".to_owned()),
            _ => End::Failed(failure),
        }
    }
}

impl<'a> NodeFeed<'a> {
    pub(super) fn new(
        connection: &'a ApiConnection,
        (prefix, node): (&'a AnnotationPrefix, &'a str),
        own: &'a watch::Sender<OwnNode>,
        known: KnownNodes,
        events: &'a mpsc::Sender<LeaseEvent>,
    ) -> NodeFeed<'a> {
        NodeFeed {
            retry: connection.timing().retry(),
            connection,
            prefix,
            node,
            own,
            known,
            events,
            version: None,
            streams: true,
            unended: 0,
            from_memory: true,
            seen_own: false,
            unreadable: String::new(),
        }
    }

    /// Tell all nodes and every change until nobody listens.
    pub(super) async fn run(mut self) {
        loop {
            let outcome = match (self.version.clone(), self.streams) {
                (None, false) => self.list().await,
                (version, _) => self.watch(version).await,
            };
            match outcome {
                Ok(()) => {}
                Err(End::Closed) => return,
                Err(End::Gone(reason)) => {
                    info!("{reason}: listing all nodes again");
                    self.version = None;
                    self.from_memory = false;
                    self.pause(ApiFailure::Broken(reason)).await;
                }
                Err(End::Failed(failure)) => {
                    if self.version.is_some() || !self.is_unable_to_stream(&failure) {
                        self.pause(failure).await;
                    }
                }
            }
        }
    }

    /// Whether the server cannot stream lists, as a list has shown that failed so: then it is asked
    /// for pages.
    fn is_unable_to_stream(&mut self, failure: &ApiFailure) -> bool {
        // A server that ignores what it does not know never ends the list.
        self.unended += usize::from(matches!(failure, ApiFailure::Broken(_)));
        let status = failure.status();
        let refuses = status.is_some_and(|status| STREAMS_NO_LISTS.contains(&status));
        let unable = self.streams && (refuses || self.unended == UNENDED_MAX);
        if unable {
            debug!("the API server streams no lists: asking for pages");
            self.streams = false;
        }
        unable
    }

    async fn pause(&mut self, failure: ApiFailure) {
        self.retry.pause(failure.into()).await;
    }

    /// Ask for all nodes, a page at a time.
    async fn list(&mut self) -> Result<(), End> {
        self.begin_list();
        let mut rest = String::new();
        loop {
            let mut path = format!("/api/v1/nodes?limit={PAGE}");
            match rest.is_empty() {
                true if self.from_memory => path += "&resourceVersion=0",
                true => {}
                false => path += &format!("&continue={}", escape(&rest)),
            }
            let request = ApiRequest::get("list", "nodes", path);
            let lines = self.connection.follow(&request).await?;
            let page = self.page(lines).await?.metadata;
            if page.rest.is_empty() {
                self.end_list(page.version).await?;
                return Ok(());
            }
            rest = page.rest;
        }
    }

    async fn page(&mut self, mut lines: AnswerLines) -> Result<ListEnd, End> {
        let silence = self.connection.timing().request_timeout;
        let unreadable = |reason: String| ApiFailure::unreadable("list of nodes", &reason);
        let mut splitter = ListSplitter::default();
        while let Some(part) = lines.part(silence).await? {
            let item = |item: &[u8]| self.list_node(NodeState::read(item, self.prefix));
            splitter.push(&part, item).map_err(unreadable)?;
        }
        Ok(splitter.end().map_err(unreadable)?)
    }

    /// Follow changes from a version on, or from a list that comes first.
    async fn watch(&mut self, version: Option<String>) -> Result<(), End> {
        let begun = Instant::now();
        let timing = *self.connection.timing();
        let seconds = timing.watch.as_secs().max(1);
        let seconds = seconds + rand::rng().random_range(0..=seconds / 2);
        let mut path =
            format!("/api/v1/nodes?watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}");
        let mut listing = version.is_none();
        match version {
            Some(version) => path += &format!("&resourceVersion={}", escape(&version)),
            None => {
                path += "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
                self.begin_list();
            }
        }
        let request = ApiRequest::get("watch", "nodes", path);
        let mut lines = self.connection.follow(&request).await?;
        if !listing {
            self.retry.granted(Instant::now());
        }
        let whole = Duration::from_secs(seconds) + timing.request_timeout;
        loop {
            let silence = if listing {
                timing.request_timeout
            } else {
                whole
            };
            let Some(line) = lines.next(silence).await? else {
                return match (listing, begun.elapsed() < SHORT) {
                    (true, _) => Err(ApiFailure::Broken("the list has no end".to_owned()).into()),
                    (false, true) => Err(ApiFailure::Broken("it ended at once".to_owned()).into()),
                    (false, false) => Ok(()),
                };
            };
            if !line.trim_ascii().is_empty() {
                self.take(line, &mut listing).await?;
            }
        }
    }

    /// Take in an event. One that cannot be read is passed over: asked for again it would come again.
    async fn take(&mut self, line: &[u8], listing: &mut bool) -> Result<(), End> {
        match NodeEvent::read(line, self.prefix) {
            NodeEvent::Put(told) if *listing => self.list_node(told),
            NodeEvent::Put(told) => {
                self.advance(&told);
                self.put(told).await?;
            }
            NodeEvent::Delete(told) => {
                if !*listing {
                    self.advance(&told);
                }
                let name = told.map_or_else(|bad| bad.name, |node| node.name);
                self.delete(&name, *listing).await?;
            }
            NodeEvent::Bookmark { version, ends_list } => match (*listing, ends_list) {
                (true, true) => {
                    *listing = false;
                    self.end_list(version).await?;
                }
                (true, false) => {}
                (false, _) => self.version = Some(version),
            },
            NodeEvent::Error {
                status: 410,
                message,
            } => {
                return Err(End::Gone(format!(
                    "the API server ended the watch: {message}"
                )));
            }
            NodeEvent::Error { message, .. } => return Err(ApiFailure::Broken(message).into()),
            NodeEvent::Unreadable(reason) => self.say_unreadable(reason),
        }
        Ok(())
    }

    fn say_unreadable(&mut self, reason: String) {
        if self.unreadable != reason {
            warn!(
                code = "W1007",
                "an event of the API server cannot be read: {reason}; passed over"
            );
            self.unreadable = reason;
        }
    }

    /// Everything up to this node's version has been told.
    fn advance(&mut self, told: &Told) {
        if let Ok(node) = told
            && !node.version.is_empty()
        {
            self.version = Some(node.version.clone());
        }
    }

    fn begin_list(&mut self) {
        self.seen_own = false;
        self.known.begin_list();
    }

    fn list_node(&mut self, told: Told) {
        match told {
            Ok(node) if node.name == self.node => {
                self.seen_own = true;
                OwnNode::There(Box::new(node)).tell(self.own);
            }
            told => self.known.list(told),
        }
    }

    async fn end_list(&mut self, version: String) -> Result<(), End> {
        self.version = Some(version);
        (self.from_memory, self.unended) = (false, 0);
        self.retry.granted(Instant::now());
        if !self.seen_own {
            OwnNode::Gone.tell(self.own);
        }
        match self.known.end_list() {
            Some(event) => self.send(vec![event]).await,
            None => Ok(()),
        }
    }

    async fn put(&mut self, told: Told) -> Result<(), End> {
        let events = match told {
            Ok(node) if node.name == self.node => {
                OwnNode::There(Box::new(node)).tell(self.own);
                return Ok(());
            }
            told => self.known.put(told),
        };
        self.send(events).await
    }

    async fn delete(&mut self, name: &str, listing: bool) -> Result<(), End> {
        if name == self.node {
            self.seen_own = false;
            if !listing {
                OwnNode::Gone.tell(self.own);
            }
            return Ok(());
        }
        if listing {
            self.known.unlist(name);
            return Ok(());
        }
        let events = self.known.delete(name);
        self.send(events).await
    }

    /// Whoever listens may take their time: what comes meanwhile waits at the server.
    async fn send(&self, events: Vec<LeaseEvent>) -> Result<(), End> {
        for event in events {
            self.events.send(event).await.map_err(|_| End::Closed)?;
        }
        Ok(())
    }
}
