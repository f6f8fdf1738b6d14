//! Files that are always either the old content or the new one.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Write `content` to `path` through a temporary file in the same directory and a rename.
///
/// Missing directories are created with mode 0755; the file gets exactly `mode`, whatever
/// the umask.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    create_dir(dir)?;
    let file = tempfile::Builder::new().prefix(".weft-").tempfile_in(dir);
    let mut file = file.map_err(without_name)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// The error without the name of a temporary file, which is another each time: who tells a
/// lasting error once has to know it again.
fn without_name(error: io::Error) -> io::Error {
    let text = error.to_string();
    let text = text.split_once(" at path").map_or(&*text, |(text, _)| text);
    io::Error::new(error.kind(), text)
}

fn create_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    // `mode` above is subject to the umask; container runtimes run as other users.
    fs::set_permissions(dir, Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_the_directory_and_replaces_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write(&path, b"one\n", 0o644).unwrap();
        write(&path, b"two\n", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o644);
        assert_eq!(mode(&dir.path().join("a/b")), 0o755);
        let left = fs::read_dir(dir.path().join("a/b")).unwrap().count();
        assert_eq!(left, 1, "no temporary file stays behind");
    }

    #[test]
    fn an_error_that_lasts_reads_the_same_each_time() {
        // Not even root makes files there.
        let path = Path::new("/proc/self/weft-test");
        let [first, second] = [(); 2].map(|()| write(path, b"x", 0o644).unwrap_err());
        assert_eq!(first.to_string(), second.to_string());
        assert!(!first.to_string().contains(".weft-"), "{first}");
        assert!(first.to_string().contains("os error"), "{first}");
    }

    #[test]
    fn a_failed_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        assert!(write(&path, b"x", 0o644).is_err());
        assert!(path.is_dir());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
