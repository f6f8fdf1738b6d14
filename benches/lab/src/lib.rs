//! The lab: nodes and pods in network namespaces, joined by one underlay.
//!
//! [`Lab`] makes nodes; [`Etcd`], [`Agent`] and [`Vtep`] (kernel VXLAN) run on them;
//! a [`Switch`] chooses which [`Path`] pod traffic takes, and an [`Arena`] lets
//! [`Contestant`]s take turns. Everything a lab makes carries
//! its id in its name, so several can run at once and each removes only its own: on drop,
//! on failure, and on SIGINT, SIGTERM or SIGHUP (see [`guard`]).

pub mod agent;
pub mod arena;
pub mod cluster;
pub mod contestant;
pub mod etcd;
pub mod flannel;
pub mod guard;
pub mod kernel;
pub mod netns;
pub mod ovs;
pub mod path;
pub mod peers_file;
pub mod proxy;
pub mod regime;
pub mod slow;
pub mod tools;
pub mod topology;
pub mod tuntap;

pub use agent::{Agent, AgentOptions, SubnetEnv};
pub use arena::Arena;
pub use cluster::{Cluster, ClusterOptions};
pub use contestant::{CONTESTANTS, Contestant};
pub use etcd::Etcd;
pub use kernel::{Vtep, VxlanSpec};
pub use netns::{Namespace, Process};
pub use path::{Path, Switch};
pub use peers_file::PeersFile;
pub use regime::Regime;
pub use topology::{Lab, LabOptions, Node, Pod};

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Why something in the lab failed: one line that names the command or file.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// Result of lab operations.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that reads as `message`, its line breaks made spaces.
    pub fn new(message: impl Into<String>) -> Error {
        let message: String = message.into();
        let lines: Vec<_> = message.lines().map(str::trim).collect();
        Error(lines.join(" ").trim().to_owned())
    }

    /// `what` failed for the reason `source`.
    pub fn because(what: impl std::fmt::Display, source: impl std::fmt::Display) -> Error {
        Error::new(format!("{what}: {source}"))
    }
}

/// Run a command to its end; its standard output, or an error naming it and its complaint.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(std::process::Stdio::null())
        // Ctrl-C is for the lab, which stops its commands itself (see `guard`).
        .process_group(0)
        .output()
        .map_err(|e| Error::because(format!("cannot run `{shown}`"), e))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaint = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    Err(Error::because(
        format!("`{shown}` failed ({})", output.status),
        complaint.trim(),
    ))
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|w| w.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

/// Write a shell script to `path` that can be run at once.
///
/// By a process of its own: one that this process starts in another thread holds, until it runs
/// something else, all files that are open here, and a program that anyone has open for writing
/// cannot be run (`ETXTBSY`).
pub fn script(path: impl AsRef<std::path::Path>, text: &str) -> Result<()> {
    use std::io::Write;
    let path = path.as_ref();
    let failed = |e| Error::because(format!("cannot write {}", path.display()), e);
    let mut writer = Command::new("sh")
        .args(["-c", "rm -f \"$0\" && cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let input = writer.stdin.take();
    let written = input.map(|mut input| write!(input, "#!/bin/sh\n{text}\n"));
    written.transpose().map_err(failed)?;
    match writer.wait().map_err(failed)?.success() {
        true => Ok(()),
        false => Err(Error::new(format!("cannot write {}", path.display()))),
    }
}

/// Run `ip` with the words of `args`.
pub fn ip(args: &str) -> Result<String> {
    run(Command::new("ip").args(args.split_whitespace()))
}

/// Whether this process may make namespaces: it runs as root and has `ip`.
/// Otherwise the reason in one line, for tests that have to be skipped.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces need root".to_owned());
    }
    ip("netns list").err().map(|e| e.to_string())
}

/// For tests: whether the lab cannot run here. If so the reason is printed and, so that
/// `make test` can count it, appended to the file that `WEFT_SKIPPED` names.
pub fn skips_test() -> bool {
    skips_test_without(&[])
}

/// As [`skips_test`], also where one of these files, or programs in `PATH`, is missing. Each
/// comes with the Debian package that has it.
pub fn skips_test_without(files: &[(&str, &str)]) -> bool {
    let missing = || tools::missing().map(|missing| missing.to_string());
    let absent = || {
        let there = |file: &str| std::path::Path::new(file).exists() || tools::in_path(file);
        let absent = files.iter().find(|(file, _)| !there(file));
        absent.map(|(file, package)| format!("there is no {file}; try `apt-get install {package}`"))
    };
    match unavailable().or_else(missing).or_else(absent) {
        Some(reason) => {
            skip(&reason);
            true
        }
        None => false,
    }
}

/// For tests: say that this one is skipped, and have it counted.
pub fn skip(reason: &str) {
    use std::io::Write;
    // Not with eprintln, whose output the test harness swallows where tests pass.
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    if let Some(path) = std::env::var_os("WEFT_SKIPPED") {
        let file = std::fs::File::options().append(true).open(path);
        // Only the count suffers if that cannot be written.
        let _ = file.and_then(|mut file| writeln!(file, "{reason}"));
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn scripts_run_at_once_whatever_other_threads_start() {
        let done = AtomicBool::new(false);
        let path = std::env::temp_dir().join(format!("weft-script-{}", std::process::id()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert!(Command::new("true").status().is_ok());
                    }
                });
            }
            let failure = (0..400).find_map(|round| {
                super::script(&path, &format!("echo {round}")).ok();
                let output = Command::new(&path).output();
                let right = |said: &[u8]| *said == *format!("{round}\n").as_bytes();
                (!output.as_ref().is_ok_and(|o| right(&o.stdout))).then_some(output)
            });
            done.store(true, Ordering::Relaxed);
            assert!(failure.is_none(), "{failure:?}");
        });
        let _ = std::fs::remove_file(path);
    }
}
