//! What is written.

use crate::family::{Family, PerFamily, number};
use crate::host::atomic_file;
use crate::lease::NodeNetwork;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The permissions of the file: its readers are other users.
pub(super) const MODE: u32 = 0o644;

/// The contents of a `subnet.env` to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The network and the node's subnet, of the families that pods have addresses of.
    pub networks: PerFamily<Option<NodeNetwork>>,
    /// MTU of the tunnel device in bytes.
    pub mtu: u32,
    /// Whether masquerade rules are installed (`-ip-masq`).
    pub ip_masq: bool,
}

impl SubnetEnv {
    /// The lines in flannel's order. Subnets are written as their first host address.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        for (family, own) in self.networks.iter() {
            let Some(NodeNetwork { network, subnet }) = own else {
                continue;
            };
            let key = match family {
                Family::V4 => "FLANNEL",
                Family::V6 => "FLANNEL_IPV6",
            };
            let first = number(subnet.network()).wrapping_add(1);
            let (gateway, len) = (family.address(first), subnet.prefix_len());
            let _ = writeln!(text, "{key}_NETWORK={network}");
            let _ = writeln!(text, "{key}_SUBNET={gateway}/{len}");
        }
        let _ = writeln!(text, "FLANNEL_MTU={}", self.mtu);
        let _ = writeln!(text, "FLANNEL_IPMASQ={}", self.ip_masq);
        text
    }

    /// Replace the file at `path` atomically. Mode 0644 in a directory of mode 0755: the
    /// readers are other users.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        atomic_file::write(path, self.render().as_bytes(), MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::subnet_env::read_previous;
    use crate::lease::Previous;
    use std::os::unix::fs::PermissionsExt;

    fn own(network: &str, subnet: &str) -> Option<NodeNetwork> {
        Some(NodeNetwork {
            network: network.parse().unwrap(),
            subnet: subnet.parse().unwrap(),
        })
    }

    fn env() -> SubnetEnv {
        SubnetEnv {
            networks: PerFamily {
                v4: own("10.5.0.0/16", "10.5.72.0/24"),
                v6: None,
            },
            mtu: 1450,
            ip_masq: false,
        }
    }

    #[test]
    fn rendered_in_flannels_order() {
        assert_eq!(
            env().render(),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n\
             FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
        );
        let mut dual = env();
        dual.networks.v6 = own("2001:cafe:42::/56", "2001:cafe:42::/64");
        dual.ip_masq = true;
        assert_eq!(
            dual.render(),
            "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.72.1/24\n\
             FLANNEL_IPV6_NETWORK=2001:cafe:42::/56\n\
             FLANNEL_IPV6_SUBNET=2001:cafe:42::1/64\n\
             FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
        );
    }

    #[test]
    fn written_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flannel/subnet.env");
        assert_eq!(read_previous(&path), Previous::default());
        env().write(&path).unwrap();
        let previous = read_previous(&path);
        assert_eq!(previous.network, Some("10.5.0.0/16".parse().unwrap()));
        assert_eq!(previous.subnet, Some("10.5.72.0/24".parse().unwrap()));
        assert_eq!(previous.ipv6_subnet, None);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }
}
