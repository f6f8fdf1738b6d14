//! Clean-up that does not depend on luck.
//!
//! A lab owns a directory `weft-lab-<id>` under the system's temporary directory, perhaps one
//! of that name in memory, and namespaces `weft-<id>-<role>`. The former's file `owner` says
//! which process made it (pid and start time), a file `kept` that it is to stay after that
//! process; in `bpf` a BPF file system may be mounted. From names and files alone a lab can thus be removed by its owner's drop, by the
//! signal handler here, by the next lab on the machine (when the owner died without either),
//! or by `weft demo --remove`.

use crate::ip::{namespaces, remove_namespace};
use crate::memory::{MEMORY, has_room};
use crate::{Error, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

const ID_LEN: usize = 6;

/// Labs of this process that go when it is interrupted. Held while anything is created, so
/// that the signal handler, once it has the lock, sees all there will ever be.
static LABS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What is to be done between an interrupted process's clean-up and its end.
type LastWords = Box<dyn FnOnce() + Send>;
static LAST_WORDS: Mutex<Option<LastWords>> = Mutex::new(None);

/// Permission to create things; the signal handler waits for its end.
pub(super) struct Creating {
    _labs: MutexGuard<'static, BTreeSet<String>>,
}

/// Ask to create something. Never returns true permission once a signal came.
pub(super) fn creating() -> Result<Creating> {
    let labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
    if INTERRUPTED.load(Ordering::SeqCst) {
        return Err(Error::new("interrupted"));
    }
    Ok(Creating { _labs: labs })
}

/// Whether a signal came and the process is about to end. Errors from here on are only
/// echoes of the clean-up.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// When a signal ends this process, call `f` after the labs are removed. A later call takes
/// the place of an earlier one. `f` must not wait for what another
/// thread may hold for long: those go on, and fail, meanwhile.
pub fn on_interrupt(f: impl FnOnce() + Send + 'static) {
    let mut words = LAST_WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    *words = Some(Box::new(f));
}

/// Wait for the end when interrupted, so that the clean-up has the last word; else return.
pub fn wait_if_interrupted() {
    while interrupted() {
        std::thread::park();
    }
}

/// Take a fresh id and make the lab's directory. From here on signals remove the lab.
pub(super) fn register() -> Result<(String, PathBuf)> {
    handle_signals()?;
    let mut open = creating()?;
    for attempt in 0..100u32 {
        let hash = RandomState::new().hash_one((std::process::id(), attempt));
        let id = format!("{:06x}", hash & 0xff_ffff);
        let dir = dir_of(&id);
        match fs::create_dir(&dir) {
            Ok(()) => {
                let pid = std::process::id();
                let owner = format!("{pid} {}\n", start_time(pid).unwrap_or(0));
                record(&dir, &owner).map_err(|e| Error::because(dir.display(), e))?;
                open._labs.insert(id.clone());
                return Ok((id, dir));
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::because(dir.display(), e)),
        }
    }
    Err(Error::new("no free lab id found"))
}

/// Write the `owner` record of a lab. It is whole from the start: to others an empty one would
/// be that of a dead process.
fn record(dir: &Path, owner: &str) -> std::io::Result<()> {
    let draft = dir.join("owner.new");
    fs::write(&draft, owner)?;
    fs::rename(draft, dir.join("owner"))
}

/// Let the lab live on after this process.
pub(super) fn keep(id: &str) -> Result<()> {
    let mut open = creating()?;
    let file = dir_of(id).join("kept");
    fs::write(&file, "").map_err(|e| Error::because(file.display(), e))?;
    open._labs.remove(id);
    Ok(())
}

/// Remove a lab of this process and forget it.
pub(super) fn release(id: &str) -> Result<()> {
    let result = remove(id);
    let mut labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
    labs.remove(id);
    result
}

/// Remove everything that carries this lab's id: processes, namespaces, files.
pub fn remove(id: &str) -> Result<()> {
    let mut result = Ok(());
    let prefix = format!("weft-{id}-");
    for name in namespaces()?.iter().filter(|n| n.starts_with(&prefix)) {
        if let Err(error) = remove_namespace(name) {
            result = Err(error);
        }
    }
    // Often there is none. Whoever still has it open keeps it until then.
    let _ = unmount(bpffs_of(id), UnmountFlags::DETACH);
    for dir in [memory_of(id), dir_of(id)] {
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                result = result.and(Err(Error::because(dir.display(), e)));
            }
            _ => {}
        }
    }
    result
}

/// Remove the labs that nobody owns any more; their ids. `kept` ones too if asked for.
pub fn remove_orphans(kept: bool) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for id in ids()? {
        let dir = dir_of(&id);
        let orphan = match fs::read_to_string(dir.join("owner")) {
            Ok(_) if dir.join("kept").exists() => kept,
            Ok(owner) => !is_alive(&owner),
            // No owner on record: a lab being made at this moment, or one half removed.
            Err(_) => kept,
        };
        if orphan {
            remove(&id)?;
            removed.push(id);
        }
    }
    Ok(removed)
}

