//! A node in the namespace of the calling thread, and the processes on it.

use crate::place::memory_dir;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const CONFIG_KEY: &str = "/coreos.com/network/config";
pub(crate) const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
pub(crate) const SUBNETS: &str = "/coreos.com/network/subnets/";

/// A process that ends with the test.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Process {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        Process { child, log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    /// The address families of its open sockets, as systemd names them.
    pub(crate) fn socket_families(&self) -> Vec<&'static str> {
        let proc = PathBuf::from(format!("/proc/{}", self.child.id()));
        let fds = fs::read_dir(proc.join("fd")).unwrap();
        let target = |fd: std::io::Result<fs::DirEntry>| fs::read_link(fd.ok()?.path()).ok();
        let targets: Vec<_> = fds.filter_map(target).collect();
        let inode = |target: &PathBuf| {
            let inode = target.to_str()?.strip_prefix("socket:[")?;
            inode.strip_suffix(']').map(str::to_owned)
        };
        let inodes: Vec<_> = targets.iter().filter_map(inode).collect();
        let tables = [
            ("AF_UNIX", "unix"),
            ("AF_INET", "udp"),
            ("AF_INET6", "udp6"),
            ("AF_NETLINK", "netlink"),
            ("AF_PACKET", "packet"),
        ];
        let open = |table: &str| {
            let text = fs::read_to_string(proc.join("net").join(table)).unwrap();
            let mut words = text.split_whitespace();
            words.any(|word| inodes.iter().any(|inode| inode == word))
        };
        let in_use = tables.into_iter().filter(|(_, table)| open(table));
        in_use.map(|(family, _)| family).collect()
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Wait for a line that contains `text`; the line.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        let mut found = None;
        wait_for(&format!("{text:?} in the log"), || {
            found = self
                .log()
                .lines()
                .find(|l| l.contains(text))
                .map(str::to_owned);
            found.is_some()
        });
        found.unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::SIGTERM);
        let status = self.wait();
        (status.code(), self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Run a command that must succeed; its standard output.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {error}",
        args.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn ip(args: &str) -> String {
    run("ip", &args.split(' ').collect::<Vec<_>>())
}

/// A node with an underlay, in the namespace of the calling thread.
pub(crate) struct Node {
    dir: TempDir,
}

impl Node {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn etcd(&self) -> Process {
        let client = "http://127.0.0.1:2379";
        let peer = "http://127.0.0.1:2380";
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(self.path("etcd"));
        command.args([
            "--listen-client-urls",
            client,
            "--advertise-client-urls",
            client,
        ]);
        command.args([
            "--listen-peer-urls",
            peer,
            "--initial-advertise-peer-urls",
            peer,
        ]);
        command.args(["--initial-cluster", &format!("default={peer}")]);
        // The only member need not wait long for others to want to lead.
        command.args(["--heartbeat-interval", "10", "--election-timeout", "100"]);
        let etcd = Process::spawn(command, self.path("etcd.log"));
        wait_for("etcd", || {
            let health = Command::new("etcdctl")
                .args(["endpoint", "health"])
                .output();
            health.unwrap().status.success()
        });
        etcd
    }

    /// An agent on the node's interface and etcd, its files in the node's directory.
    pub(crate) fn agent(&self, log: &str) -> Process {
        self.agent_with(log, &[])
    }

    pub(crate) fn agent_with(&self, log: &str, flags: &[&str]) -> Process {
        Process::spawn(self.command(flags), self.path(log))
    }

    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = self.command_without_iface();
        command.arg("-iface=eth0").args(flags);
        command
    }

    pub(crate) fn command_without_iface(&self) -> Command {
        let mut command = Command::new(WEFT);
        command.args(["agent", "-etcd-endpoints=http://127.0.0.1:2379"]);
        for (flag, file) in [("subnet-file", "subnet.env"), ("state-dir", "state")] {
            command.arg(format!("-{flag}={}", self.path(file).display()));
        }
        command
    }

    pub(crate) fn subnet_env(&self) -> String {
        fs::read_to_string(self.path("subnet.env")).unwrap()
    }
}

/// Run `test` on a node of its own.
pub(crate) fn on_node(test: impl FnOnce(&Node) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        ip("link set lo up");
        ip("link add eth0 type veth peer name wire");
        ip("address add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        ip("link set wire up");
        let dir = memory_dir();
        test(&Node { dir });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn leases() -> Vec<(String, String)> {
    let text = run("etcdctl", &["get", "--prefix", SUBNETS]);
    let lines: Vec<&str> = text.lines().collect();
    let pair = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
    lines.chunks(2).map(pair).collect()
}
