//! What goes wrong on demand.

use super::failure::Failure;
use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How a server refuses requests that are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 429 in plain text, as priority and fairness sends it, with `Retry-After` in seconds.
    TooManyRequests(u32),
    /// 503, as while a server starts or ends.
    Unavailable,
    /// 500, as while etcd behind the server has no leader.
    Internal,
}

impl Refusal {
    pub(super) fn failure(&self) -> Failure {
        match self {
            Refusal::TooManyRequests(seconds) => Failure::too_many_requests(*seconds),
            Refusal::Unavailable => {
                let message = "apiserver is shutting down";
                Failure::new(503, "ServiceUnavailable", message)
            }
            Refusal::Internal => Failure::new(500, "InternalError", "etcdserver: leader changed"),
        }
    }
}

/// What watches are to do; numbers count how often they were told so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WatchOrders {
    /// End in the middle of an event, and the connection with it.
    pub(super) broken: u64,
    /// End in order.
    pub(super) ended: u64,
    /// Send a bookmark, if the client wants such.
    pub(super) bookmarks: u64,
    /// Send nothing, and say nothing about it.
    pub(super) silent: bool,
}

#[derive(Debug, Default)]
struct Plan {
    /// Requests yet to be refused, and how.
    refused: usize,
    refusal: Option<Refusal>,
    delay: Duration,
    forbidden: HashSet<(String, String)>,
}

/// All faults of a server.
#[derive(Debug)]
pub(super) struct Faults {
    plan: Mutex<Plan>,
    orders: watch::Sender<WatchOrders>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            plan: Mutex::default(),
            orders: watch::Sender::new(WatchOrders::default()),
        }
    }
}

impl Faults {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuse the next `count` requests for objects.
    pub(super) fn refuse(&self, count: usize, refusal: Refusal) {
        let mut plan = self.plan();
        (plan.refused, plan.refusal) = (count, Some(refusal));
    }

    /// Whether this request is to be refused.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        let mut plan = self.plan();
        plan.refused = plan.refused.checked_sub(1)?;
        plan.refusal.clone()
    }

    /// Answer each request only after this time.
    pub(super) fn delay(&self, delay: Duration) {
        self.plan().delay = delay;
    }

    pub(super) fn delayed_by(&self) -> Duration {
        self.plan().delay
    }

    /// Let nobody do this, whatever roles say.
    pub(super) fn forbid(&self, verb: &str, resource: &str) {
        let pair = (verb.to_owned(), resource.to_owned());
        self.plan().forbidden.insert(pair);
    }

    /// Leave it to roles again.
    pub(super) fn permit(&self, verb: &str, resource: &str) {
        let pair = (verb.to_owned(), resource.to_owned());
        self.plan().forbidden.remove(&pair);
    }

    pub(super) fn forbids(&self, verb: &str, resource: &str) -> bool {
        let pair = (verb.to_owned(), resource.to_owned());
        self.plan().forbidden.contains(&pair)
    }

    /// Tell all watches something.
    pub(super) fn order(&self, change: impl FnOnce(&mut WatchOrders)) {
        self.orders.send_modify(change);
    }

    /// What watches are told from now on.
    pub(super) fn orders(&self) -> watch::Receiver<WatchOrders> {
        self.orders.subscribe()
    }
}
