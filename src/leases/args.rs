//! Flags of `weft leases`.

use super::etcd::Etcd;
use super::named;
use crate::words::{self, Refusal};
use clap::{Args as Group, Parser, Subcommand};
use ipnet::Ipv6Net;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use weft_control::lease::{SubnetKey, is_host};
use weft_control::subnets::etcd::admin::Reservation;

/// The leases of the nodes in etcd: look at them, reserve and release them
#[derive(Clone, Debug, Parser)]
#[command(name = "weft leases", disable_version_flag = true, arg_required_else_help = false, after_help = AFTER)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) action: Action,
    #[command(flatten)]
    pub(crate) etcd: Etcd,
}

const AFTER: &str = "\
The flags of etcd are those of weft agent and are also taken from FLANNELD_ETCD_ENDPOINTS and so on.
Ends with 0, with 1 if something cannot be done, and with 2 if the command line is wrong.";

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Action {
    /// All leases in a table, with what is wrong with them
    List {
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Everything about one lease
    Show {
        /// Its subnet (10.5.34.0/24), its key (10.5.34.0-24), its node's address or a pod's
        #[arg(value_name = "KEY-OR-IP")]
        what: String,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Make a subnet a node's for ever; a lease that the node has becomes a reservation
    Reserve(Wanted),
    /// Delete a lease or a reservation. To take a node out, stop its agent first: a running
    /// one takes its subnet again while that is free
    Release {
        /// Its subnet (10.5.34.0/24) or its key (10.5.34.0-24)
        #[arg(value_name = "SUBNET-OR-KEY")]
        subnet: String,
        /// Do not ask before a lease is deleted whose node may run
        #[arg(long)]
        yes: bool,
    },
    /// A line for each change, until Ctrl-C
    Watch {
        /// As JSON, one object a line
        #[arg(long)]
        json: bool,
    },
}

/// What to reserve.
#[derive(Clone, Debug, Group)]
pub(crate) struct Wanted {
    /// The subnet: 10.5.34.0/24, or an IPv6 one where the network has no IPv4; or the key that
    /// stands for one or both: 10.5.34.0-24
    #[arg(value_name = "SUBNET-OR-KEY", value_parser = named::read)]
    subnets: SubnetKey,
    /// The node's public IPv4 address
    #[arg(long, value_name = "IP")]
    public_ip: Option<Ipv4Addr>,
    /// The node's public IPv6 address
    #[arg(long, value_name = "IP")]
    public_ipv6: Option<Ipv6Addr>,
    /// The IPv6 subnet that goes with it
    #[arg(long, value_name = "NET")]
    ipv6_subnet: Option<Ipv6Net>,
}

impl Wanted {
    /// The reservation, or the rule that the flags break.
    pub(crate) fn reservation(&self) -> Result<Reservation, String> {
        let mut subnets = self.subnets;
        if let Some(v6) = self.ipv6_subnet {
            if subnets.v6.replace(v6).is_some() {
                let rule = "SUBNET-OR-KEY has an IPv6 subnet already: leave --ipv6-subnet out";
                return Err(rule.to_owned());
            }
            if v6.trunc() != v6 {
                return Err(format!("{v6} is an address: the subnet is {}", v6.trunc()));
            }
        }
        if subnets.v4.is_some() != self.public_ip.is_some() {
            return Err("an IPv4 subnet and --public-ip go together".to_owned());
        }
        if subnets.v6.is_some() != self.public_ipv6.is_some() {
            return Err("an IPv6 subnet and --public-ipv6 go together".to_owned());
        }
        let nodes = [
            self.public_ip.map(IpAddr::V4),
            self.public_ipv6.map(IpAddr::V6),
        ];
        if let Some(node) = nodes.into_iter().flatten().find(|node| !is_host(*node)) {
            return Err(format!("{node} is no address of a host: give the node's"));
        }
        Ok(Reservation {
            subnets,
            public_ip: self.public_ip,
            public_ipv6: self.public_ipv6,
        })
    }
}

/// Read the words after `weft leases`.
pub(crate) fn parse(words: impl Iterator<Item = OsString>) -> Result<Args, Refusal> {
    let args: Args = words::parse("weft leases", words)?;
    if let Action::Reserve(wanted) = &args.action {
        wanted.reservation().map_err(Refusal::Bad)?;
    }
    Ok(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Args, Refusal> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn reservation(line: &str) -> Result<Reservation, String> {
        match read(line) {
            Ok(Args {
                action: Action::Reserve(wanted),
                ..
            }) => wanted.reservation(),
            Err(Refusal::Bad(text)) => Err(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_of_etcd_may_stand_anywhere_and_have_one_dash() {
        let line = "-etcd-endpoints=https://a:1,b:2 list --json --etcd-cafile ca.pem -etcd-username me --etcd-password=7-warp";
        let args = read(line).unwrap();
        assert!(matches!(args.action, Action::List { json: true }));
        let options = args.etcd.options();
        assert_eq!(options.endpoints, ["https://a:1", "b:2"]);
        assert_eq!(options.prefix, "/coreos.com/network");
        assert_eq!(options.ca_file, Some("ca.pem".into()));
        assert_eq!(options.password.reveal(), "7-warp");
        assert!(!format!("{args:?}").contains("7-warp"));
    }

    #[test]
    fn an_empty_value_is_none() {
        let args = read("list --etcd-endpoints= --etcd-cafile= --etcd-username=").unwrap();
        let options = args.etcd.options();
        assert_eq!(options.endpoints.len(), 2);
        assert_eq!((&options.ca_file, options.username.as_str()), (&None, ""));
    }

    #[test]
    fn reservations_name_address_and_subnet_of_each_family() {
        let wanted = reservation("reserve 10.5.7.0/24 --public-ip 192.0.2.7").unwrap();
        assert_eq!(wanted.subnets.to_string(), "10.5.7.0-24");
        let line = "reserve 10.5.7.0/24 -public-ip 192.0.2.7 -public-ipv6 2001:db8::7 -ipv6-subnet fd00:7::/64";
        assert_eq!(
            reservation(line).unwrap().subnets.to_string(),
            "10.5.7.0-24&fd00:7::-64"
        );
        let line = "reserve 10.5.7.0-24&fd00:7::-64 -public-ip 192.0.2.7 -public-ipv6 2001:db8::7";
        assert_eq!(
            reservation(line).unwrap().subnets.to_string(),
            "10.5.7.0-24&fd00:7::-64"
        );
        let wanted = reservation("reserve fd00:7::/64 --public-ipv6 2001:db8::7").unwrap();
        assert_eq!(wanted.subnets.to_string(), "0.0.0.0-0&fd00:7::-64");
        for (line, words) in [
            (
                "reserve 10.5.7.0/24 --public-ip 255.255.255.255",
                "255.255.255.255 is no address of a host",
            ),
            (
                "reserve 10.5.7.0/24 --public-ip 0.0.0.0",
                "0.0.0.0 is no address of a host",
            ),
            (
                "reserve fd00:7::/64 --public-ipv6 ff02::1",
                "ff02::1 is no address of a host",
            ),
            ("reserve 10.5.7.0/24", "--public-ip"),
            (
                "reserve 10.5.7.9/24 --public-ip 192.0.2.7",
                "the subnet is 10.5.7.0/24",
            ),
            ("reserve fd00:7::/64 --public-ip 192.0.2.7", "--public-ip"),
            (
                "reserve 10.5.7.0/24 --public-ip 192.0.2.7 --public-ipv6 2001:db8::7",
                "--public-ipv6",
            ),
            (
                "reserve fd00:7::/64 --ipv6-subnet fd00:8::/64",
                "leave --ipv6-subnet out",
            ),
            (
                "reserve 10.5.7.0/24 --ipv6-subnet fd00:8::1/64",
                "the subnet is fd00:8::/64",
            ),
        ] {
            let error = reservation(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[test]
    fn complaints_are_one_line() {
        for (line, words) in [
            ("", "--help lists them"),
            ("lst", "did you mean 'list'?"),
            ("show", "KEY-OR-IP"),
            ("reserve 10.5.7.0 --public-ip 192.0.2.7", "10.5.7.0"),
            ("reserve 10.5.7.0/24 --public-ip nobody", "nobody"),
            ("list --yaml", "--yaml"),
            (
                "list --etcd-endpoints=etcd://a:1",
                "etcd:// is none of http://, https:// and unix://",
            ),
        ] {
            let Err(Refusal::Bad(text)) = read(line) else {
                panic!("{line}");
            };
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains(words), "{line}: {text}");
        }
    }

    #[test]
    fn help_names_subcommands_and_flags() {
        let Err(Refusal::Help(text)) = read("--help") else {
            panic!("no help");
        };
        for word in [
            "list",
            "show",
            "reserve",
            "release",
            "watch",
            "--etcd-cafile <FILE>",
            "[default: /coreos.com/network]",
            "FLANNELD_",
        ] {
            assert!(text.contains(word), "{word}: {text}");
        }
    }
}
