//! Rendered configurations, kept from ADD to DEL: one file for each container, named by its
//! id.

use crate::error::{Code, Error};
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Keep `conf` for a container. The directory is made with mode 0700, the file has 0600 and
/// is on the disk, whole, when this returns.
pub fn save(dir: &Path, container_id: &str, conf: &[u8]) -> Result<(), Error> {
    let written = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        // A leading dot keeps it apart from containers' files.
        let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(dir)?;
        file.write_all(conf)?;
        file.as_file().sync_all()?;
        file.persist(dir.join(container_id))?;
        Ok(())
    };
    written().map_err(|e| failed("write", &dir.join(container_id), &e))
}

/// What was kept for a container, if anything.
pub fn load(dir: &Path, container_id: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = dir.join(container_id);
    match fs::read(&path) {
        Ok(conf) => Ok(Some(conf)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path, &error)),
    }
}

/// Forget a container. Fine if it is forgotten already.
pub fn remove(dir: &Path, container_id: &str) -> Result<(), Error> {
    let path = dir.join(container_id);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path, &error)),
        _ => Ok(()),
    }
}

/// Ids of all containers that something is kept for, sorted. None if `dir` is not there.
pub fn container_ids(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", dir, &error)),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut ids: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    ids.sort();
    Ok(ids)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    Error::new(Code::Io, format!("cannot {what} {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn kept_for_the_owner_only_and_forgotten_for_good() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("cni/flannel");
        assert_eq!(container_ids(&dir), Ok(vec![]));
        assert_eq!(load(&dir, "a"), Ok(None));
        save(&dir, "a", b"one").unwrap();
        save(&dir, "a", b"two").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("a")), 0o600);
        assert_eq!(load(&dir, "a"), Ok(Some(b"two".to_vec())));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing else");
        fs::write(dir.join(".tmp-left"), "").unwrap();
        assert_eq!(container_ids(&dir), Ok(vec!["a".to_owned()]));
        remove(&dir, "a").unwrap();
        remove(&dir, "a").unwrap();
        assert_eq!(container_ids(&dir), Ok(vec![]));
    }

    #[test]
    fn failures_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let taken = dir.path().join("taken");
        fs::write(&taken, "").unwrap();
        let error = save(&taken, "a", b"x").unwrap_err();
        assert_eq!(error.code, Code::Io as u32);
        assert!(error.msg.contains("taken/a"), "{error}");
    }
}
