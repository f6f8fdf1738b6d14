//! Whether a store answers, and what is logged when it does not.

use super::pulse::Pulse;
use crate::status::StoreHealth;
use std::collections::BTreeSet;
use std::time::Instant;
use tracing::{info, warn};

/// How many lines one outage may have.
const OUTAGE_LINES_MAX: usize = 10;

/// How a store has answered so far.
pub(crate) struct Reach {
    /// The store, as people call it.
    store: &'static str,
    /// Of what is logged of an outage.
    code: &'static str,
    /// Since a request has found no server that answers, until one does.
    outage: Option<Outage>,
    pulse: Pulse,
}

/// A time without the store.
#[derive(Default)]
struct Outage {
    /// What each server said to the last request.
    reasons: String,
    /// What has been logged, without digits: some reasons count seconds.
    logged: BTreeSet<String>,
}

impl Reach {
    /// Nobody has asked yet.
    pub(crate) fn new(store: &'static str, code: &'static str) -> Reach {
        Reach {
            store,
            code,
            outage: None,
            pulse: Pulse::default(),
        }
    }

    /// A request that had begun then was answered.
    pub(crate) fn answered(&mut self, begun: Instant) {
        self.pulse.answered(begun, Instant::now());
        if self.outage.take().is_some() {
            info!("{} reachable again", self.store);
        }
    }

    /// A request was answered by nobody: log why, once for each reason.
    pub(crate) fn unanswered(&mut self, reasons: String) {
        self.pulse.failed();
        let outage = self.outage.get_or_insert_default();
        let text = reasons.replace(|c: char| c.is_ascii_digit(), "");
        let new = outage.logged.len() < OUTAGE_LINES_MAX && outage.logged.insert(text);
        let (code, store) = (self.code, self.store);
        match outage.logged.len() {
            _ if !new => {}
            1 => warn!(code, "{store} unreachable: {reasons}; retrying"),
            _ => warn!(code, "{store} still unreachable: {reasons}; retrying"),
        }
        outage.reasons = reasons;
    }

    /// Why the last request found no server, each with its reason.
    pub(crate) fn outage(&self) -> String {
        let outage = self.outage.as_ref();
        outage.map_or_else(String::new, |outage| outage.reasons.clone())
    }

    /// What there is to tell.
    pub(crate) fn health(&self) -> StoreHealth {
        self.pulse.health(self.outage.is_some(), Instant::now())
    }
}
