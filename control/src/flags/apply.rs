//! From flags to settings, and the rules for each value.

use super::syntax::{parse_bool, parse_int, parse_switch};
use super::table::{Flag, Status, TABLE};
use super::{
    Admit, AgentOptions, EngineKind, EtcdOptions, FirewallOptions, FlagError, HealthzOptions,
    InterfaceOptions, Secret, TunnelGso,
};
use crate::subnets::fixed;
use regex::Regex;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// A TUN device has at most 256 queues (Linux drivers/net/tun.c, MAX_TAP_QUEUES).
const QUEUES_MAX: i64 = 256;

/// Longer than this, a sleep costs less than the wait for it.
const SPIN_US_MAX: i64 = 1000;

/// What is wrong with a list of servers that has none, or something else in it.
const NO_LIST: &str = "must be a comma-separated list such as http://10.0.0.1:2379";

/// The dataplane numbers a worker's sockets with one byte.
const TX_SOCKETS_MAX: i64 = 255;

/// All settings at the table's defaults.
pub(super) fn defaults() -> AgentOptions {
    let mut options = AgentOptions {
        etcd: EtcdOptions::default(),
        interface: InterfaceOptions::default(),
        firewall: FirewallOptions::default(),
        blackhole_route: false,
        healthz: HealthzOptions::default(),
        subnets_file: None,
        subnet_file: PathBuf::new(),
        renew_margin: Duration::ZERO,
        verbosity: 0,
        state_dir: PathBuf::new(),
        queues: None,
        engine: EngineKind::default(),
        admit: Admit::default(),
        tx_sockets: None,
        outer_df: false,
        tso: true,
        uso: true,
        udp_gso: None,
        udp_gro: true,
        spin: Duration::ZERO,
        tunnel_gso: TunnelGso::default(),
        remove: false,
        remove_state: false,
    };
    for flag in TABLE.iter().filter(|flag| !flag.default.is_empty()) {
        // A default that breaks a rule would fail the first test of this module.
        let _ = set(&mut options, flag.name, flag.default);
    }
    options
}

/// Take in one flag.
pub(super) fn apply(options: &mut AgentOptions, flag: &Flag, value: &str) -> Result<(), FlagError> {
    let name = flag.name;
    match flag.status {
        Status::Works | Status::Secret => set(options, name, value).map_err(|rule| {
            let value = flag.shown(value);
            FlagError(format!("invalid value {value:?} for flag -{name}: {rule}"))
        }),
        Status::Later(instead) if !flag.is_default(value) => Err(FlagError(format!(
            "flag -{name}={value} is not there yet: only -{name}={} is; {instead}",
            flag.default
        ))),
        Status::Later(_) | Status::NoEffect(_) => Ok(()),
    }
}

/// Set one value; the error is the rule it breaks.
fn set(options: &mut AgentOptions, name: &str, value: &str) -> Result<(), String> {
    let on = parse_bool(value).unwrap_or_default();
    let (etcd, interface) = (&mut options.etcd, &mut options.interface);
    let firewall = &mut options.firewall;
    match name {
        "etcd-endpoints" => etcd.endpoints = endpoints(value)?,
        "etcd-prefix" => etcd.prefix = value.to_owned(),
        "etcd-keyfile" => etcd.key_file = optional_path(value),
        "etcd-certfile" => etcd.cert_file = optional_path(value),
        "etcd-cafile" => etcd.ca_file = optional_path(value),
        "etcd-username" => etcd.username = value.to_owned(),
        "etcd-password" => etcd.password = Secret::new(value),
        "iface" => interface.iface.push(value.to_owned()),
        "iface-regex" => interface.iface_regex.push(regex(value)?),
        "iface-can-reach" => interface.can_reach = address(value, "an IP address")?,
        "public-ip" => interface.public_ip = address(value, "an IPv4 address")?,
        "public-ipv6" => interface.public_ipv6 = address(value, "an IPv6 address")?,
        "ip-masq" => firewall.ip_masq = on,
        "ip-masq-fully-random-disable" => firewall.random_fully = !on,
        "iptables-forward-rules" => firewall.forward_rules = on,
        "iptables-resync" => firewall.resync = Duration::from_secs(at_least_one(value)?),
        "ip-blackhole-route" => options.blackhole_route = on,
        "healthz-ip" => options.healthz.host = host(value)?,
        "healthz-port" => options.healthz.port = within(value, 0, u16::MAX.into())? as u16,
        "subnets-file" => options.subnets_file = subnets_file(value)?,
        "subnet-file" => options.subnet_file = subnet_file(value)?,
        "state-dir" => options.state_dir = path(value)?,
        "subnet-lease-renew-margin" => {
            let minutes = within(value, 1, 1439)?;
            options.renew_margin = Duration::from_secs(minutes * 60);
        }
        "v" => options.verbosity = parse_int(value).unwrap_or_default().clamp(0, 255) as u8,
        "queues" => options.queues = count(value, QUEUES_MAX)?,
        "tx-sockets" => options.tx_sockets = count(value, TX_SOCKETS_MAX)?,
        "engine" => {
            options.engine = match value {
                "auto" => EngineKind::Auto,
                "ring" => EngineKind::Ring,
                "poll" => EngineKind::Poll,
                _ => return Err("must be auto, ring or poll".to_owned()),
            }
        }
        "admit" => {
            options.admit = match value {
                "strict" => Admit::Strict,
                "loose" => Admit::Loose,
                _ => return Err("must be strict or loose".to_owned()),
            }
        }
        "remove" => options.remove = on,
        "remove-state" => options.remove_state = on,
        "outer-df" => options.outer_df = on,
        "tso" => options.tso = on,
        "uso" => options.uso = on,
        "udp-gso" => options.udp_gso = parse_switch(value).flatten(),
        "udp-gro" => options.udp_gro = on,
        "spin-us" => options.spin = Duration::from_micros(within(value, 0, SPIN_US_MAX)?),
        "tunnel-gso" => {
            options.tunnel_gso = match value {
                "auto" => TunnelGso::Auto,
                "on" => TunnelGso::On,
                "off" => TunnelGso::Off,
                _ => return Err("must be auto, on or off".to_owned()),
            }
        }
        // -version and -help have been answered before.
        _ => {}
    }
    Ok(())
}

