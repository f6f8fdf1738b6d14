//! What the program `ip` is asked for, and the namespaces that it gives names to.

use crate::{Result, run, wait_until};
use rustix::process::{Pid, Signal};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Run `ip` with the words of `args`.
pub fn ip(args: &str) -> Result<String> {
    run(Command::new("ip").args(args.split_whitespace()))
}

/// The names of all network namespaces that have one.
pub(crate) fn namespaces() -> Result<Vec<String>> {
    let list = ip("netns list")?;
    let names = list
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    Ok(names.map(str::to_owned).collect())
}

/// The file by which a namespace of this name is known.
pub(crate) fn path_of(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// Kill what runs inside the namespace `name` and delete it. Fine if it is gone already, or
/// goes meanwhile: a signal may come while its owner is at it.
pub(crate) fn remove_namespace(name: &str) -> Result<()> {
    match try_remove(name) {
        Err(_) if !path_of(name).exists() => Ok(()),
        result => result,
    }
}

fn try_remove(name: &str) -> Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let pids = pids(name)?;
        if pids.is_empty() {
            break;
        }
        for &pid in &pids {
            let _ = rustix::process::kill_process(pid, signal);
        }
        wait_until(Duration::from_secs(3), || {
            self::pids(name).is_ok_and(|left| left.is_empty())
        });
    }
    ip(&format!("netns del {name}")).map(drop)
}

/// Processes inside, leaving out our own (whose threads may be there).
fn pids(name: &str) -> Result<Vec<Pid>> {
    let own = rustix::process::getpid();
    let list = ip(&format!("netns pids {name}"))?;
    let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    let pids = pids.filter_map(Pid::from_raw).filter(|&pid| pid != own);
    // A dead child that is not yet waited for still appears; it holds nothing.
    Ok(pids.filter(|&pid| !is_zombie(pid)).collect())
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |s| {
        let after_name = s.rsplit(')').next().unwrap_or_default();
        after_name.trim_start().starts_with('Z')
    })
}
