//! `subnet.env`: how container runtimes and CNI plugins learn this node's subnet, and how
//! the next start finds it again.

mod kept;

use super::atomic_file;
use crate::text::shown;
use ipnet::{Ipv4Net, Ipv6Net};
pub use kept::{KeptEnv, remove_stale};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::str::FromStr;

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

/// What an earlier start left in `subnet.env`. Subnets are masked to their base address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Previous {
    /// `FLANNEL_NETWORK`.
    pub network: Option<Ipv4Net>,
    /// `FLANNEL_SUBNET`.
    pub subnet: Option<Ipv4Net>,
    /// `FLANNEL_IPV6_NETWORK`.
    pub ipv6_network: Option<Ipv6Net>,
    /// `FLANNEL_IPV6_SUBNET`.
    pub ipv6_subnet: Option<Ipv6Net>,
}

impl Previous {
    /// Read the file at `path`. A missing or unreadable file holds nothing.
    pub fn read(path: &Path) -> Self {
        match read_regular(path) {
            Ok(content) => {
                let (previous, complaints) = Self::parse(&String::from_utf8_lossy(&content));
                for complaint in complaints {
                    tracing::warn!("{}: {complaint}", path.display());
                }
                previous
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}", path.display());
                }
                Self::default()
            }
        }
    }

    /// What the text of such a file holds, and what in it is malformed.
    pub(crate) fn parse(text: &str) -> (Self, Vec<String>) {
        let values = dotenv(text);
        let mut complaints = Vec::new();
        let network = "what was left of the previous network stays";
        let subnet = "the previous subnet is not used";
        let previous = Self {
            network: net(&values, "FLANNEL_NETWORK", network, &mut complaints)
                .map(|n: Ipv4Net| n.trunc()),
            subnet: net(&values, "FLANNEL_SUBNET", subnet, &mut complaints)
                .map(|n: Ipv4Net| n.trunc()),
            ipv6_network: net(&values, "FLANNEL_IPV6_NETWORK", network, &mut complaints)
                .map(|n: Ipv6Net| n.trunc()),
            ipv6_subnet: net(&values, "FLANNEL_IPV6_SUBNET", subnet, &mut complaints)
                .map(|n: Ipv6Net| n.trunc()),
        };
        (previous, complaints)
    }
}

