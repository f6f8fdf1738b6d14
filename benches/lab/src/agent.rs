//! `weft agent` on a node.

use super::{Error, Lab, Namespace, Process, Result, SubnetEnv, topology, wait_until};
use jiff::Timestamp;
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// For longer than this after its programs are there an agent keeps no flow that pauses with the
/// workers, which had packets before: a second until they are taken to have caught up, one until the
/// agent looks (`CAUGHT_UP` in dataplane/src/fastpath), and a flow's pause (dataplane/bpf/choice.h).
const HELD: Duration = Duration::from_millis(2_100);

/// How long an agent may take until `subnet.env` appears (flannel's own tests give it this).
pub const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long the answer to SIGUSR1 may take.
const COUNTERS_LIMIT: Duration = Duration::from_secs(3);

/// Which agent to run and how.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// The `weft` binary.
    pub binary: PathBuf,
    /// URL of etcd; empty: further flags say where leases are.
    pub etcd: String,
    /// Key prefix in etcd.
    pub prefix: String,
    /// A subnets file that takes the place of etcd.
    pub subnets_file: Option<PathBuf>,
    /// What its directory is called, but for the node's number. Two agents on one node need
    /// two names.
    pub name: String,
    /// Further flags.
    pub flags: Vec<String>,
    /// Further variables of its environment.
    pub env: BTreeMap<String, String>,
}

impl AgentOptions {
    /// The usual agent: flannel's default prefix, no further flags.
    pub fn new(binary: impl Into<PathBuf>, etcd: &str) -> AgentOptions {
        AgentOptions {
            binary: binary.into(),
            etcd: etcd.to_owned(),
            prefix: "/coreos.com/network".to_owned(),
            subnets_file: None,
            name: "agent".to_owned(),
            flags: Vec::new(),
            env: BTreeMap::new(),
        }
    }

    /// An agent that knows its peers from a file.
    pub fn without_etcd(binary: impl Into<PathBuf>, subnets_file: &Path) -> AgentOptions {
        AgentOptions {
            subnets_file: Some(subnets_file.to_owned()),
            ..AgentOptions::new(binary, "")
        }
    }
}

/// An agent of one node, with its own state directory and `subnet.env` in the lab's
/// directory. Both survive stopping and starting again. Stopped when dropped.
#[derive(Debug)]
pub struct Agent {
    ns: Namespace,
    options: AgentOptions,
    dir: PathBuf,
    /// The lab's BPF file system.
    bpffs: Option<PathBuf>,
    process: Option<Process>,
    /// `subnet.env` as it was before the last start, to tell a new one from an old one.
    before: Option<(u64, i64, i64)>,
    /// Bytes of the log before the last start.
    said_before: usize,
}

impl Agent {
    /// Start an agent on node `number` (from 1), without waiting for it.
    pub fn start(lab: &Lab, number: usize, options: AgentOptions) -> Result<Agent> {
        let dir = lab.dir().join(format!("{}{number}", options.name));
        fs::create_dir_all(&dir).map_err(|e| Error::because(dir.display(), e))?;
        let mut agent = Agent {
            ns: lab.node(number).ns.clone(),
            options,
            dir,
            bpffs: lab.bpffs().map(Path::to_owned),
            process: None,
            before: None,
            said_before: 0,
        };
        agent.start_again()?;
        Ok(agent)
    }

