//! Which rules are wanted, of those that flannel and weft have.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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

/// The two networks that rules speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends<N> {
    /// The network of all pods.
    pub network: N,
    /// The part of it that is this node's.
    pub subnet: N,
}

/// Which rules are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallSpec {
    /// The IPv4 networks, if pods have IPv4 addresses.
    pub v4: Option<Ends<Ipv4Net>>,
    /// The IPv6 networks, if pods have IPv6 addresses.
    pub v6: Option<Ends<Ipv6Net>>,
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

impl FirewallSpec {
    /// The networks of IPv4 and of IPv6.
    pub(super) fn ends(&self) -> [Option<Ends<IpNet>>; 2] {
        let v4 = self.v4.map(|ends| Ends {
            network: ends.network.trunc().into(),
            subnet: ends.subnet.trunc().into(),
        });
        let v6 = self.v6.map(|ends| Ends {
            network: ends.network.trunc().into(),
            subnet: ends.subnet.trunc().into(),
        });
        [v4, v6]
    }
}