/// What the regular file at `path` holds. A FIFO would hold up the agent until somebody writes.
fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::metadata(path)?.is_file() {
        true => std::fs::read(path),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// The network under `key`; a complaint, with its `consequence`, if the value is not exactly one.
fn net<T: FromStr>(
    values: &BTreeMap<&str, &str>,
    key: &str,
    consequence: &str,
    complaints: &mut Vec<String>,
) -> Option<T> {
    let value = values.get(key).copied().unwrap_or_default();
    let net = single(value);
    if net.is_none() && !value.is_empty() {
        let value = shown(value);
        complaints.push(format!(
            "{key}={value} does not hold exactly one network; {consequence}"
        ));
    }
    net
}

/// The assignments of a dotenv file: `KEY=VALUE`, optionally behind `export`, optionally
/// quoted, `#` comments. The last assignment of a key wins.
pub fn dotenv(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if key.starts_with('#') {
        return None;
    }
    for quote in ['"', '\''] {
        if let Some(quoted) = value.strip_prefix(quote) {
            return Some((key, quoted.split(quote).next().unwrap_or_default()));
        }
    }
    let value = value.split(" #").next().unwrap_or_default();
    Some((key, value.trim_end()))
}

/// The elements of a comma list that parse.
fn list<T: FromStr>(value: &str) -> Vec<T> {
    let elements = value.split(',').map(str::trim);
    elements
        .filter_map(|element| element.parse().ok())
        .collect()
}

/// The one element of a comma list that parses; none if there are several.
fn single<T: FromStr>(value: &str) -> Option<T> {
    let mut elements = list(value);
    let first = elements.pop();
    if elements.is_empty() { first } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};
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
        assert_eq!(Previous::read(&path), Previous::default());
        env().write(&path).unwrap();
        let previous = Previous::read(&path);
        assert_eq!(previous.network, Some("10.5.0.0/16".parse().unwrap()));
        assert_eq!(previous.subnet, Some("10.5.72.0/24".parse().unwrap()));
        assert_eq!(previous.ipv6_subnet, None);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn u19_invalid_cidrs_are_skipped() {
        let subnet = |value: &str| {
            Previous::parse(&format!("FLANNEL_SUBNET={value}\n"))
                .0
                .subnet
        };
        let expected = Some("10.5.72.0/24".parse().unwrap());
        assert_eq!(subnet("10.5.72.1/24"), expected);
        assert_eq!(subnet("nonsense,10.5.72.1/24,10.5.0.0/99"), expected);
        assert_eq!(subnet("nonsense, 300.1.2.3/24"), None);
        assert_eq!(subnet("10.5.72.1/24,10.5.73.1/24"), None, "more than one");
        assert_eq!(subnet(""), None);
        assert_eq!(subnet("2001:cafe:42::1/64"), None, "of the other family");

        let subnet6 = |value: &str| {
            Previous::parse(&format!("FLANNEL_IPV6_SUBNET={value}\n"))
                .0
                .ipv6_subnet
        };
        let expected = Some("2001:cafe:42::/64".parse().unwrap());
        assert_eq!(subnet6("bad,2001:cafe:42::1/64"), expected);
        assert_eq!(subnet6("bad,worse"), None);
    }

    #[test]
    fn what_is_malformed_is_named_with_its_key_and_value() {
        for (line, consequence) in [
            (
                "FLANNEL_SUBNET=10.6.77.1/2x4",
                "the previous subnet is not used",
            ),
            (
                "FLANNEL_SUBNET=10.6.77.1/24,10.6.78.1/24",
                "the previous subnet is not used",
            ),
            (
                "FLANNEL_IPV6_SUBNET=10.6.77.1/24",
                "the previous subnet is not used",
            ),
            (
                "FLANNEL_NETWORK=10.6.0.0",
                "what was left of the previous network stays",
            ),
            (
                "FLANNEL_IPV6_NETWORK=fd00::/129",
                "what was left of the previous network stays",
            ),
        ] {
            let (previous, complaints) = Previous::parse(&format!("{line}\nFLANNEL_MTU=1450\n"));
            assert_eq!(previous, Previous::default());
            let expected = format!("{line} does not hold exactly one network; {consequence}");
            assert_eq!(complaints, [expected]);
        }
        for fine in [
            "",
            "FLANNEL_SUBNET=\n",
            "FLANNEL_SUBNET=nonsense,10.6.77.1/24",
            &env().render(),
        ] {
            assert_eq!(Previous::parse(fine).1, [""; 0], "{fine}");
        }
    }

    #[test]
    fn dotenv_syntax() {
        let text = "# comment\n\nexport A=1\nB=\"two words\" # why\nC='x'\nD=4 # four\n\
                    #E=5\nnonsense\nF = 6 \nA=7\n";
        let values = dotenv(text);
        let expected = [
            ("A", "7"),
            ("B", "two words"),
            ("C", "x"),
            ("D", "4"),
            ("F", "6"),
        ];
        assert_eq!(values, BTreeMap::from(expected));
    }

    #[test]
    fn what_is_no_regular_file_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (sender, previous) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(Previous::read(&path)));
        let limit = std::time::Duration::from_secs(10);
        assert_eq!(previous.recv_timeout(limit), Ok(Previous::default()));
        assert_eq!(Previous::read(dir.path()), Previous::default());
    }

    #[test]
    fn binary_rubbish_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        std::fs::write(&path, b"FLANNEL_SUBNET=\xff\xfe\n\0\0=\n").unwrap();
        assert_eq!(Previous::read(&path), Previous::default());
    }
}
