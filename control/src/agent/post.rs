//! What only the agent that runs can have: the port of `/healthz`, its name on this host, its local
//! socket, and what the service manager keeps of it. One that takes over has them from the one before.

use super::options::AgentOptions;
use super::registration::Registration;
use crate::backend::{Backend, Inheritance};
use crate::hand_over::store::{self, DescriptorStore, Left};
use crate::hand_over::{LeftTally, Tally, TallyFile};
use crate::http::{HealthError, HealthServer, Readiness};
use crate::notify;
use crate::socket::{Call, Calls, LocalSocket};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use tracing::{debug, warn};

/// Pause before a service manager that has refused something is asked again: one that does not read
/// holds the agent up each time.
const KEEP_RETRY: Duration = Duration::from_secs(10);

/// What is to be had until workers begin that go on with what another process has left.
pub(super) struct Waiting {
    /// What the programs of that process find its workers by.
    pub(super) _holds: Vec<OwnedFd>,
    /// Since when nobody carries packets, if that is known; in nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) since: Option<u64>,
}

/// What an agent has of that by now.
pub(super) struct Post {
    pub(super) name: String,
    pub(super) readiness: Readiness,
    health: Option<HealthServer>,
    registration: Registration,
    socket: Option<LocalSocket>,
    calls: Calls,
    /// What the service manager keeps for the next process, and of which state of the backend.
    store: DescriptorStore,
    kept: Option<u64>,
    /// Why it keeps nothing, as it was logged, and when it was asked.
    unkept: Option<(String, Instant)>,
    /// What it kept of the process before.
    left: Option<Left>,
    /// What this process and those before it have counted, and where the service manager keeps that.
    pub(super) tally: Tally,
    tally_file: Option<TallyFile>,
}

impl Post {
    /// Nothing of it yet but what the service manager has `passed`, for the agent called `name`.
    pub(super) fn vacant(name: String, passed: BTreeMap<String, OwnedFd>) -> Post {
        let (mut store, mut tally) = (DescriptorStore::of(&passed), Tally::default());
        let left = match passed.is_empty() {
            true => None,
            false => store::tunnels(passed)
                .inspect_err(|reason| {
                    warn!(
                        code = "W0901",
                        "what the service manager kept is of no use: {reason}"
                    );
                    tally.refused += 1;
                    store.clear();
                })
                .ok(),
        };
        Post {
            store,
            kept: None,
            unkept: None,
            left,
            tally,
            tally_file: None,
            registration: Registration::vacant(name.clone()),
            name,
            readiness: Readiness::default(),
            health: None,
            socket: None,
            calls: Calls::default(),
        }
    }

    /// What the process before has left with the service manager: once, and with what is to be had
    /// until workers begin.
    pub(super) fn inherit(&mut self) -> Option<(Inheritance, Waiting)> {
        let Left {
            tunnels,
            descriptors,
            holds,
            tally,
        } = self.left.take()?;
        self.tally = tally.tally;
        let waiting = Waiting {
            _holds: holds,
            since: tally.since,
        };
        match Inheritance::of(tunnels, descriptors.into_iter()) {
            Ok(inheritance) => Some((inheritance, waiting)),
            Err(reason) => {
                self.disinherit(&reason);
                None
            }
        }
    }

    /// Have no use for what the process before has left: another one had it.
    pub(super) fn forget_left(&mut self) {
        self.left = None;
    }

    /// Give up what the process before has left.
    pub(super) fn disinherit(&mut self, reason: &str) {
        warn!(
            code = "W0901",
            "what the service manager kept is of no use: {reason}"
        );
        self.tally.refused += 1;
        self.discard();
    }

    /// Count that workers have gone on with what the process before has left, for which packets had
    /// waited so long, in nanoseconds.
    pub(super) fn gone_on(&mut self, waited: Option<u64>) {
        self.tally.from_store += 1;
        self.tally.waited = waited;
    }

