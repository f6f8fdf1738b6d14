//! A store of leases whose last words are remembered on disk, so that a node that starts forwards
//! at once, and also while the store does not answer.
//!
//! What is remembered stands in for the store and never against it: the lease is asked for again
//! in the background, and the list of the other nodes replaces what was known of them. Where the
//! store says something else about this node, the memory is given up and the node starts anew.

mod clock;
mod knowledge;
mod memory;
mod shelf;
mod write;

use crate::config::NetworkConfig;
use crate::family::PerFamily;
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, Previous, SubnetKey};
use crate::status::StoreHealth;
use crate::subnets::{self, LeaseEvent, SubnetError, SubnetManager};
use crate::text::span;
use clock::Clock;
use knowledge::{Knowledge, Unconfirmed};
use memory::Memory;
use shelf::Shelf;
pub use shelf::file;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{info, warn};

/// How long a start waits for the store where it could do without: a store that is there answers
/// a first request within a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a disk may hold up the end of the node.
const DISK_PATIENCE: Duration = Duration::from_secs(2);

/// A later end of the lease is worth a write if it is later by this much, in seconds: the store
/// tells ends to the second, and each time a little differently.
const LATER: u64 = 60;

/// Events that may wait between the store and the node.
const QUEUE: usize = 1024;

/// How what is remembered is kept and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RememberedOptions {
    /// The directory of the file.
    pub state_dir: PathBuf,
    /// Path of the network in the store, with a slash at its end.
    pub prefix: String,
    /// Use a lease that has ended by this host's clock while the store does not answer.
    pub use_ended: bool,
}

/// A subnet manager and what is remembered of it.
pub struct Remembered<M> {
    inner: M,
    shelf: Arc<Shelf>,
    use_ended: bool,
    state: Mutex<Knowledge>,
    changed: Notify,
}

impl<M: SubnetManager> Remembered<M> {
    /// Remember what `inner` says. Reads what was remembered before; what cannot be used is one
    /// warning.
    pub fn new(inner: M, options: &RememberedOptions) -> Remembered<M> {
        let path = file(&options.state_dir, &options.prefix);
        let store = inner.store();
        let shelf = Shelf::new(path, options.prefix.clone(), store);
        let memory = shelf.read(options.use_ended);
        Remembered {
            inner,
            shelf: Arc::new(shelf),
            use_ended: options.use_ended,
            state: Mutex::new(Knowledge::of(memory, store)),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Knowledge> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The config that is remembered, if all else can be used as well.
    fn remembered_config(&self) -> Option<(String, u64)> {
        let mut state = self.state();
        let use_ended = self.use_ended || state.inherited;
        let memory = state.memory.as_mut()?;
        if let Some(reason) = memory.refusal_now(use_ended) {
            self.shelf.refuse(&reason);
            state.memory = None;
            return None;
        }
        Some((memory.config.clone(), memory.written))
    }

    /// The lease that is remembered, if there is one; the reason if this node cannot go on with it.
    fn remembered_lease(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        inherited: bool,
    ) -> Option<Result<Lease, String>> {
        let mut state = self.state();
        let mut memory = state.memory.take()?;
        // A node that runs goes on with a lease that has ended, and so does who takes over from it.
        let refusal = memory.refusal_now(self.use_ended || inherited);
        let allows = |key: &SubnetKey| self.inner.allows(config, key);
        if let Some(reason) = refusal.or_else(|| memory.mismatch(config, attrs, allows)) {
            return Some(Err(reason));
        }
        let (key, age) = (memory.own.key, age(memory.written));
        info!(
            "using the lease {key} as it was {age} ago, with {} other nodes, until {} says more",
            memory.peers.len(),
            self.inner.store()
        );
        Some(Ok(state.go_by(memory)))
    }

    /// Have the store say that a remembered lease is this node's; waits for it. The error says
    /// what it says instead.
    async fn confirm(&self, lease: Lease) -> Result<Lease, String> {
        let text = {
            let state = self.state();
            if !state.unconfirmed.lease {
                return Ok(lease);
            }
            state.config.clone()
        };
        let config = NetworkConfig::parse(&text).map_err(|error| error.to_string())?;
        let previous = Previous {
            subnet: lease.subnet,
            ipv6_subnet: lease.subnet_v6,
            ..Previous::default()
        };
        let acquired = self.inner.acquire(&config, &lease.attrs, &previous).await;
        let acquired = acquired.map_err(|error| error.to_string())?;
        if acquired.key() != lease.key() {
            return Err(format!("this node's subnet is {acquired}"));
        }
        self.state().confirmed(&acquired);
        self.changed.notify_one();
        Ok(acquired)
    }

    /// Take in what the store says of the other nodes.
    fn take_in(&self, event: &LeaseEvent) {
        if self.state().take_in(event) {
            self.changed.notify_one();
        }
    }

    /// Keep a lease that the store has given or confirmed.
    async fn keep_confirmed(&self, lease: Lease, margin: Duration) -> LeaseEnd {
        let mut ends = self.inner.ends();
        let mut keep = pin!(self.inner.keep(lease, margin));
        loop {
            tokio::select! {
                end = &mut keep => return end,
                Ok(()) = ends.changed() => {
                    let expires = *ends.borrow_and_update();
                    if self.state().ends(expires.map(clock::seconds_at)) {
                        self.changed.notify_one();
                    }
                }
            }
        }
    }
}

impl<M: SubnetManager> SubnetManager for Remembered<M> {
    fn store(&self) -> &'static str {
        self.inner.store()
    }

    /// As remembered, where the store does not answer and something is remembered.
    async fn advertised(&self) -> PerFamily<Option<IpAddr>> {
        let asked = self.inner.advertised();
        let remembered = {
            let state = self.state();
            let memory = state.memory.as_ref();
            memory.map(|memory| (memory.advertised, state.inherited))
        };
        let advertised = match remembered {
            None => asked.await,
            Some((advertised, true)) => advertised,
            Some((advertised, false)) => timeout(PATIENCE, asked).await.unwrap_or(advertised),
        };
        self.state().advertised = advertised;
        advertised
    }

    fn allows(&self, config: &NetworkConfig, subnets: &SubnetKey) -> bool {
        self.inner.allows(config, subnets)
    }

    async fn network_config(&self) -> Result<String, SubnetError> {
        let asked = self.inner.network_config();
        let inherited = self.state().inherited;
        let text = match self.remembered_config() {
            None => asked.await?,
            Some((config, _)) if inherited => config,
            Some((config, written)) => match timeout(PATIENCE, asked).await {
                Ok(answer) => answer?,
                Err(_) => {
                    let (age, ms) = (age(written), PATIENCE.as_millis());
                    warn!(
                        code = "W0301",
                        "{} has not answered within {ms} ms: starting with the lease and the peers of {age} ago",
                        self.inner.store()
                    );
                    config
                }
            },
        };
        self.state().config.clone_from(&text);
        Ok(text)
    }

    /// A lease that is remembered, at once; the store is asked for it by [`Remembered::keep`].
    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        let inherited = std::mem::take(&mut self.state().inherited);
        match self.remembered_lease(config, attrs, inherited) {
            Some(Ok(lease)) => return Ok(lease),
            Some(Err(reason)) if inherited => return Err(SubnetError::Inherited(reason)),
            Some(Err(reason)) => self.shelf.refuse(&reason),
            None => {}
        }
        let lease = self.inner.acquire(config, attrs, previous).await?;
        self.state().granted(&lease);
        self.changed.notify_one();
        Ok(lease)
    }

