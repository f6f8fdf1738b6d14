//! The name of a lease: `10.5.34.0-24`, `10.5.34.0-24&fd00:12:13::-56` with both families, or
//! `0.0.0.0-0&fd00:12:13::-56` with IPv6 alone, which is what flannel makes of a lease without
//! an IPv4 subnet.

use ipnet::{Ipv4Net, Ipv6Net};
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The subnets that a lease is about, and its name in the store. At least one is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubnetKey {
    /// IPv4 subnet, host bits zero, prefix length 1 to 31.
    pub v4: Option<Ipv4Net>,
    /// IPv6 subnet, host bits zero, prefix length below 128.
    pub v6: Option<Ipv6Net>,
}

/// A name that is no subnet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a subnet key: expected the form 10.5.34.0-24 or 10.5.34.0-24&fd00:12:13::-56")]
pub struct BadKey;

impl SubnetKey {
    /// Whether two leases share an address, of either family.
    pub fn overlaps(&self, other: &SubnetKey) -> bool {
        let v4 = self.v4.zip(other.v4);
        let v6 = self.v6.zip(other.v6);
        // Of two subnets that overlap one contains the other.
        v4.is_some_and(|(one, other)| one.contains(&other) || other.contains(&one))
            || v6.is_some_and(|(one, other)| one.contains(&other) || other.contains(&one))
    }
}

impl From<Ipv4Net> for SubnetKey {
    fn from(v4: Ipv4Net) -> SubnetKey {
        SubnetKey {
            v4: Some(v4.trunc()),
            v6: None,
        }
    }
}

impl From<Ipv6Net> for SubnetKey {
    fn from(v6: Ipv6Net) -> SubnetKey {
        SubnetKey {
            v4: None,
            v6: Some(v6.trunc()),
        }
    }
}

impl fmt::Display for SubnetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.v4 {
            None => write!(f, "{}-0", Ipv4Addr::UNSPECIFIED)?,
            Some(v4) => write!(f, "{}-{}", v4.addr(), v4.prefix_len())?,
        }
        match self.v6 {
            None => Ok(()),
            Some(v6) => write!(f, "&{}-{}", v6.addr(), v6.prefix_len()),
        }
    }
}

impl FromStr for SubnetKey {
    type Err = BadKey;

    /// Read a key; a path before the last `/` is ignored.
    ///
    /// Each subnet has exactly one spelling, the one that [`fmt::Display`] writes, so that
    /// two keys of a store never mean the same lease.
    fn from_str(text: &str) -> Result<SubnetKey, BadKey> {
        let name = text.rsplit('/').next().unwrap_or(text);
        let (v4, v6) = match name.split_once('&') {
            Some((v4, v6)) => (v4, Some(v6)),
            None => (name, None),
        };
        let v4: Ipv4Net = subnet(v4)?;
        let key = SubnetKey {
            v4: (v4.prefix_len() > 0).then_some(v4),
            v6: v6.map(subnet).transpose()?,
        };
        let fits = v4.prefix_len() < 32 && key.v6.is_none_or(|v6| v6.prefix_len() < 128);
        let masked = v4.trunc() == v4 && key.v6.is_none_or(|v6| v6.trunc() == v6);
        let some = key.v4.is_some() || key.v6.is_some();
        match fits && masked && some && key.to_string() == name {
            true => Ok(key),
            false => Err(BadKey),
        }
    }
}

