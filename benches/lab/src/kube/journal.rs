//! What clients have asked for.

use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Requests that are remembered in full; all are counted.
const REMEMBERED: usize = 10_000;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who asked; empty if that is unknown.
    pub user: String,
    /// `list`, `watch`, `patch`, ...; of paths that stand for no objects, the method.
    pub verb: String,
    /// `nodes`, `nodes/status`, `daemonsets.apps`; empty for other paths.
    pub resource: String,
    /// Path and query.
    pub uri: String,
    /// Of what was sent along.
    pub content_type: String,
    /// HTTP status of the answer.
    pub code: u16,
}

impl Asked {
    pub(super) fn new(head: &Parts, user: &str) -> Asked {
        let content_type = head.headers.get(CONTENT_TYPE);
        let content_type = content_type.and_then(|value| value.to_str().ok());
        Asked {
            user: user.to_owned(),
            verb: head.method.as_str().to_lowercase(),
            resource: String::new(),
            uri: head.uri.to_string(),
            content_type: content_type.unwrap_or_default().to_owned(),
            code: 0,
        }
    }
}

#[derive(Debug, Default)]
struct Pages {
    counts: HashMap<(String, String), u64>,
    last: VecDeque<Asked>,
}

/// All requests.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Pages>);

impl Journal {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, asked: Asked) {
        let mut pages = self.pages();
        let pair = (asked.verb.clone(), asked.resource.clone());
        *pages.counts.entry(pair).or_default() += 1;
        if pages.last.len() == REMEMBERED {
            pages.last.pop_front();
        }
        pages.last.push_back(asked);
    }

    pub(super) fn count(&self, verb: &str, resource: &str) -> u64 {
        let pair = (verb.to_owned(), resource.to_owned());
        self.pages().counts.get(&pair).copied().unwrap_or(0)
    }

    pub(super) fn last(&self) -> Vec<Asked> {
        self.pages().last.iter().cloned().collect()
    }
}
