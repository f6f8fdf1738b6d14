//! A cluster of etcd with TLS and, once [`TlsCluster::enable_auth`] was called, users.
//!
//! For tests alone: what fails here ends the test with a panic.

mod faults;

use super::pki::{Pair, Pki};
use super::{Location, Member, member};
use crate::{Process, Result, run};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The key prefix of the network, flannel's default.
pub const PREFIX: &str = "/coreos.com/network";

/// Name and password of the user that nodes use.
pub const USER: (&str, &str) = ("weft", "7-warp-threads");

/// Name and password of the operator.
const ROOT: (&str, &str) = ("root", "root-of-all");

/// How long the cluster may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(90);

/// What a cluster asks of its clients.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands {
    /// A certificate of the cluster's authority.
    pub client_certs: bool,
    /// Seconds that a token lives without being used; `None`: etcd's 300.
    pub token_ttl: Option<u32>,
}

/// The cluster; killed when dropped.
pub struct TlsCluster {
    dir: PathBuf,
    /// The authority that its members and clients trust.
    pub pki: Pki,
    demands: Demands,
    /// Of the operator.
    pair: Pair,
    auth: bool,
    members: Vec<Server>,
}

/// One of its members.
struct Server {
    location: Location,
    pair: Pair,
    process: Option<Process>,
}

impl TlsCluster {
    /// Start a member at each location and wait until all answer. Everything is kept in `dir`.
    pub fn start(dir: &Path, locations: Vec<Location>, demands: Demands) -> TlsCluster {
        let pki = Pki::new(dir, "etcd-ca");
        let member = |(i, location): (usize, Location)| Server {
            // etcd checks where a peer's connection comes from, too: on loopback from there.
            pair: pki.server(
                &format!("member{i}"),
                &[location.address().to_string(), "127.0.0.1".to_owned()],
            ),
            location,
            process: None,
        };
        let mut cluster = TlsCluster {
            dir: dir.to_owned(),
            members: locations.into_iter().enumerate().map(member).collect(),
            pair: pki.client("operator", ""),
            pki,
            demands,
            auth: false,
        };
        cluster.resume_all();
        cluster
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        let members = self.members.iter();
        members.filter(|member| member.process.is_some())
    }

