//! The VTEP's MAC address across restarts.
//!
//! Peers learn it from the lease and use it until the lease's next event reaches them; a
//! node that comes back with another one is a black hole for that long.

use super::atomic_file;
use crate::wire::MacAddr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use tracing::{info, warn};

/// What the name of a file has behind the device's.
const SUFFIX: &str = ".mac";

/// The state file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the MAC address in {path}: {source}; choose another directory with --state-dir", path = path.display())]
pub struct MacStoreError {
    path: PathBuf,
    source: io::Error,
}

/// The MAC of a VTEP.
#[derive(Debug)]
pub struct VtepMac {
    /// The address.
    pub mac: MacAddr,
    /// The file that keeps it.
    path: PathBuf,
    /// Whether nobody has had it before.
    pub is_new: bool,
    /// Why the next start will not find it there, if so.
    pub unkept: Option<MacStoreError>,
}

impl VtepMac {
    /// That of a device that has none.
    pub fn none() -> VtepMac {
        VtepMac {
            mac: MacAddr::default(),
            path: PathBuf::new(),
            is_new: false,
            unkept: None,
        }
    }

    /// Be the one that peers `known` this node by, unless this one is kept from before.
    pub fn take(&mut self, known: MacAddr) {
        if !is_usable(known) {
            return;
        }
        match self.unkept {
            Some(_) => (self.mac, self.is_new) = (known, false),
            None if self.is_new => *self = store(std::mem::take(&mut self.path), known),
            None => {}
        }
    }

    /// Keep it if it is not kept, or no longer is: try again to write a file that could not be
    /// written, and put back one that somebody has removed. Each reason why it cannot be kept is
    /// logged once.
    pub fn ensure(&mut self) {
        // A file that cannot be looked at may well be there.
        let is_there = || self.path.try_exists().unwrap_or(true);
        if self.path.as_os_str().is_empty() || (self.unkept.is_none() && is_there()) {
            return;
        }
        let now = store(self.path.clone(), self.mac);
        let reason = |mac: &VtepMac| mac.unkept.as_ref().map(ToString::to_string);
        match reason(&now) {
            None => info!("this node's MAC is {now}"),
            // What is not kept since the start has been told there.
            Some(new) if self.unkept.is_none() => warn!(code = "W0316", "{new}; trying again"),
            Some(_) => {}
        }
        *self = now;
    }
}

impl fmt::Display for VtepMac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = self.mac;
        match &self.unkept {
            None => write!(f, "{mac} from here on, kept in {}", self.path.display()),
            Some(error) => write!(f, "{mac} in this run; {error}"),
        }
    }
}

