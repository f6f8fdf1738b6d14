//! Old values on the disk, written down before they are changed.

use crate::knob::Knob;
use rustix::fs::OFlags;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The form that is read and written.
const VERSION: u32 = 1;

/// Who but the owner may write to a file.
const OTHERS_WRITE: u32 = 0o022;

/// What has been changed, or was about to be when its writer was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    version: u32,
    /// The start of the kernel that the values belong to; they are gone with it.
    boot_id: String,
    /// The profile that was applied last, as it was named.
    pub profile: String,
    /// In the order of the first change of each.
    pub entries: Vec<Entry>,
}

/// One knob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Which.
    pub knob: Knob,
    /// The value before the first change.
    pub old: String,
    /// Values that it may have by our doing, the last one wanted at the end; none if a run has
    /// begun that has not come to it yet.
    pub ours: Vec<String>,
}

/// Why there is no journal to work with. One line.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file cannot be read.
    #[error("cannot read {0}: {1}")]
    Unreadable(String, io::Error),
    /// The file cannot be written, so nothing is changed.
    #[error("cannot write {0}: {1}")]
    Unwritable(String, io::Error),
    /// It says something that a journal does not.
    #[error(
        "{0} is no journal of weft tune ({1}); move it away if the host's values are to stay as they are"
    )]
    Wrong(String, String),
    /// Another run holds the lock.
    #[error("another weft tune is at work, which holds {0}")]
    Busy(String),
}

/// Where a journal is kept.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    boot_id: String,
}

