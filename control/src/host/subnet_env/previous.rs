//! Reading what the last start has written.

use super::dotenv::{dotenv, read_regular, single};
use crate::lease::Previous;
use crate::text::shown;
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// What the file at `path` says of the last start. One that is missing or unreadable holds
/// nothing; what in it is malformed is logged.
pub fn read_previous(path: &Path) -> Previous {
    match read_regular(path) {
        Ok(content) => {
            let (previous, complaints) = parse_previous(&String::from_utf8_lossy(&content));
            for complaint in complaints {
                tracing::warn!(code = "W0804", "{}: {complaint}", path.display());
            }
            previous
        }
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(code = "W0804", "cannot read {}: {error}", path.display());
            }
            Previous::default()
        }
    }
}

/// What the text of such a file holds, and what in it is malformed.
pub fn parse_previous(text: &str) -> (Previous, Vec<String>) {
    let values = dotenv(text);
    let mut complaints = Vec::new();
    let network = "what was left of the previous network stays";
    let subnet = "the previous subnet is not used";
    let previous = Previous {
        network: net(&values, "FLANNEL_NETWORK", network, &mut complaints)
            .map(|n: Ipv4Net| n.trunc()),
        subnet: net(&values, "FLANNEL_SUBNET", subnet, &mut complaints).map(|n: Ipv4Net| n.trunc()),
        ipv6_network: net(&values, "FLANNEL_IPV6_NETWORK", network, &mut complaints)
            .map(|n: Ipv6Net| n.trunc()),
        ipv6_subnet: net(&values, "FLANNEL_IPV6_SUBNET", subnet, &mut complaints)
            .map(|n: Ipv6Net| n.trunc()),
    };
    (previous, complaints)
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn u19_invalid_cidrs_are_skipped() {
        let subnet = |value: &str| {
            parse_previous(&format!("FLANNEL_SUBNET={value}\n"))
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
            parse_previous(&format!("FLANNEL_IPV6_SUBNET={value}\n"))
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
            let (previous, complaints) = parse_previous(&format!("{line}\nFLANNEL_MTU=1450\n"));
            assert_eq!(previous, Previous::default());
            let expected = format!("{line} does not hold exactly one network; {consequence}");
            assert_eq!(complaints, [expected]);
        }
        for fine in [
            "",
            "FLANNEL_SUBNET=\n",
            "FLANNEL_SUBNET=nonsense,10.6.77.1/24",
            "FLANNEL_SUBNET=10.5.72.1/24\nFLANNEL_MTU=1450\n",
        ] {
            assert_eq!(parse_previous(fine).1, [""; 0], "{fine}");
        }
    }

    #[test]
    fn what_is_no_regular_file_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let (sender, previous) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(read_previous(&path)));
        let limit = std::time::Duration::from_secs(10);
        assert_eq!(previous.recv_timeout(limit), Ok(Previous::default()));
        assert_eq!(read_previous(dir.path()), Previous::default());
    }

    #[test]
    fn binary_rubbish_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("subnet.env");
        std::fs::write(&path, b"FLANNEL_SUBNET=\xff\xfe\n\0\0=\n").unwrap();
        assert_eq!(read_previous(&path), Previous::default());
    }
}
