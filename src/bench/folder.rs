//! Where a sitting's files go.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use weft_benches::report::{Sitting, html, json};
use weft_lab::{Error, Result};

/// The page.
const PAGE: &str = "report.html";
/// All samples.
const DATA: &str = "bench.json";

/// A folder that holds nothing but one sitting.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Make it. One that exists has to be empty, so that no two sittings mix.
    pub(crate) fn create(path: &Path) -> Result<Folder> {
        let failed = |e: io::Error| Error::because(format!("--out {}", path.display()), e);
        fs::create_dir_all(path).map_err(failed)?;
        if fs::read_dir(path).map_err(failed)?.next().is_some() {
            let path = path.display();
            return Err(Error::new(format!("--out {path}: the folder is not empty")));
        }
        let path = path.to_owned();
        Ok(Folder { path })
    }

    /// Write page and data, in place of what was written before.
    pub(crate) fn write(&self, sitting: &Sitting) -> Result<()> {
        self.put(DATA, &json::render(sitting))?;
        self.put(PAGE, &html::render(sitting))
    }

    /// Write a file whose name may have folders in it.
    pub(crate) fn put(&self, name: &str, text: &str) -> Result<()> {
        let file = self.path.join(name);
        let folder = file.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, text))
            .map_err(|e| Error::because(file.display(), e))
    }

    /// Take it away again if nothing was written.
    pub(crate) fn remove_if_empty(&self) {
        // Fails where there is something in it, which is as it should be.
        let _ = fs::remove_dir(&self.path);
    }

    /// What was written, for people.
    pub(crate) fn contents(&self) -> String {
        let file = |name| self.path.join(name).display().to_string();
        format!("{} and {}", file(PAGE), file(DATA))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_will_do() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let folder = Folder::create(&path).unwrap();
        Folder::create(&path).unwrap();
        folder.put("iperf3/x.json", "{}").unwrap();
        assert_eq!(
            fs::read_to_string(path.join("iperf3/x.json")).unwrap(),
            "{}"
        );
        let error = Folder::create(&path).unwrap_err().to_string();
        assert!(error.ends_with("the folder is not empty"), "{error}");
        folder.remove_if_empty();
        assert!(path.exists());
        let file = path.join("iperf3/x.json");
        assert!(Folder::create(&file).is_err());
    }

    #[test]
    fn an_unused_folder_goes() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("results");
        Folder::create(&path).unwrap().remove_if_empty();
        assert!(!path.exists());
    }
}