    async fn known(&self, attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        let remembered = {
            let state = self.state();
            let own = state.memory.as_ref().map(|memory| &memory.own.attrs);
            own.filter(|own| own.same_node(attrs)).cloned()
        };
        match remembered {
            Some(known) => Some(known),
            None => self.inner.known(attrs).await,
        }
    }

    fn knows_macs(&self) -> bool {
        self.inner.knows_macs()
    }

    async fn release(&self, lease: &Lease) {
        // A lease that is remembered was this node's before.
        if !self.state().unconfirmed.lease {
            self.inner.release(lease).await;
        }
    }

    fn knowledge(&self) -> Option<subnets::KnowledgeText> {
        let memory = self.state().handed_over()?;
        let shelf = self.shelf.clone();
        Some(Box::new(move || memory.render(shelf.prefix())))
    }

    fn inherit(&self, knowledge: &[u8]) -> Result<(), String> {
        let memory = Memory::parse(knowledge, self.shelf.prefix())?;
        let mut state = self.state();
        (state.memory, state.inherited) = (Some(memory), true);
        Ok(())
    }

    async fn leave_disk(&self, leave: bool) {
        let shelf = self.shelf.clone();
        let left = spawn_blocking(move || shelf.leave(leave));
        // A disk that hangs writes nothing for others either.
        let _ = timeout(DISK_PATIENCE, left).await;
        self.changed.notify_one();
    }

    async fn keep(&self, lease: Lease, margin: Duration) -> LeaseEnd {
        let key = lease.key();
        let end = match self.confirm(lease).await {
            Ok(lease) => self.keep_confirmed(lease, margin).await,
            Err(reason) => {
                warn!(
                    code = "W0305",
                    "the lease {key} that was remembered is outdated: {reason}"
                );
                LeaseEnd::Outdated
            }
        };
        self.forget().await;
        end
    }

    async fn watch(&self, own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        let remembered = self.state().remembered_peers();
        if let Some(remembered) = remembered
            && events.send(remembered).await.is_err()
        {
            return;
        }
        let (sender, mut told) = mpsc::channel(QUEUE);
        let mut watch = pin!(self.inner.watch(own, sender));
        let mut writer = pin!(self.write_when_due());
        loop {
            tokio::select! {
                () = events.closed() => return,
                () = &mut watch => return,
                never = &mut writer => match never {},
                Some(event) = told.recv() => {
                    self.take_in(&event);
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn remembered(&self) -> Option<SystemTime> {
        let Unconfirmed {
            lease,
            peers,
            written,
        } = self.state().unconfirmed;
        (lease || peers).then(|| UNIX_EPOCH + Duration::from_secs(written))
    }

    fn health(&self) -> Option<StoreHealth> {
        self.inner.health()
    }

    fn ends(&self) -> watch::Receiver<Option<Instant>> {
        self.inner.ends()
    }

    async fn close(&self) {
        let _ = timeout(DISK_PATIENCE, self.write()).await;
    }
}

/// What is wrong with the content of a state file.
#[cfg(feature = "fuzzing")]
pub fn check(content: &[u8]) -> Result<(), String> {
    let mut memory = Memory::parse(content, "/coreos.com/network/")?;
    match memory.refusal_now(true) {
        Some(reason) => Err(reason),
        None => {
            memory.own.lease();
            memory::snapshot(&memory.peers);
            Ok(())
        }
    }
}

/// How long ago something was, for people.
fn age(seconds: u64) -> String {
    span(Duration::from_secs(
        Clock::read().now.saturating_sub(seconds),
    ))
}

#[cfg(test)]
mod tests;
