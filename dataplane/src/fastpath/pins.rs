//! Where programs stay attached when their agent has gone: a folder of the BPF file system for
//! each device, in a folder for each network namespace, since several may share a file system.
//!
//! ```text
//! <bpffs>/weft/<inode of the network namespace>/<device>/
//!     out             the link on the TUN device
//!     in-<index>      the link on the underlay device of this index
//!     merged          the link on the far end of the merging pair
//!     counts          the counters
//! ```

use crate::sys::tc::Link;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS: u64 = 0xcafe_4a11;

/// The folder of all that is weft's.
const FOLDER: &str = "weft";

/// The folder of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins(PathBuf);

impl Pins {
    /// The folder of `device` in the calling thread's network namespace, made if it is not there.
    pub fn make(bpffs: &Path, device: &str) -> io::Result<Pins> {
        if crate::sys::statfs::kind(bpffs)? != BPF_FS {
            let text = format!("{} is not a BPF file system", bpffs.display());
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let folder = of_namespace(bpffs)?.join(encoded(device));
        fs::create_dir_all(&folder)?;
        Ok(Pins(folder))
    }

    /// Devices of the calling thread's network namespace that have a folder.
    pub fn devices(bpffs: &Path) -> Vec<String> {
        let Ok(folder) = of_namespace(bpffs) else {
            return Vec::new();
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.map(|name| decoded(&name)).collect()
    }

    /// Remove all that is pinned for `device`, and its folder; whether there was anything. Programs
    /// are detached by that, whoever else holds their links.
    pub fn remove(bpffs: &Path, device: &str) -> io::Result<bool> {
        let namespace = of_namespace(bpffs)?;
        let folder = namespace.join(encoded(device));
        let pins = Pins(folder.clone());
        for name in pins.names()? {
            pins.unpin(&name)?;
        }
        let removed = match fs::remove_dir(&folder) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        // The last one leaves nothing; with others these fail.
        let _ = fs::remove_dir(&namespace);
        let _ = fs::remove_dir(bpffs.join(FOLDER));
        Ok(removed)
    }

    /// Names of what is pinned here; none if there is no folder.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Remove what is pinned as `name`. A link is detached at once: left to itself, the kernel would
    /// do it a moment later.
    pub(super) fn unpin(&self, name: &str) -> io::Result<()> {
        let path = self.path(name);
        let link = Link::pinned(&path);
        fs::remove_file(path)?;
        // Other things than links are not attached.
        let _ = link.and_then(Link::detach);
        Ok(())
    }

    /// Where `name` is pinned.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

fn of_namespace(bpffs: &Path) -> io::Result<PathBuf> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(bpffs.join(FOLDER).join(namespace.to_string()))
}

/// The BPF file system takes no dots in names (`bpf_lookup` in `kernel/bpf/inode.c`).
fn encoded(device: &str) -> String {
    device.replace('.', "+")
}

fn decoded(name: &str) -> String {
    name.replace('+', ".")
}
