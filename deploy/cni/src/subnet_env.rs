//! `subnet.env`, which the agent (weft or flanneld) writes.

use crate::error::{Code, Error};
use ipnet::{Ipv4Net, Ipv6Net};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

/// What a pod has to know of the node's lease. Subnets are masked to their base address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// `FLANNEL_NETWORK`, each once.
    pub networks: Vec<Ipv4Net>,
    /// `FLANNEL_SUBNET`.
    pub subnet: Option<Ipv4Net>,
    /// `FLANNEL_IPV6_NETWORK`, each once.
    pub ipv6_networks: Vec<Ipv6Net>,
    /// `FLANNEL_IPV6_SUBNET`.
    pub ipv6_subnet: Option<Ipv6Net>,
    /// `FLANNEL_MTU` in bytes.
    pub mtu: u32,
    /// `FLANNEL_IPMASQ`: whether the agent masquerades.
    pub ip_masq: bool,
}

impl SubnetEnv {
    /// Read the file at `path`.
    pub fn load(path: &Path) -> Result<SubnetEnv, Error> {
        let shown = path.display();
        let text = std::fs::read(path).map_err(|error| {
            // The agent writes it at the end of its start.
            let absent = error.kind() == ErrorKind::NotFound;
            let code = if absent { Code::TryLater } else { Code::Io };
            let hint = if absent {
                "; is the agent of this node (weft or flanneld) running?"
            } else {
                ""
            };
            Error::new(code, format!("cannot read {shown}: {error}{hint}"))
        })?;
        SubnetEnv::parse(&String::from_utf8_lossy(&text))
            .map_err(|what| Error::new(Code::Internal, format!("{shown} {what}")))
    }

    /// What stands in for a file that is not there where a container is detached: `host-local`
    /// wants ranges in its configuration for that, too, but looks at none of them.
    pub(crate) fn stand_in() -> SubnetEnv {
        // TEST-NET-1 of RFC 5737: nobody's.
        let nobodys = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24);
        SubnetEnv {
            networks: Vec::new(),
            subnet: Some(nobodys),
            ipv6_networks: Vec::new(),
            ipv6_subnet: None,
            mtu: 0,
            ip_masq: false,
        }
    }

    /// Read the lines `KEY=VALUE` of `text`; other keys are ignored and the last of equal
    /// ones counts. The error says all that is missing or which value is bad.
    pub fn parse(text: &str) -> Result<SubnetEnv, String> {
        let value = |wanted: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            let mut values = lines.filter(|(key, _)| *key == wanted);
            values.next_back().map(|(_, value)| value.trim_end())
        };
        let networks = list("FLANNEL_NETWORK", value("FLANNEL_NETWORK"), Ipv4Net::trunc)?;
        let subnet = one("FLANNEL_SUBNET", value("FLANNEL_SUBNET"))?;
        let ipv6_networks = value("FLANNEL_IPV6_NETWORK");
        let ipv6_networks = list("FLANNEL_IPV6_NETWORK", ipv6_networks, Ipv6Net::trunc)?;
        let ipv6_subnet = one("FLANNEL_IPV6_SUBNET", value("FLANNEL_IPV6_SUBNET"))?;
        let mtu: Option<u32> = one("FLANNEL_MTU", value("FLANNEL_MTU"))?;
        let ip_masq = value("FLANNEL_IPMASQ").map(|value| value == "true");

        let mut missing = Vec::new();
        if networks.is_empty() && ipv6_networks.is_empty() {
            missing.extend(["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"]);
        }
        if subnet.is_none() && ipv6_subnet.is_none() {
            missing.extend(["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"]);
        }
        if mtu.is_none() {
            missing.push("FLANNEL_MTU");
        }
        if ip_masq.is_none() {
            missing.push("FLANNEL_IPMASQ");
        }
        match (mtu, ip_masq, missing.is_empty()) {
            (Some(mtu), Some(ip_masq), true) => Ok(SubnetEnv {
                networks,
                subnet: subnet.map(|net: Ipv4Net| net.trunc()),
                ipv6_networks,
                ipv6_subnet: ipv6_subnet.map(|net: Ipv6Net| net.trunc()),
                mtu,
                ip_masq,
            }),
            _ => Err(format!("is missing {}", missing.join(", "))),
        }
    }
}

