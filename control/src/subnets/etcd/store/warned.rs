//! Warnings of keys, each once.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use tracing::warn;

/// How many keys are named: whoever writes keys could else fill the log.
const KEYS_MAX: usize = 1000;

/// The keys that have been warned of.
#[derive(Default)]
pub(crate) struct Warned {
    /// Hashes, since keys may be long.
    keys: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl Warned {
    /// Say `line` of a key, unless something has been said of it.
    pub(crate) fn warn(&self, key: &str, line: impl FnOnce() -> String) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() > KEYS_MAX || !keys.insert(self.hasher.hash_one(key)) {
            return;
        }
        match keys.len() > KEYS_MAX {
            false => warn!(code = "W0208", "{}", line()),
            true => warn!(
                code = "W0209",
                "more than {KEYS_MAX} keys in etcd cannot be used: no others are named here, but \
                 weft leases list names them all"
            ),
        }
    }
}