    /// Start the agent once more. Does nothing while it runs.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        self.before = identity(&self.subnet_file());
        self.said_before = self.said().len();
        self.process = Some(self.beside(&[])?);
        Ok(())
    }

    /// Start a process beside the one that runs, which takes over from it, and wait until that has
    /// ended; how it ended. Its log is the same.
    pub fn upgrade(&mut self) -> Result<std::process::ExitStatus> {
        let running = self.process.take();
        let mut running = running.ok_or_else(|| Error::new("the agent is stopped"))?;
        self.start_again()?;
        running.wait(READY_LIMIT)
    }

    /// As [`Agent::upgrade`], with these further flags instead of those it had.
    pub fn upgrade_with(&mut self, flags: Vec<String>) -> Result<std::process::ExitStatus> {
        self.options.flags = flags;
        self.upgrade()
    }

    /// Start a process with the flags of this agent and these, whatever runs.
    pub fn beside(&self, flags: &[&str]) -> Result<Process> {
        let mut command = self.command();
        command.args(flags);
        self.ns.spawn(command, &self.log_file())
    }

    /// What starts the agent.
    pub fn command(&self) -> Command {
        let options = &self.options;
        let mut command = self.ns.command(&options.binary);
        command.arg("agent");
        match &options.subnets_file {
            Some(file) => {
                command.arg(format!("-subnets-file={}", file.display()));
            }
            None if options.etcd.is_empty() => {}
            None => {
                command.arg(format!("-etcd-endpoints={}", options.etcd));
                command.arg(format!("-etcd-prefix={}", options.prefix));
            }
        }
        command.arg(format!("-iface={}", topology::UNDERLAY));
        command.arg(format!("-subnet-file={}", self.subnet_file().display()));
        command.arg(format!("--state-dir={}", self.state_dir().display()));
        command.arg(format!("-socket-dir={}", self.socket_dir().display()));
        if let Some(bpffs) = &self.bpffs {
            command.arg(format!("-bpffs={}", bpffs.display()));
        }
        command.args(&options.flags);
        command.env("NO_COLOR", "1");
        command.envs(&options.env);
        command
    }

    /// Stop the agent, if it runs, and start it with these further flags instead of those
    /// it had, without waiting for it.
    pub fn start_with(&mut self, flags: Vec<String>) -> Result<()> {
        self.stop()?;
        self.options.flags = flags;
        self.start_again()
    }

    /// The binary that it runs.
    pub fn binary(&self) -> &Path {
        &self.options.binary
    }

    /// The further flags it was last started with.
    pub fn flags(&self) -> &[String] {
        &self.options.flags
    }

    /// Wait until the agent has written its `subnet.env`, and read it.
    pub fn wait_ready(&mut self) -> Result<SubnetEnv> {
        self.wait_written()?;
        self.subnet_env()
    }

    /// Wait until the agent has written its `subnet.env`.
    pub fn wait_written(&mut self) -> Result<()> {
        let file = self.subnet_file();
        let before = self.before;
        let mut ended = None;
        let ready = wait_until(READY_LIMIT, || {
            let process = self.process.as_mut();
            ended = process.and_then(|p| p.ended().ok().flatten());
            let now = identity(&file);
            ended.is_some() || (now.is_some() && now != before)
        });
        let tail = || tail(&self.log_file(), 4);
        match ended {
            Some(status) => Err(Error::because(
                format!("the agent ended ({status})"),
                tail(),
            )),
            None if !ready => {
                let limit = READY_LIMIT.as_secs();
                let what = format!("the agent wrote no subnet.env in {limit} s; its log ends");
                Err(Error::because(what, tail()))
            }
            None => Ok(()),
        }
    }

    /// Wait until the agent, which knows its peers, has said whether it has a fast path, and until
    /// flows that begin are the programs': what workers may have of one keeps it with them.
    /// Whether it has said it; an error if it was told to have one (`-fast-path=on`) and has none: a
    /// test would be of something else then.
    pub fn wait_for_way(&self) -> Result<bool> {
        let flags = self.options.flags.iter();
        let mut given = flags.filter_map(|flag| flag.strip_prefix("-fast-path="));
        let by_env = std::env::var("FLANNELD_FAST_PATH");
        let mode = given.next_back().or(by_env.as_deref().ok());
        if mode == Some("off") {
            return Ok(true);
        }
        let told = wait_until(READY_LIMIT, || {
            let said = self.said();
            let new = said.get(self.said_before..).unwrap_or_default();
            new.contains(" fast path on ") || new.contains("no fast path: ")
        });
        let said = self.said();
        let new = said.get(self.said_before..).unwrap_or_default();
        let start = new.lines().rfind(|line| line.contains(" fast path on "));
        let age = start.map_or(HELD, |line| age(line).unwrap_or_default());
        std::thread::sleep(HELD.saturating_sub(age));
        let refusal = new.lines().rfind(|line| line.contains("no fast path: "));
        match refusal.filter(|_| mode == Some("on") && !new.contains(" fast path on ")) {
            Some(line) => Err(Error::because("the agent is to have a fast path", line)),
            None => Ok(told),
        }
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Read `subnet.env`.
    pub fn subnet_env(&self) -> Result<SubnetEnv> {
        let file = self.subnet_file();
        let text = fs::read_to_string(&file).map_err(|e| Error::because(file.display(), e))?;
        text.parse().map_err(|e| Error::because(file.display(), e))
    }

    /// Ask the agent for its counters (SIGUSR1) and read them from its log. Names that are
    /// not there count zero.
    pub fn counters(&self) -> Result<BTreeMap<String, u64>> {
        let log = self.log_file();
        let read = || fs::read_to_string(&log).unwrap_or_default();
        let old = read().len();
        self.signal(Signal::USR1)?;
        let mut found = None;
        wait_until(COUNTERS_LIMIT, || {
            let text = read();
            // Only whole lines: the agent may be in the middle of writing one.
            let new = text.get(old..).unwrap_or_default();
            let whole = new.rfind('\n').map_or("", |end| &new[..end]);
            found = whole.lines().rev().find_map(parse_counters);
            found.is_some()
        });
        found.ok_or_else(|| {
            Error::because("the agent logged no counters after SIGUSR1", tail(&log, 2))
        })
    }

    /// Send the agent a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        match &self.process {
            Some(process) => process.signal(signal),
            None => Err(Error::new("the agent is stopped")),
        }
    }

    /// End the agent with SIGTERM (SIGKILL if it does not end in 5 s) and wait for its end.
    pub fn stop(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.process.take().map(|mut p| p.stop()).transpose()
    }

    /// Wait for the agent to end by itself, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let stopped = || Error::new("the agent is stopped");
        let status = self.process.as_mut().ok_or_else(stopped)?.wait(limit)?;
        self.process = None;
        Ok(status)
    }

    /// End the agent with SIGKILL, as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .take()
            .map_or(Ok(()), |mut p| p.kill().map(drop))
    }

    /// Process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where it runs.
    pub fn namespace(&self) -> &Namespace {
        &self.ns
    }

    /// Its `subnet.env`.
    pub fn subnet_file(&self) -> PathBuf {
        self.dir.join("subnet.env")
    }

    /// Its state directory.
    pub fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The directory of its local socket.
    pub fn socket_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// What it printed since it was first started.
    pub fn log_file(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Let the agent outlive this process.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

/// Inode and time of change: an atomic rewrite changes it even if the text stays the same.
fn identity(file: &Path) -> Option<(u64, i64, i64)> {
    let meta = fs::metadata(file).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

/// The last `count` lines of a log, for an error message.
pub(super) fn tail(log: &Path, count: usize) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    match lines.len() {
        0 => format!("{} is empty", log.display()),
        n => lines[n.saturating_sub(count)..].join(" | "),
    }
}

/// The `name=value` pairs after `counters:` in a log line.
fn parse_counters(line: &str) -> Option<BTreeMap<String, u64>> {
    let (_, pairs) = line.split_once("counters:")?;
    let pairs = pairs.split([' ', ',', '\t']).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    Some(pairs.collect())
}

/// How long ago a line of the log was written, by the time that it begins with.
fn age(line: &str) -> Option<Duration> {
    let written: Timestamp = line.split_whitespace().next()?.parse().ok()?;
    Timestamp::now().duration_since(written).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_pairs_after_the_word() {
        let line = "2026-01-01T00:00:00Z  INFO a=1 counters: sends=12 drop_wrong_vni=3 odd=x";
        let counters = parse_counters(line).unwrap();
        assert_eq!(counters.len(), 2);
        assert_eq!(counters["sends"], 12);
        assert_eq!(counters["drop_wrong_vni"], 3);
        assert_eq!(parse_counters("no such line sends=1"), None);
        assert_eq!(parse_counters("counters:").map(|c| c.len()), Some(0));
    }
}
