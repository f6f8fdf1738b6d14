//! How operators name the subnets of a lease.

use ipnet::IpNet;
use weft_control::lease::SubnetKey;

/// The subnets that `text` names: one as 10.5.34.0/24, or a key as etcd and `weft leases` print
/// it, also with its whole path.
pub(crate) fn read(text: &str) -> Result<SubnetKey, String> {
    let net = text.parse().or_else(|_| text.replacen('-', "/", 1).parse());
    let Ok(net) = net else {
        return text.parse().map_err(|_| {
            "not a subnet such as 10.5.34.0/24, nor a key such as 10.5.34.0-24".to_owned()
        });
    };
    match net {
        net if net != net.trunc() => Err(format!(
            "{net} is an address: the subnet is {}",
            net.trunc()
        )),
        IpNet::V4(net) => Ok(net.into()),
        IpNet::V6(net) => Ok(net.into()),
    }
}

/// The subnets one by one, IPv4 first.
pub(crate) fn nets(subnets: SubnetKey) -> impl Iterator<Item = IpNet> {
    let v4 = subnets.v4.map(IpNet::V4).into_iter();
    v4.chain(subnets.v6.map(IpNet::V6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_and_keys_name_the_same() {
        for (text, key) in [
            ("10.5.34.0/24", "10.5.34.0-24"),
            ("10.5.34.0-24", "10.5.34.0-24"),
            ("/coreos.com/network/subnets/10.5.34.0-24", "10.5.34.0-24"),
            ("fd00:7::/64", "0.0.0.0-0&fd00:7::-64"),
            ("fd00:7::-64", "0.0.0.0-0&fd00:7::-64"),
            ("0.0.0.0-0&fd00:7::-64", "0.0.0.0-0&fd00:7::-64"),
            ("10.5.34.0-24&fd00:7::-64", "10.5.34.0-24&fd00:7::-64"),
        ] {
            assert_eq!(read(text).unwrap().to_string(), key, "{text}");
        }
    }

    #[test]
    fn other_words_name_none() {
        for (text, words) in [
            ("10.5.34.7/24", "the subnet is 10.5.34.0/24"),
            ("10.5.34.7-24", "the subnet is 10.5.34.0/24"),
            ("10.5.34.0", "not a subnet such as"),
            ("10.5.34.0-24&", "not a subnet such as"),
            ("", "not a subnet such as"),
        ] {
            let reason = read(text).unwrap_err();
            assert!(reason.contains(words), "{text}: {reason}");
        }
    }
}
