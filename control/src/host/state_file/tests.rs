use super::*;
use proptest::prelude::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use tempfile::TempDir;

fn file() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.state");
    (dir, path)
}

fn refusal(path: &Path) -> String {
    let reason = read(path).unwrap_err().to_string();
    assert!(!reason.contains('\n'), "{reason}");
    reason
}

#[test]
fn what_is_written_is_read_by_its_owner_alone() {
    let (_dir, path) = file();
    assert!(read(&path).unwrap().is_none(), "there is none yet");
    for content in [b"one".as_slice(), b"", b"two\nlines\n"] {
        write(&path, content).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), content);
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
}

#[test]
fn what_is_cut_off_anywhere_is_refused() {
    let (_dir, path) = file();
    write(&path, b"the lease and the peers").unwrap();
    let whole = fs::read(&path).unwrap();
    for len in 0..whole.len() {
        assert!(content_at(&whole[..len]).is_err(), "{len} bytes");
    }
    let longer = [&whole[..], b"x"].concat();
    fs::write(&path, longer).unwrap();
    assert!(refusal(&path).contains("24 bytes where its header says 23"));
}

#[test]
fn any_altered_byte_is_noticed() {
    let (_dir, path) = file();
    write(&path, b"the lease and the peers").unwrap();
    let whole = fs::read(&path).unwrap();
    let header = whole.iter().position(|byte| *byte == b'\n').unwrap();
    for at in 0..whole.len() {
        let mut altered = whole.clone();
        altered[at] ^= 0x01;
        let outcome = content_at(&altered);
        // In the header a digit may become one that means the same.
        assert!(outcome.is_err() || at < header, "byte {at}");
    }
    let mut altered = whole.clone();
    *altered.last_mut().unwrap() ^= 0x80;
    fs::write(&path, altered).unwrap();
    assert_eq!(refusal(&path), "its checksum is wrong");
}

#[test]
fn other_versions_and_other_files_are_named() {
    let (_dir, path) = file();
    for (content, reason) in [
        ("weft-state 2 0 00000000\n", "it is of version 2, and"),
        ("weft-state 0.9-rc1 what comes then\n", "version 0.9-rc1"),
        ("weft-state 1 0\n", "no header"),
        ("weft-state 1 -1 00000000\n", "no header"),
        (
            "weft-state 1 99999999999999999999999 00000000\n",
            "no header",
        ),
        ("weft-state 1 0 xyz\n", "no header"),
        ("0e:00:00:00:00:01\n", "no header"),
        ("", "no header"),
        ("\n", "no header"),
    ] {
        fs::write(&path, content).unwrap();
        let refusal = refusal(&path);
        assert!(refusal.contains(reason), "{content:?}: {refusal}");
    }
}

#[test]
fn what_others_could_have_written_is_refused() {
    let (dir, path) = file();
    write(&path, b"peers").unwrap();
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let reason = refusal(&path);
        assert!(reason.contains(&format!("(mode {mode:04o})")), "{reason}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    assert!(read(&path).is_ok(), "to read it is no harm");

    let link = dir.path().join("link.state");
    symlink(&path, &link).unwrap();
    assert_eq!(refusal(&link), "it is no regular file");
    let folder = dir.path().join("folder.state");
    fs::create_dir(&folder).unwrap();
    assert_eq!(refusal(&folder), "it is no regular file");
    assert_eq!(refusal(Path::new("/dev/null")), "it is no regular file");
    let pipe = dir.path().join("pipe.state");
    weft_lab::run(std::process::Command::new("mkfifo").arg(&pipe)).unwrap();
    assert_eq!(refusal(&pipe), "it is no regular file");

    if rustix::process::geteuid().is_root() {
        chown(&path, Some(65534), None).unwrap();
        assert_eq!(refusal(&path), "it belongs to user 65534, not to this one");
    }
}

#[test]
fn a_file_that_is_too_long_is_not_even_read() {
    let (_dir, path) = file();
    let sparse = File::create(&path).unwrap();
    sparse.set_len(1 << 40).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(refusal(&path), "it is longer than 64 MiB");
}

proptest! {
    #[test]
    fn any_bytes_are_a_content_or_a_line(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(reason) = content_at(&bytes) {
            let reason = reason.to_string();
            prop_assert!(!reason.chars().any(char::is_control), "{reason:?}");
        }
        let whole = [header(&bytes).as_bytes(), &bytes].concat();
        prop_assert_eq!(&whole[content_at(&whole).unwrap()..], &bytes[..]);
    }
}
