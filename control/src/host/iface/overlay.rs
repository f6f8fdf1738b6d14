//! What carries pods' packets and so can carry no outer ones.

use crate::host::link;
use crate::host::netlink::Link;

/// Bridges that pods and containers hang on, by the names that flannel and Docker give them.
const BRIDGES: [&str; 2] = ["cni0", "docker0"];

/// Whether this is a device of the pods' network: a tunnel, or a bridge that the container
/// runtime makes.
pub(super) fn is_overlay(link: &Link) -> bool {
    is_tunnel(link) || BRIDGES.contains(&link.name.as_str())
}

/// Whether what enters this device leaves in an outer packet: one that flannel or weft makes, or
/// any kernel VXLAN device.
///
/// Hardware, a VLAN or a bond is the operator's, even if it is called after flannel.
pub fn is_tunnel(link: &Link) -> bool {
    let kind = link.kind.as_deref();
    let is_operators = matches!(kind, None | Some("vlan" | "bond" | "team"));
    let prefixes = ["flannel", "weft."];
    let is_called_so = prefixes.iter().any(|prefix| link.name.starts_with(prefix));
    (is_called_so && !is_operators)
        || kind == Some("vxlan")
        || (kind == Some("tun") && link::is_marked(link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str, kind: &str, alias: &str) -> Link {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Link {
            index: 1,
            name: name.to_owned(),
            kind: some(kind),
            mtu: 1500,
            txqueuelen: 1000,
            mac: None,
            up: true,
            carrier: true,
            alias: some(alias),
            loopback: false,
        }
    }

    #[test]
    fn devices_of_pods_are_told_from_those_of_the_host() {
        let mark = "weft /coreos.com/network /run/flannel/subnet.env";
        for (name, kind, alias, expected) in [
            ("flannel.1", "tun", mark, true),
            ("flannel.1", "tun", "", true),
            ("flannel.1", "vxlan", "", true),
            ("flannel-v6.1", "tun", mark, true),
            ("flannel0", "tun", "", true),
            ("flannel-wg", "wireguard", "", true),
            ("flannel.ipip", "ipip", "", true),
            ("flannel-old0", "vxlan", "", true),
            ("weft.1", "tun", "", true),
            ("pods", "tun", mark, true),
            ("vxlan100", "vxlan", "", true),
            ("cni0", "bridge", "", true),
            ("docker0", "bridge", "", true),
            ("eth0", "", "", false),
            ("eth0", "", mark, false),
            ("eth0", "veth", "", false),
            ("lo", "", "", false),
            ("br0", "bridge", "", false),
            ("wg0", "wireguard", "", false),
            ("tun0", "tun", "", false),
            ("tun0", "tun", "uplink", false),
            ("flannel-lan", "vlan", "", false),
            ("flannel0", "", "", false),
        ] {
            let link = link(name, kind, alias);
            assert_eq!(is_overlay(&link), expected, "{name} {kind} {alias:?}");
            let is_tunnel_too = expected && kind != "bridge";
            assert_eq!(is_tunnel(&link), is_tunnel_too, "{name} {kind} {alias:?}");
        }
    }
}