fn one<T: FromStr>(key: &str, value: Option<&str>) -> Result<Option<T>, String> {
    let parse = |value: &str| value.parse().map_err(|_| bad(key, value));
    value.map(parse).transpose()
}

/// The elements of a comma list after `base`, each once.
fn list<T: FromStr + PartialEq>(
    key: &str,
    value: Option<&str>,
    base: impl Fn(&T) -> T,
) -> Result<Vec<T>, String> {
    let mut nets = Vec::new();
    for element in value.into_iter().flat_map(|value| value.split(',')) {
        let net: T = element.trim().parse().map_err(|_| bad(key, element))?;
        let net = base(&net);
        if !nets.contains(&net) {
            nets.push(net);
        }
    }
    Ok(nets)
}

fn bad(key: &str, value: &str) -> String {
    format!("has an invalid value of {key}: {value:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str = "\nFLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n\
                      FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";
    const V6: &str = "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00::1/64\n\
                      FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

    #[test]
    fn c6_valid_files_load_in_all_stacks() {
        let v4 = SubnetEnv::parse(V4).unwrap();
        assert_eq!(v4.networks, ["10.1.0.0/16".parse().unwrap()]);
        assert_eq!(v4.subnet, Some("10.1.17.0/24".parse().unwrap()));
        assert_eq!((v4.ipv6_networks, v4.ipv6_subnet), (vec![], None));
        assert_eq!((v4.mtu, v4.ip_masq), (1472, true));

        let v6 = SubnetEnv::parse(V6).unwrap();
        assert_eq!(v6.ipv6_networks, ["fc00::/48".parse().unwrap()]);
        assert_eq!(v6.ipv6_subnet, Some("fc00::/64".parse().unwrap()));
        assert_eq!((v6.networks, v6.subnet), (vec![], None));

        let dual = SubnetEnv::parse(&format!("{V4}{V6}")).unwrap();
        assert_eq!((dual.networks.len(), dual.ipv6_networks.len()), (1, 1));
        assert!(dual.subnet.is_some() && dual.ipv6_subnet.is_some());
    }

    #[test]
    fn c6_invalid_files_name_all_missing_keys() {
        assert_eq!(
            SubnetEnv::parse("foo=bar").unwrap_err(),
            "is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, \
             FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ"
        );
        let without = V4.replace("FLANNEL_MTU=1472\n", "");
        let error = SubnetEnv::parse(&without).unwrap_err();
        assert_eq!(error, "is missing FLANNEL_MTU");
    }

    #[test]
    fn networks_may_be_several_and_count_once() {
        let two = V4.replace("10.1.0.0/16", "10.1.0.0/16,192.168.0.0/16,10.1.2.3/16");
        let networks = SubnetEnv::parse(&two).unwrap().networks;
        let expected = ["10.1.0.0/16", "192.168.0.0/16"].map(|net| net.parse().unwrap());
        assert_eq!(networks, expected);
    }

    #[test]
    fn only_the_word_true_is_true() {
        for (word, expected) in [
            ("true", true),
            ("false", false),
            ("True", false),
            ("", false),
        ] {
            let text = V4.replace("IPMASQ=true", &format!("IPMASQ={word}"));
            assert_eq!(SubnetEnv::parse(&text).unwrap().ip_masq, expected, "{word}");
        }
    }

    #[test]
    fn bad_values_are_named() {
        for (from, to) in [
            ("10.1.0.0/16", "10.1.0.0"),
            ("10.1.0.0/16", "10.1.0.0/16,"),
            ("10.1.17.1/24", "10.1.17.1/33"),
            ("1472", "-1"),
            ("1472", "4294967296"),
        ] {
            let error = SubnetEnv::parse(&V4.replace(from, to)).unwrap_err();
            assert!(
                error.starts_with("has an invalid value of FLANNEL_"),
                "{error}"
            );
        }
        // Lines without a value are no panic.
        assert!(SubnetEnv::parse("FLANNEL_NETWORK\nFLANNEL_MTU").is_err());
    }

    #[test]
    fn a_file_that_is_not_there_may_appear() {
        let error = SubnetEnv::load(Path::new("/nonexistent/subnet.env")).unwrap_err();
        assert_eq!(error.code, Code::TryLater as u32);
        assert!(error.msg.contains("/nonexistent/subnet.env"), "{error}");
        assert_eq!(SubnetEnv::load(Path::new("/")).unwrap_err().code, 5);
    }
}