/// The MAC of `device` kept in `state_dir`, or a new random one which is then kept.
///
/// A file that does not hold a local unicast MAC is replaced, with one warning.
pub fn load_or_create(state_dir: &Path, device: &str) -> VtepMac {
    let path = file(state_dir, device);
    match std::fs::read(&path) {
        Ok(content) => match parse(&content) {
            Some(mac) => {
                return VtepMac {
                    mac,
                    path,
                    is_new: false,
                    unkept: None,
                };
            }
            None => warn!(
                code = "W0317",
                "{} holds no local unicast MAC address; replacing it with a new one",
                path.display()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return VtepMac {
                mac: random(),
                path: path.clone(),
                is_new: true,
                unkept: Some(MacStoreError { path, source }),
            };
        }
    }
    renew(state_dir, device)
}

/// A new random MAC for `device` in place of the one before.
pub fn renew(state_dir: &Path, device: &str) -> VtepMac {
    VtepMac {
        is_new: true,
        ..store(file(state_dir, device), random())
    }
}

/// Keep `mac` as that of `device`: peers know this node by it. One that is not local unicast
/// is no VTEP's; then the MAC is that of [`load_or_create`].
pub fn adopt(state_dir: &Path, device: &str, mac: Option<MacAddr>) -> VtepMac {
    match mac.filter(|mac| is_usable(*mac)) {
        None => load_or_create(state_dir, device),
        Some(mac) => store(file(state_dir, device), mac),
    }
}

/// The files in `state_dir` that keep the MACs of devices, with the devices' names.
pub fn kept(state_dir: &Path) -> Vec<(String, PathBuf)> {
    // A directory that is not there holds none.
    let entries = std::fs::read_dir(state_dir).into_iter().flatten();
    let kept = entries.flatten().filter_map(|entry| {
        let name = entry.file_name();
        let device = name.to_str()?.strip_suffix(SUFFIX)?;
        let (family, vni) = device.split_once('.')?;
        let is_ours = ["flannel", "flannel-v6"].contains(&family) && vni.parse::<u32>().is_ok();
        let content = std::fs::read(entry.path()).ok().filter(|_| is_ours)?;
        parse(&content).map(|_| (device.to_owned(), entry.path()))
    });
    kept.collect()
}

fn file(state_dir: &Path, device: &str) -> PathBuf {
    state_dir.join(format!("{device}{SUFFIX}"))
}

fn store(path: PathBuf, mac: MacAddr) -> VtepMac {
    let line = format!("{mac}\n");
    let written = atomic_file::write(&path, line.as_bytes(), 0o644);
    let unkept = written.err().map(|source| MacStoreError {
        path: path.clone(),
        source,
    });
    VtepMac {
        mac,
        path,
        is_new: false,
        unkept,
    }
}

fn is_usable(mac: MacAddr) -> bool {
    mac.0[0] & 0x03 == 0x02
}

/// A random MAC, locally administered and unicast.
pub fn random() -> MacAddr {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = (mac[0] | 0x02) & !0x01;
    MacAddr(mac)
}

fn parse(content: &[u8]) -> Option<MacAddr> {
    let text = std::str::from_utf8(content).ok()?.trim();
    let mac = text.parse().ok().filter(|mac| is_usable(*mac));
    // weft writes none with dashes.
    mac.filter(|_| !text.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn u25_random_macs_are_local_and_unicast() {
        for _ in 0..1000 {
            assert_eq!(random().0[0] & 0x03, 0x02);
        }
        assert_ne!(random(), random());
    }

    /// The MAC, which must be kept.
    fn kept(mac: VtepMac) -> MacAddr {
        assert!(mac.unkept.is_none(), "{mac:?}");
        mac.mac
    }

    #[test]
    fn kept_per_device_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = kept(load_or_create(&state, "flannel.1"));
        assert_eq!(kept(load_or_create(&state, "flannel.1")), first);
        assert_ne!(kept(load_or_create(&state, "flannel.2")), first);
        let text = fs::read_to_string(state.join("flannel.1.mac")).unwrap();
        assert_eq!(text, format!("{first}\n"));
        let second = kept(renew(&state, "flannel.1"));
        assert_ne!(second, first);
        assert_eq!(kept(load_or_create(&state, "flannel.1")), second);
    }

    #[test]
    fn only_files_of_our_devices_are_taken_for_such() {
        let dir = tempfile::tempdir().unwrap();
        for device in ["flannel.1", "flannel-v6.70"] {
            kept(load_or_create(dir.path(), device));
        }
        for (name, content) in [
            ("eth0.mac", "0e:00:00:00:00:01\n"),
            ("flannel.mac", "0e:00:00:00:00:01\n"),
            ("flannel.x.mac", "0e:00:00:00:00:01\n"),
            ("flannel.2", "0e:00:00:00:00:01\n"),
            ("flannel.3.mac", "of somebody else\n"),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        fs::create_dir(dir.path().join("flannel.4.mac")).unwrap();
        let mut found = super::kept(dir.path());
        found.sort();
        let devices = ["flannel-v6.70", "flannel.1"];
        let files = devices.map(|device| (device.to_owned(), file(dir.path(), device)));
        assert_eq!(found, files);
        assert_eq!(super::kept(&dir.path().join("nowhere")), []);
    }

    #[test]
    fn an_adopted_mac_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let own = kept(load_or_create(&state, "flannel.1"));
        for unusable in [None, Some([0; 6]), Some([3, 0, 0, 0, 0, 1])].map(|mac| mac.map(MacAddr)) {
            assert_eq!(kept(adopt(&state, "flannel.1", unusable)), own);
        }
        let mac = MacAddr([0x0e, 1, 2, 3, 4, 5]);
        assert_eq!(kept(adopt(&state, "flannel.1", Some(mac))), mac);
        assert_eq!(kept(load_or_create(&state, "flannel.1")), mac);
    }

    #[test]
    fn corrupt_files_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flannel.1.mac");
        let corrupt: [&[u8]; 8] = [
            b"",
            b"\xff\xfe",
            b"02:00:00:00:00",
            b"02:00:00:00:00:00:00",
            b"02:00:00:00:00:+1",
            b"02-00-00-00-00-01",
            b"03:00:00:00:00:01",
            b"00:00:00:00:00:00",
        ];
        for content in corrupt {
            fs::write(&path, content).unwrap();
            let mac = kept(load_or_create(dir.path(), "flannel.1"));
            assert_eq!(parse(&fs::read(&path).unwrap()), Some(mac));
        }
    }

    #[test]
    fn what_is_not_kept_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fs::write(&state, "in the way").unwrap();
        let mut mac = load_or_create(&state, "flannel.1");
        let own = mac.mac;
        mac.ensure();
        assert!(mac.unkept.is_some() && mac.mac == own);
        fs::remove_file(&state).unwrap();
        for _ in 0..2 {
            mac.ensure();
            assert!(mac.unkept.is_none());
            assert_eq!(kept(load_or_create(&state, "flannel.1")), own);
            // Somebody tidies up.
            fs::remove_dir_all(&state).unwrap();
        }
        mac.ensure();
        // For the next start to use.
        let file = state.join("flannel.1.mac");
        fs::write(&file, "0e:00:00:00:00:09\n").unwrap();
        mac.ensure();
        assert_eq!(kept(load_or_create(&state, "flannel.1")).0[5], 9);
    }

    #[test]
    fn that_of_no_device_is_written_nowhere() {
        let mut none = VtepMac::none();
        none.ensure();
        assert!(none.unkept.is_none());
    }

    #[test]
    fn an_unusable_directory_is_named_and_costs_only_the_keeping() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let kernels = MacAddr([0x0e, 1, 2, 3, 4, 5]);
        let adopted = adopt(&file, "flannel.1", Some(kernels));
        assert_eq!((adopted.mac, adopted.is_new), (kernels, false));
        assert!(renew(&file, "flannel.1").is_new && load_or_create(&file, "flannel.1").is_new);
        for mac in [
            load_or_create(&file, "flannel.1"),
            renew(&file, "flannel.1"),
            adopted,
        ] {
            assert!(is_usable(mac.mac));
            let error = mac.unkept.unwrap().to_string();
            assert!(error.contains("file/flannel.1.mac"), "{error}");
            assert!(error.contains("--state-dir"), "{error}");
        }
    }
}
