//! Packets that a firewall is asked about.

use super::port::holds;
use ipnet::IpNet;

/// Packets that are to pass.
#[derive(Clone, Debug, Default)]
pub struct PacketKind {
    /// The UDP port that they go to; `None`: they are of all protocols.
    pub port: Option<u16>,
    /// Where they may come from. Empty: it is not known.
    pub from: Vec<IpNet>,
    /// Where they may go. Empty: it is not known.
    pub to: Vec<IpNet>,
    /// The device that they come by, if that is known.
    pub device: Option<String>,
}

impl PacketKind {
    pub(super) fn has_port(&self, ports: &[&str]) -> Option<bool> {
        let port = self.port?;
        let range = |ports: &&str| holds(ports, ':', port) || holds(ports, '-', port);
        Some(ports.iter().any(range))
    }
}
