//! A way for the fuzz target to the readers of what the firewall tools list.

use super::{Flavour, iptables, nftables, rules};
use crate::lease::NodeNetwork;
use ipnet::{IpNet, Ipv4Net};

/// Read `text` as a listing of either tool, as a check and a removal do.
pub fn read_listing(text: &str) {
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let network = IpNet::V4(Ipv4Net::new_assert([10, 5, 0, 0].into(), 16));
    let subnet = IpNet::V4(Ipv4Net::new_assert([10, 5, 1, 0].into(), 24));
    let own = NodeNetwork { network, subnet };
    let rules = rules::masquerade(&own, Flavour::Iptables, true);
    iptables::read_any(&lines, &iptables::masquerade_chain(&rules));
    iptables::read_any(&lines, &iptables::forward_chain(network));
    nftables::read_any(&lines);
}
