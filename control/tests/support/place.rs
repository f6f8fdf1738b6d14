//! Where servers of tests listen and keep their data: out of each other's way, and of a slow
//! disk's.

// Each test binary needs another part of it.
#![allow(dead_code)]

use rustix::fs::statvfs;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::{Builder, TempDir};

/// Ports of etcd on an address of its own. Below those that connections get, and not etcd's
/// usual ones, which this machine may have a server on for all its addresses.
pub(crate) const CLIENT_PORT: u16 = 23_790;
pub(crate) const PEER_PORT: u16 = 23_800;

/// Room in memory with which no test runs out: a member of etcd takes 128 MiB for its log.
const ROOM: u64 = 2 << 30;

/// A loopback address that this process has not given out before. The lower 16 bits of the pid
/// are in it, so only a process whose pid is a multiple of 65,536 away may have it, too.
/// Connections come from 127.0.0.1, so that nothing takes a port of it by chance.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let host = NEXT.fetch_add(1, Ordering::Relaxed);
    assert_ne!(host, 0, "all addresses of this process are given out");
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, host)
}

/// How the names of directories in memory begin; the pid of the process that made it follows.
const PREFIX: &str = "weft-test-";

/// A directory in memory, where etcd need not wait for a disk at each write; on disk if there
/// is no room.
pub(crate) fn memory_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    remove_orphans(memory);
    let room = statvfs(memory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    if room < ROOM {
        return TempDir::new().unwrap();
    }
    let prefix = format!("{PREFIX}{}-", std::process::id());
    Builder::new().prefix(&prefix).tempdir_in(memory).unwrap()
}

/// Remove what processes left in memory that were killed: nothing else would before the next
/// start of the machine.
fn remove_orphans(memory: &Path) {
    for entry in fs::read_dir(memory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            // Another process may be at it, too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