/// Ids of all labs on the machine, by their directories and namespaces.
fn ids() -> Result<BTreeSet<String>> {
    let temp = std::env::temp_dir();
    let entries = fs::read_dir(&temp).map_err(|e| Error::because(temp.display(), e))?;
    // Not every machine has files in memory.
    let in_memory = fs::read_dir(MEMORY).into_iter().flatten();
    let names = entries
        .chain(in_memory)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let of_dirs = names.filter_map(|name| id_in(name.strip_prefix("weft-lab-")?, false));
    let mut ids: BTreeSet<String> = of_dirs.collect();
    let names = namespaces()?;
    ids.extend(
        names
            .iter()
            .filter_map(|name| id_in(name.strip_prefix("weft-")?, true)),
    );
    Ok(ids)
}

/// The id at the start of `text`, followed by a role or by nothing.
fn id_in(text: &str, role: bool) -> Option<String> {
    let (id, rest) = text.split_at_checked(ID_LEN)?;
    let hex = id
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let ends = if role {
        rest.starts_with('-')
    } else {
        rest.is_empty()
    };
    (hex && ends).then(|| id.to_owned())
}

fn dir_of(id: &str) -> PathBuf {
    std::env::temp_dir().join(format!("weft-lab-{id}"))
}

/// A lab's directory in memory.
fn memory_of(id: &str) -> PathBuf {
    Path::new(MEMORY).join(format!("weft-lab-{id}"))
}

/// Make a lab's directory in memory, or return the one on disk if memory has no room.
pub(super) fn memory(id: &str) -> Result<PathBuf> {
    let _open = creating()?;
    if !has_room() {
        return Ok(dir_of(id));
    }
    let dir = memory_of(id);
    fs::create_dir_all(&dir).map_err(|e| Error::because(dir.display(), e))?;
    Ok(dir)
}

/// Where a lab's BPF file system is mounted.
fn bpffs_of(id: &str) -> PathBuf {
    dir_of(id).join("bpf")
}

/// Mount a BPF file system for a lab. What `ip netns exec` starts from here on has it, too, which
/// does not see the host's.
pub(super) fn bpffs(id: &str) -> Result<PathBuf> {
    let _open = creating()?;
    let dir = bpffs_of(id);
    let failed = |error| Error::because(format!("cannot mount {}", dir.display()), error);
    fs::create_dir_all(&dir).map_err(failed)?;
    mount("weft-lab", &dir, "bpf", MountFlags::empty(), None).map_err(|e| failed(e.into()))?;
    Ok(dir)
}

/// Whether the process of an `owner` record still runs.
fn is_alive(owner: &str) -> bool {
    let mut words = owner.split_whitespace().map(str::parse::<u64>);
    match (words.next(), words.next()) {
        (Some(Ok(pid)), Some(Ok(start))) => {
            u32::try_from(pid).is_ok_and(|pid| start_time(pid) == Some(start))
        }
        _ => false,
    }
}

/// Start of a process in ticks since boot: with the pid it names one process for ever.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // Field 22, and the 20th after the parenthesised name, which may hold blanks.
    stat.rsplit(')')
        .next()?
        .split_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// From now on SIGINT, SIGTERM and SIGHUP remove this process's labs and end it.
fn handle_signals() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM, SIGHUP])
            .map_err(|e| Error::because("cannot handle signals", e))
            .map(|mut signals| {
                std::thread::spawn(move || {
                    if let Some(signal) = signals.forever().next() {
                        close(signal);
                    }
                });
            });
    });
    result
}

fn close(signal: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
    let labs = LABS.lock().unwrap_or_else(PoisonError::into_inner);
    if !labs.is_empty() {
        eprintln!("\ninterrupted: removing the lab");
    }
    for id in labs.iter() {
        if let Err(error) = remove(id) {
            eprintln!("lab {id}: {error}");
        }
    }
    let words = LAST_WORDS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(say) = words {
        say();
    }
    std::process::exit(128 + signal);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_told_from_other_names() {
        assert_eq!(id_in("0a1b2c-n1", true).as_deref(), Some("0a1b2c"));
        assert_eq!(id_in("0a1b2c", false).as_deref(), Some("0a1b2c"));
        assert_eq!(id_in("0a1b2c", true), None);
        assert_eq!(id_in("server-x", true), None);
        assert_eq!(id_in("0a1", false), None);
        assert_eq!(id_in("0a1b2é", false), None);
    }

    #[test]
    fn a_lab_of_which_only_files_in_memory_are_left_is_found() {
        if crate::skips_test() {
            return;
        }
        let id = format!("{:06x}", std::process::id() & 0xff_ffff);
        fs::create_dir(memory_of(&id)).unwrap();
        let found = ids();
        fs::remove_dir(memory_of(&id)).unwrap();
        assert!(found.unwrap().contains(&id));
    }

    #[test]
    fn owners_are_known_by_pid_and_start() {
        let pid = std::process::id();
        let start = start_time(pid).unwrap();
        assert!(is_alive(&format!("{pid} {start}\n")));
        assert!(!is_alive(&format!("{pid} {}\n", start + 1)));
        assert!(!is_alive("nonsense"));
    }
}
