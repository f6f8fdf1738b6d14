//! A node in the namespace of the calling thread, and the processes on it.

use rustix::process::Signal;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;
use weft_lab::etcd::Location;
use weft_lab::netns::isolate_mounts;
use weft_lab::{Etcd, isolated, memory_dir, wait_until};

pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
pub(crate) const CONFIG_KEY: &str = "/coreos.com/network/config";
pub(crate) const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
pub(crate) const SUBNETS: &str = "/coreos.com/network/subnets/";

/// A process that ends with the test, and whose log is shown if that fails.
pub(crate) struct Process(weft_lab::Process);

impl Process {
    pub(crate) fn spawn(command: Command, log: PathBuf) -> Process {
        Process(weft_lab::Process::spawn(command, &log).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.0.signal(signal).unwrap();
    }

    /// The address families of its open sockets, as systemd names them.
    pub(crate) fn socket_families(&self) -> Vec<&'static str> {
        let proc = PathBuf::from(format!("/proc/{}", self.0.pid()));
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
        self.0.log()
    }

    /// Wait for a line that contains `text`; the line.
    pub(crate) fn expect(&mut self, text: &str) -> String {
        self.0.line_with(text, LIMIT).unwrap()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.0.wait(LIMIT).unwrap()
    }

    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let status = self.wait();
        (status.code(), self.log())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.0.log_file().display(), self.log());
        }
    }
}

pub(crate) fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(wait_until(LIMIT, condition), "no {what} in {LIMIT:?}");
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
    /// A BPF file system that goes with the test, whose mounts are its own from here on.
    pub(crate) fn own_bpffs(&self) -> String {
        isolate_mounts().unwrap();
        let folder = self.path("bpf");
        fs::create_dir(&folder).unwrap();
        let folder = folder.to_str().unwrap().to_owned();
        run("mount", &["-t", "bpf", "none", &folder]);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn etcd(&self) -> Etcd {
        Etcd::start_at(Location::isolated(), self.dir.path()).unwrap()
    }

    /// An agent on the node's interface and etcd, its files in the node's directory.
    pub(crate) fn agent(&self, log: &str) -> Process {
        self.agent_with(log, &[])
    }

    pub(crate) fn agent_with(&self, log: &str, flags: &[&str]) -> Process {
        Process::spawn(self.command(flags), self.path(log))
    }

    /// What a command that asks this node's agents ends with and says.
    pub(crate) fn ask(&self, command: &str, words: &[&str]) -> (Option<i32>, String) {
        let mut asking = Command::new(WEFT);
        asking.arg(command).args(words);
        asking.arg("--socket-dir").arg(self.path("run"));
        let output = asking.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }

    pub(crate) fn command(&self, flags: &[&str]) -> Command {
        let mut command = self.command_without_iface();
        command.arg("-iface=eth0").args(flags);
        command
    }

    pub(crate) fn command_without_iface(&self) -> Command {
        let mut command = Command::new(WEFT);
        command.args(["agent", "-etcd-endpoints=http://127.0.0.1:2379"]);
        for (flag, file) in [
            ("subnet-file", "subnet.env"),
            ("state-dir", "state"),
            ("socket-dir", "run"),
            // No BPF file system: what is pinned would stay when the namespace is gone.
            ("bpffs", "bpf"),
        ] {
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
    isolated(|| {
        ip("link set lo up");
        ip("link add eth0 type veth peer name wire");
        ip("address add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        ip("link set wire up");
        let dir = memory_dir().unwrap();
        test(&Node { dir });
    });
}

pub(crate) fn leases() -> Vec<(String, String)> {
    let text = run("etcdctl", &["get", "--prefix", SUBNETS]);
    let lines: Vec<&str> = text.lines().collect();
    let pair = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
    lines.chunks(2).map(pair).collect()
}
