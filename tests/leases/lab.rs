//! `weft leases` and the etcd that it is run against.

use serde_json::Value;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;
use weft_lab::etcd::Location;
use weft_lab::etcd::cluster::{Demands, PREFIX, TlsCluster, USER};
use weft_lab::memory_dir;

pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");
const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;

/// An etcd with TLS and users, and a network config.
pub(crate) struct Lab {
    pub(crate) cluster: TlsCluster,
    _dir: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Lab {
        let dir = memory_dir().unwrap();
        let locations = vec![Location::loopback()];
        let mut cluster = TlsCluster::start(dir.path(), locations, Demands::default());
        cluster.enable_auth();
        cluster.put("config", CONFIG);
        Lab { cluster, _dir: dir }
    }

    /// `weft leases` with these words, and what it needs to get in by the environment.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(WEFT);
        command.arg("leases").args(words);
        command.env(
            "FLANNELD_ETCD_ENDPOINTS",
            self.cluster.endpoints().join(","),
        );
        command.env("FLANNELD_ETCD_CAFILE", self.cluster.pki.ca());
        command.env("FLANNELD_ETCD_USERNAME", USER.0);
        command.env("FLANNELD_ETCD_PASSWORD", USER.1);
        command.stdin(Stdio::null());
        command
    }

    /// What it prints when all is well.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its one line of complaint.
    pub(crate) fn bad(&self, words: &[&str]) -> String {
        complaint(&self.command(words).output().unwrap(), 1)
    }

    pub(crate) fn json(&self, words: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.good(words)).unwrap()
    }

    /// A lease as flannel writes them.
    pub(crate) fn lease(&self, key: &str, n: u8) {
        let granted = self.cluster.ctl(&["lease", "grant", "86400"]);
        let id = granted.split_whitespace().nth(1).unwrap();
        let key = format!("{PREFIX}/subnets/{key}");
        self.cluster
            .ctl(&["put", "--lease", id, "--", &key, &value(n)]);
    }
}

pub(crate) fn value(n: u8) -> String {
    format!(
        r#"{{"PublicIP":"192.0.2.{n}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:{n:02x}"}}}}"#
    )
}

pub(crate) fn complaint(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("weft leases: "), "{text}");
    text
}
