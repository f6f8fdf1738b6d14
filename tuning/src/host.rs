//! The host as files and as ethtool show it.

use crate::ethtool::Ethtool;
use crate::knob::{Knob, KnobError, Knobs, spelt, told};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The host, or a folder that looks like one.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
    pub(crate) ethtool: Ethtool,
}

impl Host {
    /// This host.
    pub fn this() -> Host {
        Host::at(Path::new("/"))
    }

    /// The one whose `/sys` and `/proc` are in `root`.
    pub fn at(root: &Path) -> Host {
        Host {
            root: root.to_path_buf(),
            ethtool: Ethtool::new(),
        }
    }

    /// A path below the root, given without a leading slash.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A file's text without blanks around it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file's number.
    pub(crate) fn number<T: std::str::FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in a folder, sorted; none if there is no such folder.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    /// Which start of the kernel this is.
    pub fn boot_id(&self) -> String {
        let id = self.text("proc/sys/kernel/random/boot_id");
        id.unwrap_or_default()
    }
}

impl Knobs for Host {
    fn read(&self, knob: &Knob) -> Result<String, KnobError> {
        let Some((path, form)) = knob.file() else {
            return self.ethtool.read(knob);
        };
        let text = fs::read_to_string(self.path(&path)).map_err(|error| because(&path, &error))?;
        let value = told(form, &text);
        value.ok_or_else(|| KnobError::Refused(format!("/{path} holds {:?}", text.trim())))
    }

    fn write(&self, knob: &Knob, value: &str) -> Result<(), KnobError> {
        let Some((path, form)) = knob.file() else {
            return self.ethtool.write(knob, value);
        };
        let text = spelt(form, value);
        let text =
            text.ok_or_else(|| KnobError::Refused(format!("{value:?} is no value of it")))?;
        // Opened as it is: a file that is not there must not be made.
        let file = fs::File::options().write(true).open(self.path(&path));
        let written = file.and_then(|mut file| {
            use io::Write;
            // A folder in place of a host has files that keep what is longer.
            if self.root != Path::new("/") {
                file.set_len(0)?;
            }
            file.write_all(text.as_bytes())
        });
        written.map_err(|error| because(&path, &error))
    }
}

fn because(path: &str, error: &io::Error) -> KnobError {
    match error.kind() {
        io::ErrorKind::NotFound => KnobError::Gone,
        _ => KnobError::Refused(format!("/{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rps() -> Knob {
        Knob::Rps {
            device: "eth0".to_owned(),
            queue: 0,
        }
    }

    #[test]
    fn values_are_read_and_written_in_the_files_own_form() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("sys/class/net/eth0/queues/rx-0/rps_cpus");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "00000000,000000ff\n").unwrap();
        let host = Host::at(root.path());
        assert_eq!(host.read(&rps()).unwrap(), "0-7");
        host.write(&rps(), "0,33").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "00000002,00000001");
        assert_eq!(host.read(&rps()).unwrap(), "0,33");
        let error = host.write(&rps(), "x").unwrap_err();
        assert!(error.to_string().contains("\"x\""), "{error}");
    }

    #[test]
    fn a_file_that_is_not_there_is_gone_and_not_made() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        assert_eq!(host.read(&rps()), Err(KnobError::Gone));
        assert_eq!(host.write(&rps(), "0"), Err(KnobError::Gone));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
