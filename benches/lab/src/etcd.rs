//! A real etcd on one of the nodes.

use super::{Error, Lab, Namespace, Process, Result, netns, run};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);

const CLIENT_PORT: u16 = 2379;

/// An etcd server with its own data directory. Stopped when dropped.
#[derive(Debug)]
pub struct Etcd {
    ns: Namespace,
    endpoint: String,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Etcd {
    /// Start a server on node `number` (from 1), listening on its underlay address, and
    /// wait until it is healthy.
    pub fn start(lab: &Lab, number: usize) -> Result<Etcd> {
        let node = lab.node(number);
        let mut etcd = Etcd {
            ns: node.ns.clone(),
            endpoint: endpoint(node.underlay),
            data: lab.memory_dir()?.join("etcd"),
            log: lab.dir().join("etcd.log"),
            process: None,
        };
        etcd.start_again()?;
        Ok(etcd)
    }

    /// The client URL, reachable from every node.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Start the server once more, on the data it had. Does nothing while it runs.
    pub fn start_again(&mut self) -> Result<()> {
        if self.process.is_some() {
            return Ok(());
        }
        let mut command = self.ns.command("etcd");
        command.arg("--data-dir").arg(&self.data);
        command.args(["--name", "lab"]);
        command.args(["--listen-client-urls", &self.endpoint]);
        command.args(["--advertise-client-urls", &self.endpoint]);
        // The only member need not wait long for others to want to lead.
        command.args(["--heartbeat-interval", "10", "--election-timeout", "100"]);
        // The member talks to nobody; its peer port stays on the node's loopback.
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        // etcd 3.4 refuses to start on arm64 without being told to.
        command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        let mut process = self.ns.spawn(command, &self.log)?;
        let mut last = String::new();
        let healthy = netns::wait_until(START_LIMIT, || {
            if !matches!(process.ended(), Ok(None)) {
                return true;
            }
            // Asked before it listens, etcdctl would sit out its whole timeout.
            if !netns::listens(process.pid(), CLIENT_PORT) {
                return false;
            }
            match self.ctl(&["endpoint", "health"]) {
                Ok(_) => true,
                Err(error) => {
                    last = error.to_string();
                    false
                }
            }
        });
        if let Some(status) = process.ended()? {
            let tail = super::agent::tail(&self.log, 3);
            return Err(Error::because(
                format!("etcd ended at once ({status})"),
                tail,
            ));
        }
        if !healthy {
            return Err(Error::because("etcd does not get healthy", last));
        }
        self.process = Some(process);
        Ok(())
    }

    /// Stop the server and keep its data.
    pub fn stop(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.stop().map(drop),
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

    /// Run `etcdctl` with these words, on the node of the server.
    pub fn ctl(&self, words: &[&str]) -> Result<String> {
        let mut command: Command = self.ns.command("etcdctl");
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

fn endpoint(address: Ipv4Addr) -> String {
    format!("http://{address}:{CLIENT_PORT}")
}
