//! A real etcd cluster of three members with TLS and, once [`TlsCluster::enable_auth`] was
//! called, users. On loopback, or in network namespaces: wherever the members' commands run.

// Each test binary needs another part of it.
#![allow(dead_code)]

use crate::pki::{Pair, Pki};
use crate::place::{CLIENT_PORT, PEER_PORT};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The key prefix of the network, flannel's default.
pub(crate) const PREFIX: &str = "/coreos.com/network";

/// Name and password of the user that nodes use.
pub(crate) const USER: (&str, &str) = ("weft", "7-warp-threads");

/// Name and password of the operator.
const ROOT: (&str, &str) = ("root", "root-of-all");

/// How long the cluster may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(90);

/// Where a member runs. No two are at the same address.
pub(crate) struct Place {
    pub(crate) address: IpAddr,
    /// Makes the command for a program at this place.
    pub(crate) command: Box<dyn Fn(&str) -> Command + Send>,
}

/// What a cluster asks of its clients.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Demands {
    /// A certificate of the cluster's authority.
    pub(crate) client_certs: bool,
    /// Seconds that a token lives without being used; `None`: etcd's 300.
    pub(crate) token_ttl: Option<u32>,
}

/// The cluster; killed when dropped.
pub(crate) struct TlsCluster {
    dir: PathBuf,
    pub(crate) pki: Pki,
    demands: Demands,
    /// Of the operator.
    pair: Pair,
    auth: bool,
    members: Vec<Member>,
}

struct Member {
    place: Place,
    pair: Pair,
    process: Option<Child>,
}

impl TlsCluster {
    /// Start a member at each place and wait until all answer. Everything is kept in `dir`.
    pub(crate) fn start(dir: &Path, places: Vec<Place>, demands: Demands) -> TlsCluster {
        let pki = Pki::new(dir, "etcd-ca");
        let member = |(i, place): (usize, Place)| Member {
            // etcd checks where a peer's connection comes from, too: on loopback from there.
            pair: pki.server(
                &format!("member{i}"),
                &[place.address.to_string(), "127.0.0.1".to_owned()],
            ),
            place,
            process: None,
        };
        let mut cluster = TlsCluster {
            dir: dir.to_owned(),
            members: places.into_iter().enumerate().map(member).collect(),
            pair: pki.client("operator", ""),
            pki,
            demands,
            auth: false,
        };
        cluster.resume_all();
        cluster
    }

    fn running(&self) -> impl Iterator<Item = &Member> {
        let members = self.members.iter();
        members.filter(|member| member.process.is_some())
    }