/// `address-length` as a subnet.
fn subnet<T: FromStr>(text: &str) -> Result<T, BadKey> {
    let (address, len) = text.split_once('-').ok_or(BadKey)?;
    format!("{address}/{len}").parse().map_err(|_| BadKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn u18_keys_of_both_forms_round_trip() {
        let key: SubnetKey = "10.12.13.0-24".parse().unwrap();
        assert_eq!(key.v4, Some("10.12.13.0/24".parse().unwrap()));
        assert_eq!(key.v6, None);
        assert_eq!(key.to_string(), "10.12.13.0-24");

        let dual = "10.12.13.0-24&fd00:12:13::-56";
        let key: SubnetKey = dual.parse().unwrap();
        assert_eq!(key.v4, Some("10.12.13.0/24".parse().unwrap()));
        assert_eq!(key.v6, Some("fd00:12:13::/56".parse().unwrap()));
        assert_eq!(key.to_string(), dual);
    }

    #[test]
    fn keys_of_ipv6_alone_round_trip() {
        let v6: Ipv6Net = "fd00:12:13::/64".parse().unwrap();
        let key = SubnetKey::from(v6);
        assert_eq!(key.to_string(), "0.0.0.0-0&fd00:12:13::-64");
        assert_eq!("0.0.0.0-0&fd00:12:13::-64".parse(), Ok(key));
    }

    #[test]
    fn leases_overlap_in_either_family() {
        let own: SubnetKey = "10.12.13.0-24&fd00:12:13::-56".parse().unwrap();
        for (other, expected) in [
            ("10.12.13.0-24", true),
            ("10.12.0.0-16&fd00:99::-56", true),
            ("10.12.13.128-25", true),
            ("0.0.0.0-0&fd00:12::-32", true),
            ("10.12.14.0-24&fd00:12:14::-56", false),
            ("0.0.0.0-0&fd00:12:14::-56", false),
        ] {
            let other: SubnetKey = other.parse().unwrap();
            assert_eq!(own.overlaps(&other), expected, "{other}");
            assert_eq!(other.overlaps(&own), expected, "{other}");
        }
    }

    #[test]
    fn a_leading_path_is_ignored() {
        let key: SubnetKey = "/coreos.com/network/subnets/10.1.5.0-24".parse().unwrap();
        assert_eq!(
            key,
            SubnetKey::from("10.1.5.0/24".parse::<Ipv4Net>().unwrap())
        );
    }

    #[test]
    fn u18_malformed_keys_are_refused() {
        let malformed = [
            "10",
            "10.12.13.0",
            "10.12.13-24",
            "10.12.13.300-24",
            "10.12.13.0-24hi",
            "&2001::-56",
            "10.12.13.0-24&:12:13:-56",
            "10.12.13.0-24&20011::-56",
            "10.12.13.0-24&2001-56",
            "10.12.13.0-24&2001::",
            "10.12.13.0-24&2001::-56hi",
            // Prefix lengths of single hosts, other spellings, host bits.
            "10.12.13.0-32",
            // All of IPv4 is what stands for none, and a lease of nothing is none.
            "0.0.0.0-0",
            "10.12.13.0-0&2001::-56",
            "10.12.13.0-24&2001::-128",
            "10.12.13.0-024",
            "10.12.13.0-+24",
            "10.12.13.0-24&2001:0::-56",
            "10.12.13.0-24&FD00::-56",
            "10.12.13.7-24",
            "10.12.13.0-24&",
            "10.12.13.0-24/",
            "",
        ];
        for text in malformed {
            assert_eq!(text.parse::<SubnetKey>(), Err(BadKey), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_an_error(text in "\\PC*") {
            let _ = text.parse::<SubnetKey>();
        }

        #[test]
        fn texts_like_keys_round_trip_or_fail(text in "[0-9.]{0,16}-[0-9]{0,3}(&[0-9a-f:]{0,20}-[0-9]{0,3})?") {
            if let Ok(key) = text.parse::<SubnetKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn every_subnet_round_trips(
            v4: Option<u32>,
            len in 1_u8..32,
            v6: Option<u128>,
            len6 in 0_u8..128,
        ) {
            prop_assume!(v4.is_some() || v6.is_some());
            let key = SubnetKey {
                v4: v4.map(|v4| Ipv4Net::new(v4.into(), len).unwrap().trunc()),
                v6: v6.map(|v6| Ipv6Net::new(v6.into(), len6).unwrap().trunc()),
            };
            // Mapped addresses have a dotted form; they are no subnets of pods.
            prop_assume!(key.v6.is_none_or(|v6| v6.addr().to_ipv4_mapped().is_none()));
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }
    }
}
