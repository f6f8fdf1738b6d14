//! `weft install-conf SRC DST`: put a file in place in one step, as flannel's images do with
//! the CNI configuration.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// Copy the first file named to the place named second.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let [source, target] = args else {
        eprintln!("usage: install-conf SRC DST");
        return ExitCode::FAILURE;
    };
    let (source, target) = (Path::new(source), Path::new(target));
    match copy(source, target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            let (source, target) = (source.display(), target.display());
            eprintln!("install-conf: cannot copy {source} to {target}: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Readers of `target` see the old content or the new one, never a part, and never without
/// the permissions of `source`.
fn copy(source: &Path, target: &Path) -> Result<(), String> {
    let of = |path: &Path, error: io::Error| format!("{}: {error}", path.display());
    let mut content = File::open(source).map_err(|error| of(source, error))?;
    let dir = match target.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.is_dir() {
        let dir = dir.display();
        return Err(format!(
            "there is no folder {dir}; make it with: mkdir -p {dir}"
        ));
    }
    // The name ends in no suffix that container runtimes look for.
    let temporary = tempfile::Builder::new()
        .prefix(".install-conf-")
        .tempfile_in(dir);
    let mut file = temporary
        .map_err(|error| format!("cannot write into {}: {}", dir.display(), error.kind()))?;
    io::copy(&mut content, &mut file).map_err(|error| of(source, error))?;
    let permissions = content.metadata().map(|metadata| metadata.permissions());
    permissions
        .and_then(|permissions| file.as_file().set_permissions(permissions))
        .and_then(|()| file.as_file().sync_all())
        .and_then(|()| file.persist(target).map_err(|error| error.error))
        .map_err(|error| of(target, error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_copy_has_content_and_mode_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("a"), dir.path().join("b"));
        for (content, mode) in [("{}", 0o644), ("{\"x\":1}", 0o600), ("", 0o755)] {
            fs::write(&source, content).unwrap();
            fs::set_permissions(&source, Permissions::from_mode(mode)).unwrap();
            copy(&source, &target).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), content);
            let now = fs::metadata(&target).unwrap().permissions().mode();
            assert_eq!(now & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_failed_copy_leaves_the_target_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (source, target) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&target, "old").unwrap();
        assert!(copy(&source, &target).is_err(), "no source");
        assert!(copy(dir.path(), &target).is_err(), "not a file");
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        let none = dir.path().join("none");
        let reason = copy(&target, &none.join("b")).unwrap_err();
        let wanted = format!(
            "there is no folder {0}; make it with: mkdir -p {0}",
            none.display()
        );
        assert_eq!(reason, wanted);
        let reason = copy(&target, &target.join("b")).unwrap_err();
        assert!(reason.contains("there is no folder"), "{reason}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
