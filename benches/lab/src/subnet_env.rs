//! The file by which an agent tells container runtimes its subnet.

use ipnet::Ipv4Net;
use std::str::FromStr;

/// What `subnet.env` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetEnv {
    /// The whole network.
    pub network: Ipv4Net,
    /// The node's subnet, written as its gateway: `10.244.7.1/24`.
    pub subnet: Ipv4Net,
    /// MTU of the overlay in bytes.
    pub mtu: u32,
    /// Whether the agent masquerades.
    pub ipmasq: bool,
}

impl FromStr for SubnetEnv {
    type Err = String;

    fn from_str(text: &str) -> Result<SubnetEnv, String> {
        fn field<T: FromStr>(text: &str, name: &str) -> Result<T, String> {
            value(text, name)?.ok_or_else(|| format!("{name} is missing"))
        }
        Ok(SubnetEnv {
            network: field(text, "FLANNEL_NETWORK")?,
            subnet: field(text, "FLANNEL_SUBNET")?,
            mtu: field(text, "FLANNEL_MTU")?,
            ipmasq: field(text, "FLANNEL_IPMASQ")?,
        })
    }
}

/// What the variable `name` says in the text of a `subnet.env`, if it is there.
pub fn value<T: FromStr>(text: &str, name: &str) -> Result<Option<T>, String> {
    let value = text.lines().find_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        (key == name).then_some(value)
    });
    let wrong = |value| format!("{name} has the invalid value `{value}`");
    let parse = |value: &str| value.parse().map_err(|_| wrong(value.to_owned()));
    value.map(parse).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENV: &str = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.7.1/24\n\
                       FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

    #[test]
    fn subnet_env_reads() {
        let env: SubnetEnv = ENV.parse().unwrap();
        assert_eq!(env.network, "10.244.0.0/16".parse().unwrap());
        assert_eq!(env.subnet, "10.244.7.1/24".parse().unwrap());
        assert_eq!((env.mtu, env.ipmasq), (1450, false));
    }

    #[test]
    fn subnet_env_names_what_is_wrong() {
        let missing = ENV.replace("FLANNEL_MTU=1450\n", "");
        let error = missing.parse::<SubnetEnv>().unwrap_err();
        assert_eq!(error, "FLANNEL_MTU is missing");
        let wrong = ENV.replace("10.244.7.1/24", "10.244.7.1/99");
        let error = wrong.parse::<SubnetEnv>().unwrap_err();
        assert_eq!(
            error,
            "FLANNEL_SUBNET has the invalid value `10.244.7.1/99`"
        );
    }
}