    /// URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        let locations = self.members.iter().map(|member| &member.location);
        locations.map(client_url).collect()
    }

    /// Turn users on. [`USER`] may read and write all keys under [`PREFIX`].
    pub fn enable_auth(&mut self) {
        self.add_user(ROOT.0, ROOT.1);
        self.ctl(&["user", "grant-role", "root", "root"]);
        self.add_user(USER.0, USER.1);
        self.ctl(&["role", "add", "node"]);
        let prefix = format!("{PREFIX}/");
        let permission = ["role", "grant-permission", "node", "readwrite", "--prefix"];
        self.ctl(&[&permission[..], &[&prefix]].concat());
        self.ctl(&["user", "grant-role", USER.0, "node"]);
        self.ctl(&["auth", "enable"]);
        self.auth = true;
    }

    /// Add a user who may do nothing.
    pub fn add_user(&self, name: &str, password: &str) {
        self.ctl(&["user", "add", &format!("{name}:{password}")]);
    }

    /// Kill a member; its data stays. If the others are still enough, wait until they have a
    /// leader: what they are asked while they believe in a dead one is lost.
    pub fn stop(&mut self, i: usize) {
        self.kill(i);
        if 2 * self.running().count() > self.members.len() {
            self.await_health();
        }
    }

    /// Kill a member and wait for nothing; its data stays.
    pub fn kill(&mut self, i: usize) {
        if let Some(mut process) = self.members[i].process.take() {
            process.kill().expect("a member that can be killed");
        }
    }

    /// Start a member again, and wait until all that run answer.
    pub fn resume(&mut self, i: usize) {
        self.launch(i);
        self.await_health();
    }

    /// Kill all members; their data stays.
    pub fn stop_all(&mut self) {
        for i in 0..self.members.len() {
            self.kill(i);
        }
    }

    /// Start all members again, and wait until they answer.
    pub fn resume_all(&mut self) {
        for i in 0..self.members.len() {
            self.launch(i);
        }
        self.await_health();
    }

    /// Where a member keeps its data.
    pub fn data(&self, i: usize) -> PathBuf {
        self.dir.join(format!("data{i}"))
    }

    /// Have a member show another certificate from its next start on.
    pub fn set_certificate(&mut self, i: usize, pair: Pair) {
        self.members[i].pair = pair;
    }

    /// Put a value under a key of the network.
    pub fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", "--", &format!("{PREFIX}/{key}"), value]);
    }

    /// The value of a key of the network, if it exists.
    pub fn get(&self, key: &str) -> Option<String> {
        let key = format!("{PREFIX}/{key}");
        let value = self.ctl(&["get", "--print-value-only", "--", &key]);
        Some(value.trim_end().to_owned()).filter(|value| !value.is_empty())
    }

    /// Names of all leases.
    pub fn leases(&self) -> Vec<String> {
        let prefix = format!("{PREFIX}/subnets/");
        let keys = self.ctl(&["get", "--prefix", "--keys-only", "--", &prefix]);
        let names = keys.lines().filter_map(|key| key.strip_prefix(&prefix));
        names.map(str::to_owned).collect()
    }

    /// Run etcdctl as the operator; what it prints.
    pub fn ctl(&self, words: &[&str]) -> String {
        match self.try_ctl_at(&self.endpoints(), words) {
            Ok(text) => text,
            Err(complaint) => panic!("etcdctl {words:?}: {complaint}"),
        }
    }

    fn try_ctl_at(&self, endpoints: &[String], words: &[&str]) -> Result<String> {
        let mut command = self.members[0].location.command("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &endpoints.join(",")]);
        command.arg("--cacert").arg(self.pki.ca());
        command.arg("--cert").arg(&self.pair.cert);
        command.arg("--key").arg(&self.pair.key);
        command.args(["--command-timeout", "10s"]);
        if self.auth {
            command.args(["--user", &format!("{}:{}", ROOT.0, ROOT.1)]);
        }
        run(command.args(words))
    }

    /// Start a member without waiting for it.
    pub fn launch(&mut self, i: usize) {
        let peers = self.peers();
        let server = &self.members[i];
        let (client, peer) = (client_url(&server.location), peer_url(&server.location));
        let mut command = server.location.command("etcd");
        let member = Member {
            name: &format!("m{i}"),
            data: &self.data(i),
            client: &client,
            peer: &peer,
            advertised: &peer,
            cluster: &peers,
            pace: member::PATIENT,
        };
        member.configure(&mut command);
        self.secure(&mut command, &server.pair);
        let metrics = format!("http://{}", server.location.metrics());
        command.args(["--listen-metrics-urls", &metrics]);
        let log = self.dir.join(format!("log{i}"));
        let process = Process::spawn(command, &log);
        self.members[i].process = Some(process.expect("etcd: apt-get install etcd-server"));
    }

    /// All members as they are told of each other.
    fn peers(&self) -> String {
        let members = self.members.iter().enumerate();
        let peers = members.map(|(i, member)| format!("m{i}={}", peer_url(&member.location)));
        peers.collect::<Vec<_>>().join(",")
    }

    fn secure(&self, command: &mut Command, pair: &Pair) {
        command.arg("--cert-file").arg(&pair.cert);
        command.arg("--key-file").arg(&pair.key);
        command.arg("--peer-cert-file").arg(&pair.cert);
        command.arg("--peer-key-file").arg(&pair.key);
        command.arg("--peer-trusted-ca-file").arg(self.pki.ca());
        // With an authority to check them by, etcd insists on certificates.
        if self.demands.client_certs {
            command.arg("--client-cert-auth");
            command.arg("--trusted-ca-file").arg(self.pki.ca());
        }
        if let Some(seconds) = self.demands.token_ttl {
            command.args(["--auth-token-ttl", &seconds.to_string()]);
        }
        command.args(["--bcrypt-cost", "4"]);
    }

    /// Wait until each member that runs answers, and so has a leader.
    pub fn await_health(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let running = self.running().map(|member| client_url(&member.location));
        let running: Vec<String> = running.collect();
        while let Err(complaint) = self.try_ctl_at(&running, &["endpoint", "health"]) {
            if Instant::now() > deadline {
                let dir = self.dir.display();
                panic!("the cluster does not get healthy (logs in {dir}): {complaint}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for TlsCluster {
    fn drop(&mut self) {
        self.stop_all();
    }
}

fn client_url(location: &Location) -> String {
    format!("https://{}", location.client())
}

fn peer_url(location: &Location) -> String {
    format!("https://{}", location.peer())
}