    /// URLs of all members.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let places = self.members.iter().map(|member| &member.place);
        places.map(client_url).collect()
    }

    /// Turn users on. [`USER`] may read and write all keys under [`PREFIX`].
    pub(crate) fn enable_auth(&mut self) {
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
    pub(crate) fn add_user(&self, name: &str, password: &str) {
        self.ctl(&["user", "add", &format!("{name}:{password}")]);
    }

    /// Kill a member; its data stays. If the others are still enough, wait until they have a
    /// leader: what they are asked while they believe in a dead one is lost.
    pub(crate) fn stop(&mut self, i: usize) {
        self.kill(i);
        if 2 * self.running().count() > self.members.len() {
            self.await_health();
        }
    }

    fn kill(&mut self, i: usize) {
        if let Some(mut process) = self.members[i].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Start a member again, and wait until all that run answer.
    pub(crate) fn resume(&mut self, i: usize) {
        self.launch(i);
        self.await_health();
    }

    /// Kill all members; their data stays.
    pub(crate) fn stop_all(&mut self) {
        for i in 0..self.members.len() {
            self.kill(i);
        }
    }

    /// Start all members again, and wait until they answer.
    pub(crate) fn resume_all(&mut self) {
        for i in 0..self.members.len() {
            self.launch(i);
        }
        self.await_health();
    }

    /// Where a member keeps its data.
    pub(crate) fn data(&self, i: usize) -> PathBuf {
        self.dir.join(format!("data{i}"))
    }

    /// Have a member show another certificate from its next start on.
    pub(crate) fn set_certificate(&mut self, i: usize, pair: Pair) {
        self.members[i].pair = pair;
    }

    pub(crate) fn put(&self, key: &str, value: &str) {
        self.ctl(&["put", "--", &format!("{PREFIX}/{key}"), value]);
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        let key = format!("{PREFIX}/{key}");
        let value = self.ctl(&["get", "--print-value-only", "--", &key]);
        Some(value.trim_end().to_owned()).filter(|value| !value.is_empty())
    }

    /// Names of all leases.
    pub(crate) fn leases(&self) -> Vec<String> {
        let prefix = format!("{PREFIX}/subnets/");
        let keys = self.ctl(&["get", "--prefix", "--keys-only", "--", &prefix]);
        let names = keys.lines().filter_map(|key| key.strip_prefix(&prefix));
        names.map(str::to_owned).collect()
    }

    /// Run etcdctl as the operator; what it prints.
    pub(crate) fn ctl(&self, words: &[&str]) -> String {
        match self.try_ctl(words) {
            Ok(text) => text,
            Err(complaint) => panic!("etcdctl {words:?}: {complaint}"),
        }
    }

    fn try_ctl(&self, words: &[&str]) -> Result<String, String> {
        self.try_ctl_at(&self.endpoints(), words)
    }

    fn try_ctl_at(&self, endpoints: &[String], words: &[&str]) -> Result<String, String> {
        let mut command = (self.members[0].place.command)("etcdctl");
        command.env("ETCDCTL_API", "3");
        command.args(["--endpoints", &endpoints.join(",")]);
        command.arg("--cacert").arg(self.pki.ca());
        command.arg("--cert").arg(&self.pair.cert);
        command.arg("--key").arg(&self.pair.key);
        command.args(["--command-timeout", "10s"]);
        if self.auth {
            command.args(["--user", &format!("{}:{}", ROOT.0, ROOT.1)]);
        }
        let output = command.args(words).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Start a member without waiting for it.
    pub(crate) fn launch(&mut self, i: usize) {
        let places = self.members.iter().map(|member| &member.place).enumerate();
        let peers = places.map(|(i, place)| format!("m{i}={}", peer_url(place)));
        let peers = peers.collect::<Vec<_>>().join(",");
        let data = self.data(i);
        let member = &mut self.members[i];
        let (client, peer) = (client_url(&member.place), peer_url(&member.place));
        let mut command = (member.place.command)("etcd");
        command.arg("--data-dir").arg(&data);
        command.args(["--name", &format!("m{i}")]);
        command.args(["--listen-client-urls", &client]);
        command.args(["--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer]);
        command.args(["--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &peers]);
        command.arg("--cert-file").arg(&member.pair.cert);
        command.arg("--key-file").arg(&member.pair.key);
        command.arg("--peer-cert-file").arg(&member.pair.cert);
        command.arg("--peer-key-file").arg(&member.pair.key);
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
        // Twice etcd's own, so that a busy machine is not taken for a dead leader.
        command.args(["--heartbeat-interval", "200", "--election-timeout", "2000"]);
        // The tests ask for signs of life more often than etcd likes.
        command.args(["--grpc-keepalive-min-time", "100ms"]);
        // etcd 3.4 refuses to start on arm64 without being told to.
        command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
        let log = self.dir.join(format!("log{i}"));
        let log = File::options().create(true).append(true).open(log).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        match command.spawn() {
            Ok(process) => member.process = Some(process),
            Err(error) => panic!("cannot start etcd ({error}): apt-get install etcd-server"),
        }
    }

    /// Wait until each member that runs answers, and so has a leader.
    fn await_health(&self) {
        let deadline = Instant::now() + START_LIMIT;
        let running = self.running().map(|member| client_url(&member.place));
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

fn client_url(place: &Place) -> String {
    format!("https://{}:{CLIENT_PORT}", place.address)
}

fn peer_url(place: &Place) -> String {
    format!("https://{}:{PEER_PORT}", place.address)
}
