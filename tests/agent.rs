//! `weft agent` as a process: command line, signals, exit codes, and what it leaves behind.
//!
//! Each test has a network namespace of its own in which a real etcd and one agent run.
//! Needs root and the programs etcd, etcdctl and ip.
#![allow(clippy::unwrap_used)]

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const WEFT: &str = env!("CARGO_BIN_EXE_weft");
const LIMIT: Duration = Duration::from_secs(20);
const CONFIG_KEY: &str = "/coreos.com/network/config";
const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const SUBNETS: &str = "/coreos.com/network/subnets/";

/// A process that ends with the test.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn spawn(mut command: Command, log: PathBuf) -> Process {
        let file = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        Process { child, log }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Wait for a line that contains `text`; the line.
    fn expect(&mut self, text: &str) -> String {
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

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for("the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    fn stop(mut self) -> (Option<i32>, String) {
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

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} in {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Run a command that must succeed; its standard output.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {error}",
        args.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

fn ip(args: &str) -> String {
    run("ip", &args.split(' ').collect::<Vec<_>>())
}

/// A node with an underlay, in the namespace of the calling thread.
struct Node {
    dir: TempDir,
}

impl Node {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn etcd(&self) -> Process {
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
        let etcd = Process::spawn(command, self.path("etcd.log"));
        wait_for("etcd", || {
            let health = Command::new("etcdctl")
                .args(["endpoint", "health"])
                .output();
            health.unwrap().status.success()
        });
        etcd
    }

    fn agent(&self, log: &str) -> Process {
        let mut command = Command::new(WEFT);
        command.args([
            "agent",
            "-iface=eth0",
            "-etcd-endpoints=http://127.0.0.1:2379",
        ]);
        command.arg(format!(
            "-subnet-file={}",
            self.path("subnet.env").display()
        ));
        command.arg(format!("-state-dir={}", self.path("state").display()));
        Process::spawn(command, self.path(log))
    }

    fn subnet_env(&self) -> String {
        fs::read_to_string(self.path("subnet.env")).unwrap()
    }
}

/// Run `test` on a node of its own.
fn on_node(test: impl FnOnce(&Node) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
        ip("link set lo up");
        ip("link add eth0 type veth peer name wire");
        ip("address add 192.0.2.1/24 dev eth0");
        ip("link set eth0 up");
        ip("link set wire up");
        let dir = tempfile::tempdir().unwrap();
        test(&Node { dir });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn leases() -> Vec<(String, String)> {
    let text = run("etcdctl", &["get", "--prefix", SUBNETS]);
    let lines: Vec<&str> = text.lines().collect();
    let pair = |pair: &[&str]| (pair[0].to_owned(), pair[1].to_owned());
    lines.chunks(2).map(pair).collect()
}

#[test]
fn a_node_comes_up_stops_and_comes_back_the_same() {
    on_node(|node| {
        let mut agent = node.agent("first.log");
        agent.expect("etcd unreachable");
        let _etcd = node.etcd();
        agent.expect("no network config in etcd");
        run("etcdctl", &["put", CONFIG_KEY, "{"]);
        agent.expect("not a JSON object");
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        agent.expect("ready: 10.5.");
        let env = node.subnet_env();
        let lease = leases();
        assert_eq!(lease.len(), 1);

        agent.signal(Signal::SIGUSR1);
        agent.expect("counters:");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(
            log.matches("counters:").count(),
            2,
            "asked for and at the end"
        );
        assert_eq!(leases(), lease, "the lease outlives the agent");
        let link = ip("-details link show flannel.1");
        assert!(
            link.contains("mtu 1450") && link.contains("persist on"),
            "{link}"
        );

        let mut agent = node.agent("second.log");
        agent.expect("ready: 10.5.");
        assert_eq!(node.subnet_env(), env);
        assert_eq!(leases(), lease, "the same subnet, address and MAC");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn a_killed_agent_is_replaced_at_once() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("first.log");
        agent.expect("ready: ");
        let env = node.subnet_env();
        agent.signal(Signal::SIGKILL);
        agent.wait();
        let mut agent = node.agent("second.log");
        agent.expect("ready: ");
        assert_eq!(node.subnet_env(), env);
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn s85_exit_status_of_an_agent_whose_lease_another_node_has() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let before = leases();
        let key = &before[0].0;
        run("etcdctl", &["del", key]);
        agent.expect("was deleted; it was still free and is this node's again");
        assert_eq!(leases(), before);
        run("etcdctl", &["put", key, r#"{"PublicIP":"192.0.2.99"}"#]);
        assert_eq!(agent.wait().code(), Some(1));
        agent.expect("ERROR the subnet is leased by 192.0.2.99: 10.5.");
    });
}

#[test]
fn a_stop_before_the_node_is_up_is_clean() {
    on_node(|node| {
        let mut agent = node.agent("log");
        agent.expect("etcd unreachable");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(!node.path("subnet.env").exists());
    });
}

#[test]
fn a_second_agent_and_a_left_over_device_are_one_line_each() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut first = node.agent("first.log");
        first.expect("ready: ");
        let mut second = node.agent("second.log");
        assert_eq!(second.wait().code(), Some(1));
        let line = second.expect("ERROR");
        assert!(line.contains("8472"), "{line}");
        assert_eq!(leases().len(), 1);
        assert_eq!(first.stop().0, Some(0), "undisturbed");

        ip("link del flannel.1");
        ip("link add flannel.1 type vxlan id 1 dstport 8472 dev eth0");
        let mut third = node.agent("third.log");
        assert_eq!(third.wait().code(), Some(1));
        assert!(third.expect("ERROR").ends_with("ip link del flannel.1"));
    });
}

fn weft(program: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn command_lines() {
    let program = Path::new(WEFT);
    let version = concat!("weft ", env!("CARGO_PKG_VERSION"), "\n");
    let empty = String::new();
    assert_eq!(
        weft(program, &["version"]),
        (Some(0), version.to_owned(), empty.clone())
    );
    let (code, out, error) = weft(program, &["agnet"]);
    assert_eq!(
        (code, out, error.lines().count()),
        (Some(2), empty.clone(), 1)
    );
    assert!(
        error.contains("\"agnet\"") && error.contains("\"agent\""),
        "{error}"
    );
    let (code, out, error) = weft(program, &["agent", "-ifcae=eth0"]);
    assert_eq!(
        (code, out, error.lines().count()),
        (Some(2), empty.clone(), 1)
    );
    assert!(
        error.contains("-ifcae") && error.contains("-iface"),
        "{error}"
    );
    assert_eq!(weft(program, &["help"]).0, Some(0));

    let dir = tempfile::tempdir().unwrap();
    let flanneld = dir.path().join("flanneld");
    std::os::unix::fs::symlink(program, &flanneld).unwrap();
    assert_eq!(
        weft(&flanneld, &["-version"]),
        (Some(0), empty, version.to_owned()),
        "flanneld prints its version on stderr"
    );
    assert_eq!(weft(&flanneld, &["--help"]).0, Some(0));
}
