//! The VTEP's MAC address across restarts.
//!
//! Peers learn it from the lease and use it until the lease's next event reaches them; a
//! node that comes back with another one is a black hole for that long.

use super::atomic_file;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

/// The state file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep the MAC address in {path}: {source}; choose another directory with --state-dir", path = path.display())]
pub struct MacStoreError {
    path: PathBuf,
    source: io::Error,
}

/// The MAC of `device` kept in `state_dir`, or a new random one which is then kept.
///
/// A file that does not hold a local unicast MAC is replaced, with one warning.
pub fn load_or_create(state_dir: &Path, device: &str) -> Result<[u8; 6], MacStoreError> {
    let path = file(state_dir, device);
    let failed = |source| MacStoreError {
        path: path.clone(),
        source,
    };
    match std::fs::read(&path) {
        Ok(content) => match parse(&content) {
            Some(mac) => return Ok(mac),
            None => tracing::warn!(
                "{} holds no local unicast MAC address; replacing it with a new one",
                path.display()
            ),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mac = random();
    store(&path, mac)?;
    Ok(mac)
}

fn file(state_dir: &Path, device: &str) -> PathBuf {
    state_dir.join(format!("{device}.mac"))
}

fn store(path: &Path, mac: [u8; 6]) -> Result<(), MacStoreError> {
    let line = format!("{}\n", format_mac(mac));
    let written = atomic_file::write(path, line.as_bytes(), 0o644);
    written.map_err(|source| MacStoreError {
        path: path.to_owned(),
        source,
    })
}

fn is_usable(mac: [u8; 6]) -> bool {
    mac[0] & 0x03 == 0x02
}

/// Keep `mac` as that of `device`: peers know this node by it. One that is not local unicast
/// is no VTEP's; then the MAC is that of [`load_or_create`].
pub fn adopt(
    state_dir: &Path,
    device: &str,
    mac: Option<[u8; 6]>,
) -> Result<[u8; 6], MacStoreError> {
    match mac.filter(|mac| is_usable(*mac)) {
        None => load_or_create(state_dir, device),
        Some(mac) => {
            store(&file(state_dir, device), mac)?;
            Ok(mac)
        }
    }
}

/// A random MAC, locally administered and unicast.
pub fn random() -> [u8; 6] {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = (mac[0] | 0x02) & !0x01;
    mac
}

fn format_mac(mac: [u8; 6]) -> String {
    let mut text = String::with_capacity(17);
    for (i, byte) in mac.iter().enumerate() {
        let separator = if i == 0 { "" } else { ":" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{separator}{byte:02x}");
    }
    text
}

fn parse(content: &[u8]) -> Option<[u8; 6]> {
    let text = std::str::from_utf8(content).ok()?.trim();
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    (is_usable(mac) && parts.next().is_none()).then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn u25_random_macs_are_local_and_unicast() {
        for _ in 0..1000 {
            assert_eq!(random()[0] & 0x03, 0x02);
        }
        assert_ne!(random(), random());
    }

    #[test]
    fn kept_per_device_across_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let first = load_or_create(&state, "flannel.1").unwrap();
        assert_eq!(load_or_create(&state, "flannel.1").unwrap(), first);
        assert_ne!(load_or_create(&state, "flannel.2").unwrap(), first);
        let kept = fs::read_to_string(state.join("flannel.1.mac")).unwrap();
        assert_eq!(kept, format!("{}\n", format_mac(first)));
    }

    #[test]
    fn an_adopted_mac_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let own = load_or_create(&state, "flannel.1").unwrap();
        for unusable in [None, Some([0; 6]), Some([3, 0, 0, 0, 0, 1])] {
            assert_eq!(adopt(&state, "flannel.1", unusable).unwrap(), own);
        }
        let mac = [0x0e, 1, 2, 3, 4, 5];
        assert_eq!(adopt(&state, "flannel.1", Some(mac)).unwrap(), mac);
        assert_eq!(load_or_create(&state, "flannel.1").unwrap(), mac);
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
            let mac = load_or_create(dir.path(), "flannel.1").unwrap();
            assert_eq!(parse(&fs::read(&path).unwrap()), Some(mac));
        }
    }

    #[test]
    fn an_unusable_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = load_or_create(&file, "flannel.1").unwrap_err().to_string();
        assert!(error.contains("file/flannel.1.mac"), "{error}");
        assert!(error.contains("--state-dir"), "{error}");
    }
}
