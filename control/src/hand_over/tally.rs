//! How often a process has gone on where another one stopped: each tells the next.
//!
//! Over the service manager's store it goes in a file without a name that both have, so that what is
//! written last needs nobody's attention.

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// The longest content of a file, in bytes.
const CONTENT_MAX: u64 = 4096;

/// What processes have counted, from the first one on that did not go on where another had stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Tally {
    /// Times that one has taken over from an agent that ran.
    pub from_agents: u64,
    /// Times that one has gone on with what the service manager kept.
    pub from_store: u64,
    /// Times that it came to nothing.
    pub refused: u64,
    /// How long packets waited the last time, in nanoseconds; none: it is not known, as after a crash.
    pub waited: Option<u64>,
}

/// What a process leaves of it with the service manager.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct LeftTally {
    /// Up to it.
    pub tally: Tally,
    /// Since when nobody carries packets, in nanoseconds of `CLOCK_MONOTONIC`; none if it did not say.
    pub since: Option<u64>,
}

impl LeftTally {
    /// What such a file says; nothing, if it is none.
    pub fn read(file: OwnedFd) -> LeftTally {
        let read = || -> io::Result<LeftTally> {
            let file = File::from(file);
            let found = file.metadata()?;
            if !found.is_file() || found.len() > CONTENT_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut content = vec![0; found.len() as usize];
            file.read_exact_at(&mut content, 0)?;
            Ok(serde_json::from_slice(&content)?)
        };
        read().unwrap_or_default()
    }
}

/// The file.
#[derive(Debug)]
pub struct TallyFile(File);

impl TallyFile {
    /// One that says nothing yet.
    pub fn new() -> io::Result<TallyFile> {
        let file = memfd_create("weft-tally", MemfdFlags::CLOEXEC)?;
        Ok(TallyFile(file.into()))
    }

    /// Say this in the place of what it said.
    pub fn write(&self, left: &LeftTally) -> io::Result<()> {
        let content = serde_json::to_vec(left)?;
        self.0.set_len(0)?;
        self.0.write_all_at(&content, 0)
    }
}

impl AsFd for TallyFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_last_is_read_by_who_has_had_the_file_before() {
        let file = TallyFile::new().unwrap();
        let passed = || file.as_fd().try_clone_to_owned().unwrap();
        assert_eq!(LeftTally::read(passed()), LeftTally::default());
        for since in [Some(u64::MAX), None] {
            let tally = Tally {
                from_agents: 3,
                from_store: 4,
                refused: 5,
                waited: since,
            };
            let left = LeftTally { tally, since };
            file.write(&left).unwrap();
            assert_eq!(LeftTally::read(passed()), left);
        }
    }

    #[test]
    fn what_is_no_such_file_says_nothing() {
        let (pipe, _writer) = io::pipe().unwrap();
        assert_eq!(LeftTally::read(pipe.into()), LeftTally::default());
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"[7]", 0).unwrap();
        assert_eq!(LeftTally::read(file.into()), LeftTally::default());
    }
}
