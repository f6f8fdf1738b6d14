//! Real servers of etcd.

pub mod location;
pub mod member;

#[cfg(feature = "tls")]
pub mod cluster;
#[cfg(feature = "tls")]
pub mod pki;

pub use location::{Location, own_address};
pub use member::Member;

use crate::{Error, Lab, Process, Result, agent, process, run, wait_until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long it may take for one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);

/// What its log in its directory is called.
const LOG: &str = "etcd.log";

/// A server by itself, with its own data directory. Stopped when dropped.
#[derive(Debug)]
pub struct Etcd {
    location: Location,
    endpoint: String,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// Start a server on node `number` (from 1), listening on its underlay address, and
    /// wait until it is healthy.
    pub fn start(lab: &Lab, number: usize) -> Result<Etcd> {
        let location = Location::on(lab.node(number));
        let data = lab.memory_dir()?.join("etcd");
        Etcd::new(location, data, lab.dir().join(LOG)).started()
    }

    /// Start a server that keeps everything in `dir`, and wait until it is healthy.
    pub fn start_at(location: Location, dir: &Path) -> Result<Etcd> {
        Etcd::stopped_at(location, dir).started()
    }

    /// A server that keeps everything in `dir` and is not started yet.
    pub fn stopped_at(location: Location, dir: &Path) -> Etcd {
        Etcd::new(location, dir.join("etcd"), dir.join(LOG))
    }

    fn new(location: Location, data: PathBuf, log: PathBuf) -> Etcd {
        Etcd {
            endpoint: format!("http://{}", location.client()),
            location,
            data,
            log,
            process: None,
        }
    }

    fn started(mut self) -> Result<Etcd> {
        self.start_again()?;
        Ok(self)
    }

    /// The client URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it runs.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Where it keeps its data.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Start the server once more, on the data it had. Does nothing while it runs.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        self.launch()?;
        let mut ended = None;
        let healthy = wait_until(START_LIMIT, || {
            ended = self.ended();
            ended.is_some() || self.is_healthy()
        });
        let tail = || agent::tail(&self.log, 3);
        match ended {
            Some(status) => Err(Error::because(
                format!("etcd ended at once ({status})"),
                tail(),
            )),
            None if !healthy => Err(Error::because("etcd does not get healthy", tail())),
            None => Ok(()),
        }
    }

    /// Start the server without waiting for it. Does nothing while it runs.
    pub fn launch(&mut self) -> Result<()> {
        if self.process.is_none() {
            let peer = format!("http://{}", self.location.peer());
            let mut command = self.location.command("etcd");
            let member = Member {
                name: "lab",
                data: &self.data,
                client: &self.endpoint,
                peer: &peer,
                advertised: &peer,
                cluster: &format!("lab={peer}"),
                pace: member::ALONE,
            };
            member.configure(&mut command);
            self.process = Some(Process::spawn(command, &self.log)?);
        }
        Ok(())
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut()?.ended().ok().flatten()
    }

    /// Whether it answers, and so has a leader.
    pub fn is_healthy(&self) -> bool {
        let listens =
            |process: &Process| process::listens(process.pid(), self.location.client().port());
        // Asked before it listens, a connection would be refused.
        self.process.as_ref().is_some_and(listens)
            && matches!(self.location.enter(|| self.health()), Ok(Ok(true)))
    }

    fn health(&self) -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&self.location.client(), ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains(r#""health":"true""#))
    }

    /// Stop the server and keep its data.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop().map(drop),
            None => Ok(()),
        }
    }

    /// Kill the server and keep its data.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill().map(drop),
            None => Ok(()),
        }
    }

    /// Put a value under a key, for ever.
    pub fn put(&self, key: &str, value: &str) -> Result<()> {
        self.ctl(&["put", "--", key, value]).map(drop)
    }

    /// Put a value under a key for `ttl` seconds, as flannel's leases are. Returns the id of
    /// the etcd lease.
    pub fn put_leased(&self, key: &str, value: &str, ttl: u32) -> Result<String> {
        let granted = self.ctl(&["lease", "grant", &ttl.to_string()])?;
        // "lease 694d8f1c4a3c5f04 granted with TTL(60s)"
        let id = granted.split_whitespace().nth(1);
        let id = id.ok_or_else(|| Error::because("etcdctl lease grant", &granted))?;
        self.ctl(&["put", "--lease", id, "--", key, value])?;
        Ok(id.to_owned())
    }

    /// The value of a key, if it exists.
    pub fn get(&self, key: &str) -> Result<Option<String>> {
        let output = self.ctl(&["get", "--print-value-only", "--", key])?;
        let value = output.strip_suffix('\n').map(str::to_owned);
        Ok(value.filter(|_| !output.is_empty()))
    }

    /// All keys that begin with `prefix`.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let output = self.ctl(&["get", "--prefix", "--keys-only", "--", prefix])?;
        let keys = output.lines().filter(|line| !line.is_empty());
        Ok(keys.map(str::to_owned).collect())
    }

    /// Delete a key; whether it was there.
    pub fn delete(&self, key: &str) -> Result<bool> {
        Ok(self.ctl(&["del", "--", key])?.trim() == "1")
    }

    /// Run `etcdctl` with these words, where the server is.
    pub fn ctl(&self, words: &[&str]) -> Result<String> {
        let mut command = self.location.command("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &self.endpoint]);
        command.args(["--command-timeout", "10s"]);
        run(command.args(words))
    }

    /// Let the server outlive this process.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}
