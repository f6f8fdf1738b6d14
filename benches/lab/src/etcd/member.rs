//! The command line of a server.

use std::path::Path;
use std::process::Command;

/// A server of etcd, by itself or a member of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name in the cluster.
    pub name: &'a str,
    /// Where it keeps its data.
    pub data: &'a Path,
    /// URL for clients.
    pub client: &'a str,
    /// URL on which it listens for other members.
    pub peer: &'a str,
    /// URL by which other members reach it.
    pub advertised: &'a str,
    /// All members: `name=url`, joined by commas.
    pub cluster: &'a str,
    /// Milliseconds between heartbeats, and until others want to lead.
    pub pace: (u32, u32),
}

/// Of a server by itself, which need not wait long for others to want to lead.
pub const ALONE: (u32, u32) = (10, 100);

/// Twice etcd's own, so that a busy machine is not taken for a dead leader.
pub const PATIENT: (u32, u32) = (200, 2000);

impl Member<'_> {
    /// Complete `command`, which starts the program `etcd` somewhere.
    pub fn configure(&self, command: &mut Command) {
        command.arg("--data-dir").arg(self.data);
        command.args(["--name", self.name]);
        command.args(["--listen-client-urls", self.client]);
        command.args(["--advertise-client-urls", self.client]);
        command.args(["--listen-peer-urls", self.peer]);
        command.args(["--initial-advertise-peer-urls", self.advertised]);
        command.args(["--initial-cluster", self.cluster]);
        let (heartbeat, election) = self.pace;
        command.args(["--heartbeat-interval", &heartbeat.to_string()]);
        command.args(["--election-timeout", &election.to_string()]);
        // Tests ask for signs of life more often than etcd likes.
        command.args(["--grpc-keepalive-min-time", "100ms"]);
        // etcd 3.4 refuses to start on arm64 without being told to.
        command.env("ETCD_UNSUPPORTED_ARCH", "arm64");
    }
}
