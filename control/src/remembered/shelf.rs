//! Where the memory is kept: one file, written and removed on threads that may wait for a disk.

use super::clock::Clock;
use super::memory::Memory;
use crate::host::state_file;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tracing::{info, warn};

/// What the names of all files end in.
const SUFFIX: &str = ".state";

/// The file that keeps what is known of the network with this path in its store, which ends in a
/// slash.
///
/// Letters, digits, dots and underscores stand for themselves and a slash is a dash, so that the
/// name can be read; all else is escaped, so that no two networks share one.
pub fn file(state_dir: &Path, prefix: &str) -> PathBuf {
    let without_end = prefix.strip_suffix('/').filter(|rest| !rest.is_empty());
    let prefix = without_end.unwrap_or(prefix);
    let mut name = String::from("net");
    for byte in prefix.bytes() {
        match byte {
            b'/' => name.push('-'),
            b'.' | b'_' => name.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    state_dir.join(name + SUFFIX)
}

/// The file of one network.
pub(super) struct Shelf {
    path: PathBuf,
    prefix: String,
    /// What people call the store.
    store: &'static str,
    last: Mutex<Last>,
}

/// What was done to the file last.
#[derive(Default)]
struct Last {
    /// By the number of what it is about: an older write that a disk held up comes too late.
    number: u64,
    /// Why it could not be written.
    problem: Option<String>,
    /// It is another process's.
    left: bool,
}

impl Shelf {
    pub(super) fn new(path: PathBuf, prefix: String, store: &'static str) -> Shelf {
        Shelf {
            path,
            prefix,
            store,
            last: Mutex::default(),
        }
    }

    /// Path of the network in the store.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// What is there and may be used. Why something else is not is one warning.
    pub(super) fn read(&self, use_ended: bool) -> Option<Memory> {
        let read = || -> Result<Option<Memory>, String> {
            let content = state_file::read(&self.path).map_err(|error| error.to_string())?;
            let Some(content) = content else {
                return Ok(None);
            };
            let mut memory = Memory::parse(&content, &self.prefix)?;
            match memory.refusal_now(use_ended) {
                Some(reason) => Err(reason),
                None => Ok(Some(memory)),
            }
        };
        read().unwrap_or_else(|reason| {
            self.refuse(&reason);
            None
        })
    }

    /// Say why what is there is not used.
    pub(super) fn refuse(&self, reason: &str) {
        let path = self.path.display();
        warn!(
            code = "W0302",
            "what {path} remembers is not used: {reason}"
        );
    }

    /// Write what is known as number `number`, unless something later was done; whether it is
    /// done. Each reason why not is logged once.
    pub(super) fn write(&self, number: u64, mut memory: Memory) -> bool {
        let mut last = self.last();
        if last.left {
            return false;
        }
        if number <= last.number {
            return true;
        }
        memory.stamp(Clock::read());
        let path = self.path.display();
        match state_file::write(&self.path, &memory.render(&self.prefix)) {
            Ok(()) => {
                last.number = number;
                if last.problem.take().is_some() {
                    info!("wrote {path}");
                }
                true
            }
            Err(error) => {
                let problem = error.to_string();
                if last.problem.as_ref() != Some(&problem) {
                    warn!(
                        code = "W0303",
                        "cannot write {path}: {problem}; a start without {} would find nothing; trying again",
                        self.store
                    );
                }
                last.problem = Some(problem);
                false
            }
        }
    }

    /// Write nothing from here on, or again; waits for a write that is under way.
    pub(super) fn leave(&self, leave: bool) {
        self.last().left = leave;
    }

    /// Take the file away: what it says is over.
    pub(super) fn clear(&self, number: u64) {
        let mut last = self.last();
        last.number = last.number.max(number);
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let path = self.path.display();
                warn!(
                    code = "W0304",
                    "cannot remove {path}: {error}; it is outdated: remove it"
                );
            }
            _ => {}
        }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_be_read_and_no_two_networks_share_one() {
        let dir = Path::new("/state");
        let mut seen = Vec::new();
        for (prefix, name) in [
            ("/coreos.com/network/", "net-coreos.com-network.state"),
            ("/coreos.com-network/", "net-coreos.com%2dnetwork.state"),
            ("coreos.com/network/", "netcoreos.com-network.state"),
            ("/", "net-.state"),
            ("", "net.state"),
            ("/a%2d/", "net-a%252d.state"),
            ("/../b c\n/", "net-..-b%20c%0a.state"),
            ("/\u{e9}/", "net-%c3%a9.state"),
        ] {
            let path = file(dir, prefix);
            assert_eq!(path, dir.join(name), "{prefix:?}");
            assert!(!seen.contains(&path));
            seen.push(path);
        }
    }
}
