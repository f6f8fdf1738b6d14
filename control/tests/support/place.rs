//! Where servers of tests listen and keep their data: out of each other's way, and of a slow
//! disk's.

// Each test binary needs another part of it.
#![allow(dead_code)]

use rustix::fs::statvfs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use tempfile::TempDir;

/// Ports of etcd on an address of its own. Below those that connections get, and not etcd's
/// usual ones, which this machine may have a server on for all its addresses.
pub(crate) const CLIENT_PORT: u16 = 23_790;
pub(crate) const PEER_PORT: u16 = 23_800;

/// Room in memory with which no test runs out: a member of etcd takes 128 MiB for its log.
const ROOM: u64 = 2 << 30;

/// A loopback address that this process has not given out before, and that no other has.
/// Connections come from 127.0.0.1, so that nothing takes a port of it by chance.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let host = NEXT.fetch_add(1, Ordering::Relaxed);
    assert_ne!(host, 0, "all addresses of this process are given out");
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high, low, host)
}

/// A directory in memory, where etcd need not wait for a disk at each write; on disk if there
/// is no room.
pub(crate) fn memory_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let room = statvfs(memory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    match room >= ROOM {
        true => TempDir::new_in(memory).unwrap(),
        false => TempDir::new().unwrap(),
    }
}
