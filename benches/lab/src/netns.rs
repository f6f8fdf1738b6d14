//! Network namespaces, with a name or without.

use crate::ip::{path_of, remove_namespace};
use crate::{Error, Process, Result, guard, ip, run, skip, wait_until};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

/// A network namespace. One with a name is removed, with all that runs in it, when the last
/// clone drops; one without a name goes with its last thread, process and file descriptor,
/// however they end.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    name: String,
    /// Holds a namespace without a name.
    file: Option<File>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if self.file.is_none() && path_of(&self.name).exists() {
            // There is nobody left to tell; `weft demo --remove` finds what stays behind.
            let _ = remove_namespace(&self.name);
        }
    }
}

/// How long `ip netns exec` may take to enter a namespace.
const ENTER_LIMIT: Duration = Duration::from_secs(5);

/// The namespace of the calling thread, to which it returns when this is dropped.
struct Outside(File);

impl Drop for Outside {
    fn drop(&mut self) {
        let back = move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network));
        // What the thread did next would happen in the wrong namespace.
        back.expect("a way back to the thread's own namespace");
    }
}

impl Namespace {
    /// Make a namespace of this name, its loopback up. Fails if the name is taken.
    pub fn create(name: &str) -> Result<Namespace> {
        let _open = guard::creating()?;
        ip(&format!("netns add {name}"))?;
        let namespace = Namespace(Arc::new(Owned {
            name: name.to_owned(),
            file: None,
        }));
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Make a namespace without a name, as the kernel makes them: with its loopback down.
    pub fn unnamed() -> Result<Namespace> {
        let thread = std::thread::spawn(|| {
            unshare(UnshareFlags::NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = thread.join().map_err(|_| Error::new("a thread panicked"))?;
        let file = file.map_err(|e| Error::because("cannot make a network namespace", e))?;
        Ok(Namespace(Arc::new(Owned {
            name: format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()),
            file: Some(file),
        })))
    }

    /// The word by which `ip link` knows it after `netns`: its name, or else a path that lasts
    /// as long as this.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Run `ip` inside, with the words of `args`.
    pub fn ip(&self, args: &str) -> Result<String> {
        self.enter(|| ip(args))?
    }

    /// A command that will run inside, for namespaces with a name.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name()]).arg(program);
        command
    }

    /// Run a command inside to its end; its standard output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, args) = words
            .split_first()
            .ok_or_else(|| Error::new("no command given"))?;
        match self.0.file {
            None => run(self.command(program).args(args)),
            Some(_) => self.enter(|| run(Command::new(program).args(args)))?,
        }
    }

    /// Start `command` (from [`Namespace::command`]) and let it run; both its outputs are
    /// appended to `log`. It is inside when this returns, where whoever removes the namespace
    /// finds it.
    pub fn spawn(&self, command: Command, log: &Path) -> Result<Process> {
        let mut process = Process::spawn(command, log)?;
        let inside = format!("/proc/{}/ns/net", process.pid());
        wait_until(ENTER_LIMIT, || {
            let is_inside = is_same(Path::new(&inside), &path_of(self.name()));
            is_inside || !matches!(process.ended(), Ok(None))
        });
        Ok(process)
    }

    /// Run `f` with the calling thread inside. Sockets that it opens, and threads and processes
    /// that it starts, belong to the namespace for as long as they live.
    pub fn enter<T>(&self, f: impl FnOnce() -> T) -> Result<T> {
        let failed = |e| Error::because(format!("cannot enter namespace {}", self.name()), e);
        let outside = Outside(File::open("/proc/thread-self/ns/net").map_err(failed)?);
        self.move_thread()?;
        let result = f();
        drop(outside);
        Ok(result)
    }

    /// Move the calling thread into the namespace for good. Meant for threads made for it.
    pub fn move_thread(&self) -> Result<()> {
        let failed = |e| Error::because(format!("cannot enter namespace {}", self.name()), e);
        // A name that is a path stands for itself.
        let file = File::open(path_of(self.name())).map_err(failed)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| failed(e.into()))
    }

    /// Set a sysctl inside, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.enter(|| fs::write(&path, value))?
            .map_err(|e| Error::because(format!("{} in {}", path.display(), self.name()), e))
    }

    /// Read a file under `/proc/net` as seen from inside, such as `snmp`.
    pub fn proc_net(&self, file: &str) -> Result<String> {
        // /proc/net belongs to the process; the thread's own view is elsewhere.
        let path = Path::new("/proc/thread-self/net").join(file);
        self.enter(|| fs::read_to_string(&path))?
            .map_err(|e| Error::because(format!("{} in {}", path.display(), self.name()), e))
    }
}

/// Whether both files, which are there, stand for the same namespace.
fn is_same(a: &Path, b: &Path) -> bool {
    let identity = |path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(a).is_some_and(|a| identity(b) == Some(a))
}

/// Run a test on a thread of its own in a namespace of its own, which has no name and goes with
/// the thread. Where none can be made the test is skipped.
pub fn isolated(test: impl FnOnce() + Send) {
    if skip::skips_test_without_namespaces() {
        return;
    }
    let alone = || {
        unshare(UnshareFlags::NEWNET).expect("a network namespace");
        test();
    };
    let outcome = std::thread::scope(|scope| scope.spawn(alone).join());
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

/// From here on the calling thread and what it starts see mounts of their own, of which nobody
/// else learns. Meant for threads made for it.
pub fn isolate_mounts() -> Result<()> {
    unshare(UnshareFlags::NEWNS).map_err(|e| Error::because("a mount namespace", e))?;
    run(Command::new("mount").args(["--make-rprivate", "/"])).map(drop)
}

/// Take the calling thread out of what it shares.
fn unshare(flags: UnshareFlags) -> std::io::Result<()> {
    #[expect(
        deprecated,
        reason = "it became an unsafe function for tables of files, which nobody unshares here"
    )]
    rustix::thread::unshare(flags)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(text: &str) -> Vec<&str> {
        text.lines().filter_map(|l| l.split(": ").nth(1)).collect()
    }

    #[test]
    fn a_namespace_without_a_name_has_its_own_devices_and_goes() {
        if skip::skips_test_without_namespaces() {
            return;
        }
        let [a, b] = [Namespace::unnamed().unwrap(), Namespace::unnamed().unwrap()];
        let other = b.name();
        a.ip(&format!(
            "link add one type veth peer name two netns {other}"
        ))
        .unwrap();
        let before = std::thread::current().id();
        let inside = a.enter(|| std::thread::current().id()).unwrap();
        assert_eq!(inside, before, "no thread of its own");
        let shown = b
            .run(&["ip", "-o", "link", "show", "type", "veth"])
            .unwrap();
        assert_eq!(links(&shown), ["two@if2"], "{shown}");
        let outside = ip("-o link show type veth").unwrap();
        assert!(!links(&outside).contains(&"two@if2"), "{outside}");
        drop(a);
        let gone = || b.ip("link show two").is_err();
        assert!(crate::wait_until(std::time::Duration::from_secs(10), gone));
    }

    #[test]
    fn a_thread_returns_also_when_what_it_did_inside_panics() {
        if skip::skips_test_without_namespaces() {
            return;
        }
        let own = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let (ns, before) = (Namespace::unnamed().unwrap(), own());
        assert_ne!(ns.enter(own).unwrap(), before);
        let inside = std::panic::AssertUnwindSafe(|| ns.enter(|| panic!("as it must")));
        assert!(std::panic::catch_unwind(inside).is_err());
        assert_eq!(own(), before);
    }
}
