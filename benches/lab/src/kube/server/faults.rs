//! Faults on demand, and what was asked meanwhile.

use super::ApiServer;
use crate::kube::faults::Refusal;
use crate::kube::journal::Asked;
use crate::kube::watch::StreamingLists;
use std::sync::PoisonError;
use std::time::Duration;

impl ApiServer {
    /// The resource version of the last change.
    pub fn version(&self) -> u64 {
        self.shared.store.version()
    }

    /// Forget all changes so far: versions before the present one are too old from now on.
    pub fn forget_history(&self) {
        self.shared.store.forget();
    }

    /// Refuse the next `count` requests for objects.
    pub fn refuse(&self, count: usize, refusal: Refusal) {
        self.shared.faults.refuse(count, refusal);
    }

    /// Answer each request only after this time.
    pub fn delay(&self, delay: Duration) {
        self.shared.faults.delay(delay);
    }

    /// Forbid everybody a verb on a resource (`patch`, `nodes/status`), whatever roles say.
    pub fn forbid(&self, verb: &str, resource: &str) {
        self.shared.faults.forbid(verb, resource);
    }

    /// Leave what was forbidden to roles again.
    pub fn permit(&self, verb: &str, resource: &str) {
        self.shared.faults.permit(verb, resource);
    }

    /// What to make of streaming lists from now on.
    pub fn set_streaming_lists(&self, lists: StreamingLists) {
        *self
            .shared
            .lists
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = lists;
    }

    /// Break the connections of all watches, each in the middle of an event.
    pub fn break_watches(&self) {
        self.shared.faults.order(|orders| orders.broken += 1);
    }

    /// End all watches in order, as when their time is over.
    pub fn end_watches(&self) {
        self.shared.faults.order(|orders| orders.ended += 1);
    }

    /// Let watches stay open and send nothing, or send what they have missed.
    pub fn silence_watches(&self, silent: bool) {
        self.shared.faults.order(|orders| orders.silent = silent);
    }

    /// Send a bookmark to all watches that want such.
    pub fn send_bookmarks(&self) {
        self.shared.faults.order(|orders| orders.bookmarks += 1);
    }

    /// How often a verb was asked of a resource (`list`, `nodes`; `patch`, `nodes/status`), also
    /// where that was refused.
    pub fn requests(&self, verb: &str, resource: &str) -> u64 {
        self.shared.journal.count(verb, resource)
    }

    /// The last 10,000 requests.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.journal.last()
    }
}
