//! Network namespaces for threads.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether the test has to be left for want of root. If so that is said, past the test
/// harness, which swallows what passing tests print, and left in the file that `make test`
/// counts skipped tests by.
pub(crate) fn skips_test() -> bool {
    if rustix::process::geteuid().is_root() {
        return false;
    }
    let reason = "network namespaces need root";
    let _ = writeln!(std::io::stderr(), "skipped: {reason}");
    if let Some(path) = std::env::var_os("WEFT_SKIPPED") {
        let file = File::options().append(true).open(path);
        // Only the count suffers if that cannot be written.
        let _ = file.and_then(|mut file| writeln!(file, "{reason}"));
    }
    true
}

/// Move the calling thread into a network namespace of its own.
pub(crate) fn enter_fresh() {
    Namespace::fresh().move_thread();
}

/// A network namespace without a name: it goes with its last thread and file descriptor,
/// however they end.
pub(crate) struct Namespace(File);

impl Namespace {
    /// A new one.
    pub(crate) fn fresh() -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("weft-kernel-{}-{count}", std::process::id());
        ip(&format!("netns add {name}"));
        let file = File::open(format!("/run/netns/{name}"));
        ip(&format!("netns del {name}"));
        Namespace(file.unwrap())
    }

    /// A path to it for other processes.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Run `f` with the calling thread inside. What it opens and the threads and processes
    /// that it starts belong to the namespace.
    pub(crate) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        let outside = Namespace(File::open("/proc/thread-self/ns/net").unwrap());
        self.move_thread();
        let result = f();
        outside.move_thread();
        result
    }

    /// Move the calling thread inside.
    fn move_thread(&self) {
        let kind = LinkNameSpaceType::Network;
        move_into_link_name_space(self.0.as_fd(), Some(kind)).unwrap();
    }
}

/// Run `ip` with the words of `args`, in the thread's namespace.
pub(crate) fn ip(args: &str) {
    run("ip", args);
}

/// Run a command in the thread's namespace and expect success.
pub(crate) fn run(program: &str, args: &str) {
    let output = Command::new(program).args(args.split_whitespace()).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args}: {stderr}");
}

/// Set a sysctl in the thread's namespace.
pub(crate) fn sysctl(key: &str, value: &str) {
    let path = format!("/proc/sys/{key}");
    fs::write(&path, value).unwrap_or_else(|e| panic!("{path}: {e}"));
}
