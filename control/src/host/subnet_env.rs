//! `subnet.env`: how container runtimes and CNI plugins learn this node's subnet, and how
//! the next start finds it again.

mod dotenv;
mod kept;
mod previous;

use super::atomic_file;
pub use dotenv::dotenv;
use ipnet::{Ipv4Net, Ipv6Net};
pub use kept::{KeptEnv, remove_stale};
pub(crate) use previous::parse_previous;
pub use previous::read_previous;
use std::fmt::Write as _;
use std::io;
use std::path::Path;

/// The contents of a `subnet.env` to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// IPv4 `(Network, own subnet)`, if IPv4 is enabled.
    pub v4: Option<(Ipv4Net, Ipv4Net)>,
    /// IPv6 `(IPv6Network, own subnet)`, if IPv6 is enabled.
    pub v6: Option<(Ipv6Net, Ipv6Net)>,
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
        if let Some((network, subnet)) = self.v4 {
            let gateway = u32::from(subnet.network()).wrapping_add(1);
            let gateway = std::net::Ipv4Addr::from(gateway);
            let _ = writeln!(text, "FLANNEL_NETWORK={network}");
            let _ = writeln!(text, "FLANNEL_SUBNET={gateway}/{}", subnet.prefix_len());
        }
        if let Some((network, subnet)) = self.v6 {
            let gateway = u128::from(subnet.network()).wrapping_add(1);
            let gateway = std::net::Ipv6Addr::from(gateway);
            let _ = writeln!(text, "FLANNEL_IPV6_NETWORK={network}");
            let _ = writeln!(
                text,
                "FLANNEL_IPV6_SUBNET={gateway}/{}",
                subnet.prefix_len()
            );
        }
        let _ = writeln!(text, "FLANNEL_MTU={}", self.mtu);
        let _ = writeln!(text, "FLANNEL_IPMASQ={}", self.ip_masq);
        text
    }

    /// Replace the file at `path` atomically. Mode 0644 in a directory of mode 0755: the
    /// readers are other users.
    fn write(&self, path: &Path) -> io::Result<()> {
        atomic_file::write(path, self.render().as_bytes(), kept::MODE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Previous;
    use std::os::unix::fs::PermissionsExt;

    fn env() -> SubnetEnv {
        SubnetEnv {
            v4: Some((
                "10.5.0.0/16".parse().unwrap(),
                "10.5.72.0/24".parse().unwrap(),
            )),
            v6: None,
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
        let dual = SubnetEnv {
            v6: Some((
                "2001:cafe:42::/56".parse().unwrap(),
                "2001:cafe:42::/64".parse().unwrap(),
            )),
            ip_masq: true,
            ..env()
        };
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