/// etcd servers, split at commas as flanneld does. Blanks and empty entries, which flanneld takes
/// for servers, are left out with a warning when the list is used.
fn endpoints(value: &str) -> Result<Vec<String>, String> {
    let endpoints: Vec<String> = value.split(',').map(str::to_owned).collect();
    let servers = endpoints.iter().map(|text| text.trim());
    let mut servers = servers.filter(|text| !text.is_empty()).peekable();
    if servers.peek().is_none() {
        return Err(NO_LIST.to_owned());
    }
    for endpoint in servers {
        let host = match endpoint.split_once("://") {
            None => endpoint,
            Some(("http" | "https" | "unix", host)) => host,
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is none of http://, https:// and unix://"
                ));
            }
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(NO_LIST.to_owned());
        }
        if host.contains('@') {
            let rule = "use -etcd-username and -etcd-password instead of user:password@host";
            return Err(rule.to_owned());
        }
    }
    Ok(endpoints)
}

/// An address of the wanted kind; an empty value is none.
fn address<T: FromStr>(value: &str, wanted: &str) -> Result<Option<T>, String> {
    match value {
        "" => Ok(None),
        _ => value
            .parse()
            .map(Some)
            .map_err(|_| format!("must be {wanted}")),
    }
}

/// An address or what may be a name; an empty value is all addresses.
fn host(value: &str) -> Result<String, String> {
    let in_names = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if value.is_empty() {
        Ok(Ipv4Addr::UNSPECIFIED.to_string())
    } else if value.parse::<IpAddr>().is_ok() || value.chars().all(in_names) {
        Ok(value.to_owned())
    } else {
        Err("must be an IP address or the name of a host".to_owned())
    }
}

/// A pattern that compiles.
fn regex(value: &str) -> Result<String, String> {
    match Regex::new(value) {
        Ok(_) => Ok(value.to_owned()),
        Err(error) => {
            // The crate draws a picture of several lines and ends with the reason.
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.trim_start_matches("error: ");
            Err(format!("must be a regular expression: {reason}"))
        }
    }
}

fn path(value: &str) -> Result<PathBuf, String> {
    optional_path(value).ok_or_else(|| "must not be empty".to_owned())
}

fn optional_path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| value.into())
}

/// This file is overwritten, and one letter more names the one that people write.
fn subnet_file(value: &str) -> Result<PathBuf, String> {
    let path = path(value)?;
    match fixed::has_format(&path) {
        true => Err("is where subnet.env is written; for a file with leases: -subnets-file".into()),
        false => Ok(path),
    }
}

/// A file whose name tells its format.
fn subnets_file(value: &str) -> Result<Option<PathBuf>, String> {
    let path = optional_path(value);
    match path.as_deref().is_none_or(fixed::has_format) {
        true => Ok(path),
        false => Err("must end in .toml or .json".to_owned()),
    }
}

fn at_least_one(value: &str) -> Result<u64, String> {
    within(value, 1, u32::MAX.into()).map_err(|_| "must be at least 1".to_owned())
}

fn within(value: &str, min: i64, max: i64) -> Result<u64, String> {
    parse_int(value)
        .filter(|number| (min..=max).contains(number))
        .and_then(|number| number.try_into().ok())
        .ok_or_else(|| format!("must be between {min} and {max}"))
}

/// A number of things, where zero leaves it to weft.
fn count(value: &str, max: i64) -> Result<Option<usize>, String> {
    let number = within(value, 0, max)? as usize;
    Ok((number != 0).then_some(number))
}