/// Held while the host is being changed.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Journal {
    /// What is known of a knob.
    pub fn of(&self, knob: &Knob) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.knob == *knob)
    }

    /// Each knob with its old value.
    pub fn old(&self) -> impl Iterator<Item = (&Knob, &str)> {
        self.entries.iter().map(|entry| (&entry.knob, &*entry.old))
    }

    /// Note that a run is about to change knobs, of which this one is `now`. Until the run comes to
    /// it, whatever else it has is by what the run's other changes bring with them.
    pub(crate) fn begin(&mut self, knob: &Knob, now: &str) {
        self.entry(knob, now).ours.clear();
    }

    /// Note that `knob`, which is `now`, is to be `to`. The first old value stays.
    pub(crate) fn note(&mut self, knob: &Knob, now: &str, to: &str) {
        let entry = self.entry(knob, now);
        entry.ours.clear();
        // Until the change is made, and where it is refused.
        if now != to && now != entry.old {
            entry.ours.push(now.to_owned());
        }
        entry.ours.push(to.to_owned());
    }

    /// What is known of a knob, which is `now` if nothing is yet.
    fn entry(&mut self, knob: &Knob, now: &str) -> &mut Entry {
        let known = self.entries.iter().position(|entry| entry.knob == *knob);
        let at = known.unwrap_or_else(|| {
            self.entries.push(Entry {
                knob: knob.clone(),
                old: now.to_owned(),
                ours: Vec::new(),
            });
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }

    pub(crate) fn forget(&mut self, knob: &Knob) {
        self.entries.retain(|entry| entry.knob != *knob);
    }
}

impl Entry {
    /// The value that was wanted last.
    pub fn wanted(&self) -> &str {
        self.ours.last().map_or(&self.old, |value| value)
    }

    /// Whether somebody else has set this value.
    pub fn is_foreign(&self, now: &str) -> bool {
        now != self.old && !self.ours.is_empty() && !self.ours.iter().any(|value| value == now)
    }
}

impl Store {
    /// The journal in the file at `path`, for the start of the kernel that `boot_id` names.
    pub fn at(path: &Path, boot_id: &str) -> Store {
        Store {
            path: path.to_path_buf(),
            boot_id: boot_id.to_owned(),
        }
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// The journal; an empty one if there is none, or none of this start of the kernel.
    pub fn load(&self) -> Result<Journal, JournalError> {
        let empty = Journal {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            ..Journal::default()
        };
        let wrong = |what: String| JournalError::Wrong(self.name(), what);
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(empty),
            Err(error) => return Err(JournalError::Unreadable(self.name(), error)),
        };
        let file = fs::metadata(&self.path);
        let file = file.map_err(|error| JournalError::Unreadable(self.name(), error))?;
        if file.uid() != geteuid().as_raw() || file.mode() & OTHERS_WRITE != 0 {
            return Err(wrong("others may have written it".to_owned()));
        }
        let journal: Journal =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if journal.version != VERSION {
            return Err(wrong(format!("version {}, not {VERSION}", journal.version)));
        }
        if let Some(entry) = journal.entries.iter().find(|entry| !entry.knob.is_sound()) {
            return Err(wrong(format!("{:?} is no knob", entry.knob)));
        }
        Ok(if journal.boot_id == self.boot_id {
            journal
        } else {
            empty
        })
    }

    /// Write it, so that it is on the disk when this returns. An empty one has no file.
    pub(crate) fn save(&self, journal: &Journal) -> Result<(), JournalError> {
        let written = match journal.entries.is_empty() {
            true => self.remove(),
            false => self.replace(journal),
        };
        written.map_err(|error| JournalError::Unwritable(self.name(), error))
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn replace(&self, journal: &Journal) -> io::Result<()> {
        let dir = self.folder()?;
        let mut file = tempfile::Builder::new().prefix(".weft-").tempfile_in(dir)?;
        serde_json::to_writer_pretty(&mut file, journal)?;
        file.write_all(b"\n")?;
        file.as_file()
            .set_permissions(Permissions::from_mode(0o600))?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        // The rename, too, has to be on the disk before a value is changed.
        File::open(dir)?.sync_all()
    }

    fn folder(&self) -> io::Result<&Path> {
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        fs::create_dir_all(dir)?;
        Ok(dir)
    }

    /// See to it that no other run changes the host meanwhile.
    pub fn lock(&self) -> Result<Lock, JournalError> {
        let path = self.path.with_extension("lock");
        let name = path.display().to_string();
        let open = || {
            self.folder()?;
            // A link would have the mode of whatever it leads to changed.
            let flags = OFlags::NOFOLLOW.bits().cast_signed();
            let mut options = File::options();
            options.create(true).append(true).custom_flags(flags);
            let file = options.open(&path)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            Ok(file)
        };
        let file = open().map_err(|error| JournalError::Unwritable(name.clone(), error))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(JournalError::Busy(name)),
            Err(TryLockError::Error(error)) => Err(JournalError::Unwritable(name, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knob() -> Knob {
        Knob::sysctl("net.core.netdev_max_backlog")
    }

    fn store(dir: &Path) -> Store {
        Store::at(&dir.join("deep/tune.json"), "boot")
    }

    #[test]
    fn the_first_old_value_stays_and_values_on_the_way_are_ours() {
        let mut journal = Journal::default();
        journal.note(&knob(), "1000", "4000");
        journal.note(&knob(), "4000", "2000");
        let entry = journal.of(&knob()).unwrap();
        assert_eq!((&*entry.old, entry.wanted()), ("1000", "2000"));
        for (value, foreign) in [
            ("1000", false),
            ("4000", false),
            ("2000", false),
            ("7", true),
        ] {
            assert_eq!(entry.is_foreign(value), foreign, "{value}");
        }
        journal.note(&knob(), "2000", "2000");
        assert!(journal.of(&knob()).unwrap().is_foreign("4000"), "long ago");
    }

    #[test]
    fn it_comes_back_from_the_disk_and_goes_when_empty() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut journal = store.load().unwrap();
        assert!(journal.entries.is_empty());
        journal.note(&knob(), "1000", "4000");
        store.save(&journal).unwrap();
        assert_eq!(store.load().unwrap(), journal);
        let mode = fs::metadata(&store.path).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
        journal.forget(&knob());
        store.save(&journal).unwrap();
        assert!(!store.path.exists());
        store.save(&journal).unwrap();
        let left = fs::read_dir(store.path.parent().unwrap()).unwrap().count();
        assert_eq!(left, 0, "no temporary file stays behind");
    }

    #[test]
    fn one_of_an_earlier_start_of_the_kernel_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = store(dir.path()).load().unwrap();
        journal.note(&knob(), "1000", "4000");
        store(dir.path()).save(&journal).unwrap();
        let next = Store::at(&dir.path().join("deep/tune.json"), "other");
        assert!(next.load().unwrap().entries.is_empty());
    }

    #[test]
    fn what_is_no_journal_is_refused_by_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut journal = store.load().unwrap();
        journal.note(&knob(), "1000", "4000");
        store.save(&journal).unwrap();
        let good = fs::read_to_string(&store.path).unwrap();
        for (text, part) in [
            (String::new(), "EOF"),
            ("{}".to_owned(), "version"),
            (
                good.replace("\"version\": 1", "\"version\": 2"),
                "version 2",
            ),
            (good.replace("net.core.", "net/../../"), "is no knob"),
            (good.replace("\"old\"", "\"older\""), "older"),
        ] {
            fs::write(&store.path, text).unwrap();
            let error = store.load().unwrap_err().to_string();
            assert!(
                error.contains(part) && error.lines().count() == 1,
                "{error}"
            );
        }
        fs::write(&store.path, good).unwrap();
        fs::set_permissions(&store.path, Permissions::from_mode(0o666)).unwrap();
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains("others may have written it"), "{error}");
    }

    #[test]
    fn two_runs_do_not_meet() {
        let dir = tempfile::tempdir().unwrap();
        let first = store(dir.path()).lock().unwrap();
        let error = store(dir.path()).lock().unwrap_err().to_string();
        assert!(error.contains("another weft tune is at work"), "{error}");
        drop(first);
        store(dir.path()).lock().unwrap();
    }

    #[test]
    fn a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let theirs = dir.path().join("theirs");
        fs::write(&theirs, "").unwrap();
        fs::set_permissions(&theirs, Permissions::from_mode(0o644)).unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        for target in [theirs.clone(), dir.path().join("none")] {
            let link = store.path.with_extension("lock");
            std::os::unix::fs::symlink(&target, &link).unwrap();
            let error = store.lock().unwrap_err().to_string();
            assert!(error.starts_with("cannot write "), "{error}");
            fs::remove_file(link).unwrap();
        }
        assert_eq!(fs::metadata(&theirs).unwrap().mode() & 0o777, 0o644);
        assert!(
            !dir.path().join("none").exists(),
            "nothing is made behind a link"
        );
    }
}
