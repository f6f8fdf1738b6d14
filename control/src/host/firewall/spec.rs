//! Which rules are wanted, of those that flannel and weft have.

use crate::family::PerFamily;
use crate::lease::NodeNetwork;
use std::time::Duration;

/// What is kept in the host's firewall.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallOptions {
    /// Masquerade what pods send out of the network.
    pub ip_masq: bool,
    /// Let masquerading choose ports fully at random.
    pub random_fully: bool,
    /// Accept forwarded packets from and to the network.
    pub forward_rules: bool,
    /// Pause between two looks whether the rules (and the blackhole route) are there.
    pub resync: Duration,
}

/// The tool that rules are written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `iptables` and `ip6tables`, of either variant.
    Iptables,
    /// `nft` (`EnableNFTables`).
    Nftables,
}

/// Which rules are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallSpec {
    /// The networks that rules speak of, of the families that pods have addresses of.
    pub networks: PerFamily<Option<NodeNetwork>>,
    /// Whether what leaves the network gets the node's address (`-ip-masq`).
    pub masquerade: bool,
    /// Whether ports are chosen at random then, if the tool can do that.
    pub random_fully: bool,
    /// Whether packets of pods pass the FORWARD chain (`-iptables-forward-rules`).
    pub forward: bool,
    /// The device by which encapsulated super-packets of IPv4 come into the FORWARD chain, if
    /// there is one. They pass it where those of pods do.
    pub tap: Option<String>,
}
