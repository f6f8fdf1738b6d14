//! What befalls a cluster, and what it has been asked for.

use super::{TlsCluster, client_url, peer_url};
use crate::{Result, run};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;

impl TlsCluster {
    /// Send a member that runs a signal.
    pub fn signal(&self, i: usize, signal: Signal) {
        let process = self.members[i].process.as_ref();
        let process = process.expect("a member that runs");
        process.signal(signal).expect("a signal");
    }

    /// Which member leads.
    pub fn leader(&self) -> usize {
        let endpoints = self.endpoints();
        let id = |field: &str, status: &serde_json::Value| status["Status"].pointer(field).cloned();
        let text = self.ctl(&["endpoint", "status", "-w", "json"]);
        let all: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a status");
        let leads =
            |status: &&serde_json::Value| id("/leader", status) == id("/header/member_id", status);
        let leader = all.iter().find(leads).expect("a leader");
        let endpoint = leader["Endpoint"].as_str();
        let position = endpoints
            .iter()
            .position(|url| Some(url.as_str()) == endpoint);
        position.expect("a member")
    }

    /// Have another member lead.
    pub fn move_leader(&self, to: usize) {
        let text = self.ctl(&["member", "list"]);
        // "8e9e05c52164694d, started, m0, https://..., https://..., false"
        let name = format!(" m{to},");
        let line = text.lines().find(|line| line.contains(&name));
        let id = line.and_then(|line| line.split(',').next());
        self.ctl(&["move-leader", id.expect("a member's id")]);
    }

    /// Drop all history.
    pub fn compact(&self) {
        let text = self.ctl(&["get", "x", "-w", "json"]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("an answer");
        let revision = &answer["header"]["revision"];
        self.ctl(&["compact", &revision.to_string()]);
    }

    /// Run etcdctl as the operator at these members only; what it prints.
    pub fn try_ctl(&self, members: &[usize], words: &[&str]) -> Result<String> {
        let urls = members
            .iter()
            .map(|&i| client_url(&self.members[i].location));
        self.try_ctl_at(&urls.collect::<Vec<_>>(), words)
    }

    /// The id of the etcd lease that a key of the network hangs on, as etcdctl wants it.
    pub fn lease_id(&self, key: &str) -> String {
        let key = format!("{}/{key}", super::PREFIX);
        let text = self.ctl(&["get", "-w", "json", "--", &key]);
        let answer: serde_json::Value = serde_json::from_str(&text).expect("an answer");
        let id = answer["kvs"][0]["lease"].as_i64();
        format!("{:x}", id.expect("a key on a lease"))
    }

    /// A snapshot of what it holds, as operators make one.
    pub fn save(&self) -> PathBuf {
        let file = self.dir.join("snapshot");
        let words = ["snapshot", "save", &file.display().to_string()];
        let saved = self.try_ctl_at(&self.endpoints()[..1], &words);
        saved.expect("a snapshot");
        file
    }

    /// Kill all members, put them back from a snapshot with the ids that they had, and start them.
    pub fn restore(&mut self, snapshot: &Path) {
        self.stop_all();
        for i in 0..self.members.len() {
            std::fs::remove_dir_all(self.data(i)).expect("a member's data");
            self.restore_member(i, snapshot);
        }
        self.resume_all();
    }

    fn restore_member(&self, i: usize, snapshot: &Path) {
        let restore = |program: &str| {
            let mut command = Command::new(program);
            command.env("ETCDCTL_API", "3");
            command.args(["snapshot", "restore"]).arg(snapshot);
            command.args(["--name", &format!("m{i}")]);
            command.arg("--data-dir").arg(self.data(i));
            command.args(["--initial-cluster", &self.peers()]);
            let peer = peer_url(&self.members[i].location);
            run(command.args(["--initial-advertise-peer-urls", &peer]))
        };
        // Newer versions leave it to etcdutl.
        let restored = restore("etcdutl").or_else(|_| restore("etcdctl"));
        restored.expect("etcdctl: apt-get install etcd-client");
    }

    /// How many requests of each gRPC method the members that run have taken since they started.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for member in self.running() {
            let read = || -> std::io::Result<String> {
                let mut stream = TcpStream::connect(member.location.metrics())?;
                stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
                let mut text = String::new();
                stream.read_to_string(&mut text)?;
                Ok(text)
            };
            let text = member.location.enter(read);
            let url = client_url(&member.location);
            let text = text.ok().and_then(|text| text.ok()).expect(&url);
            for (method, count) in text.lines().filter_map(started) {
                *sums.entry(method).or_default() += count;
            }
        }
        sums
    }
}

/// Method and number in a line such as
/// `grpc_server_started_total{grpc_method="Range",...} 7`.
fn started(line: &str) -> Option<(String, u64)> {
    let line = line.strip_prefix("grpc_server_started_total{")?;
    let (_, rest) = line.split_once("grpc_method=\"")?;
    let (method, _) = rest.split_once('"')?;
    let (_, count) = line.rsplit_once(' ')?;
    Some((method.to_owned(), count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_from_etcds_metrics() {
        let line = r#"grpc_server_started_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"} 7"#;
        assert_eq!(started(line), Some(("Range".to_owned(), 7)));
        assert_eq!(started("grpc_server_handled_total 7"), None);
        assert_eq!(started("# HELP grpc_server_started_total"), None);
    }
}