    /// Have the service manager keep what a `backend` that carries packets works with, if that is
    /// not what it keeps.
    pub(super) fn keep(&mut self, backend: &Backend) {
        let changes = Some(backend.changes());
        let asked = self.unkept.as_ref().map(|(_, asked)| asked.elapsed());
        let is_early = asked.is_some_and(|since| since < KEEP_RETRY);
        if notify::stores() == 0 || self.kept == changes || is_early {
            return;
        }
        match backend.offer() {
            Ok(tunnels) if tunnels.is_empty() => {}
            Ok(tunnels) => match self.try_keep(&tunnels, &backend.holds()) {
                Ok(()) => (self.kept, self.unkept) = (changes, None),
                Err(reason) => self.not_kept(reason),
            },
            // At the next look it has been.
            Err(_) => self.discard(),
        }
    }

    fn try_keep(
        &mut self,
        tunnels: &[store::Held<'_>],
        holds: &[(String, OwnedFd)],
    ) -> Result<(), String> {
        let file = TallyFile::new().map_err(|error| error.to_string())?;
        self.store.keep(tunnels, holds, &file)?;
        self.tally_file = Some(file);
        self.leave_tally(None);
        Ok(())
    }

    /// Tell the next process what has been counted, and since when nobody carries packets, if so; in
    /// nanoseconds of `CLOCK_MONOTONIC`.
    pub(super) fn leave_tally(&self, since: Option<u64>) {
        let left = LeftTally {
            tally: self.tally.clone(),
            since,
        };
        if let Some(Err(error)) = self.tally_file.as_ref().map(|file| file.write(&left)) {
            debug!("the next process is not told how often others have gone on: {error}");
        }
    }

    /// Say once why the service manager keeps nothing; it is asked again after a pause.
    fn not_kept(&mut self, reason: String) {
        let is_new = self.unkept.as_ref().is_none_or(|(said, _)| *said != reason);
        if is_new {
            warn!(
                code = "W0902",
                "the service manager keeps nothing for the next start: {reason}; trying again each 10 seconds"
            );
        }
        self.unkept = Some((reason, Instant::now()));
    }

    /// Whether the service manager has what the next process needs.
    pub(super) fn is_kept(&self) -> bool {
        !self.store.is_empty()
    }

    /// Have the service manager keep nothing.
    pub(super) fn discard(&mut self) {
        self.store.clear();
        self.kept = None;
    }

    /// Answer on `/healthz`.
    pub(super) async fn serve_health(&mut self, options: &AgentOptions) -> Result<(), HealthError> {
        if let Some(address) = options.healthz.address() {
            let health = HealthServer::start(&address, self.readiness.clone());
            self.health = Some(health.await?);
        }
        Ok(())
    }

    /// Wait for the name, and listen.
    pub(super) async fn wait(&mut self, options: &AgentOptions) {
        self.registration = Registration::wait(self.name.clone()).await;
        // After the agent that had the name before has ended, and its socket with it.
        self.listen(options);
    }

    /// Give all of it up at once.
    pub(super) async fn release(&mut self) {
        (self.socket, self.calls) = (None, Calls::default());
        self.registration.release();
        if let Some(health) = self.health.take() {
            health.release().await;
        }
    }

    /// Have all of it, which another process has just given up.
    pub(super) async fn take(&mut self, options: &AgentOptions) -> Result<(), HealthError> {
        self.registration.take();
        self.listen(options);
        self.serve_health(options).await
    }

    fn listen(&mut self, options: &AgentOptions) {
        let Some(dir) = &options.socket_dir else {
            return;
        };
        match LocalSocket::start(dir, &self.name) {
            Ok((socket, calls)) => (self.socket, self.calls) = (Some(socket), calls),
            Err(error) => {
                warn!(
                    code = "W0106",
                    "no local socket, so that weft status and weft fast-path cannot reach this agent: {error}"
                );
            }
        }
    }

    /// Wait for what somebody asks for over the socket; for ever, if there is none.
    pub(super) async fn call(&mut self) -> Call {
        self.calls.next().await
    }

    /// Have the name if it is free by now.
    pub(super) fn retry(&mut self) {
        self.registration.retry();
    }

    /// Give all of it up, and see requests to their end.
    pub(super) async fn leave(self) {
        drop((self.socket, self.registration));
        if let Some(health) = self.health {
            health.stop().await;
        }
    }
}
