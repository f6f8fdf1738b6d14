//! Files in memory, for what is written so often that a disk would hold it up.

use std::fs;
use std::path::Path;
use tempfile::{Builder, TempDir};

/// Where files are in memory.
pub(crate) const MEMORY: &str = "/dev/shm";

/// Room there with which nobody runs out: a member of etcd takes 128 MiB for its log.
const ROOM: u64 = 1 << 30;

/// How the names of tests' directories begin; the pid of the process that made it follows.
const PREFIX: &str = "weft-test-";

/// Whether there is room in memory.
pub(crate) fn has_room() -> bool {
    let room = rustix::fs::statvfs(MEMORY).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    room >= ROOM
}

/// A directory in memory for a test without a lab; on disk if there is no room.
pub fn memory_dir() -> std::io::Result<TempDir> {
    remove_orphans();
    if !has_room() {
        return TempDir::new();
    }
    let prefix = format!("{PREFIX}{}-", std::process::id());
    Builder::new().prefix(&prefix).tempdir_in(MEMORY)
}

/// Remove what processes left in memory that were killed: nothing else would before the next
/// start of the machine.
fn remove_orphans() {
    for entry in fs::read_dir(MEMORY).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be at it, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
