//! Where sockets are: a file in a directory for each agent, which its user alone may open.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// What the names of all sockets end in.
const SUFFIX: &str = ".sock";

/// Who but the owner may write to a directory.
const OTHERS_WRITE: u32 = 0o022;

/// The socket of the agent called `agent` in this network namespace. Its name is hashed, as the
/// path of a socket is short (`sun_path`), and agents of several namespaces may share a directory.
pub(super) fn path(dir: &Path, agent: &str) -> PathBuf {
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |file| file.ino());
    let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    let bytes = namespace.to_ne_bytes().into_iter().chain(agent.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, mix);
    dir.join(format!("{hash:016x}{SUFFIX}"))
}

/// All sockets of a directory.
pub(super) fn all(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Make the directory if it is not there; one that others may write to is refused.
pub(super) fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let found = fs::metadata(dir)?;
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own || found.mode() & OTHERS_WRITE != 0 {
        let text = format!("{} can be written to by others", dir.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// Remove the socket of an agent that has ended; whether its place is free.
pub(super) fn make_room(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Ok(false),
        Ok(_) if UnixStream::connect(path).is_ok() => Ok(false),
        Ok(_) => fs::remove_file(path).map(|()| true),
    }
}

/// Remove what an agent called `agent` that was killed has left in `dir`; whether there was
/// anything.
pub fn remove_stale(dir: &Path, agent: &str) -> io::Result<bool> {
    let path = path(dir, agent);
    let was_there = fs::symlink_metadata(&path).is_ok();
    let removed = was_there && make_room(&path)?;
    if removed {
        // The last one leaves nothing; beside others this fails.
        let _ = fs::remove_dir(dir);
    }
    Ok(removed)
}
