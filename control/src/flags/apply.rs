//! From flags to settings, and the rules for each value.

use super::error::FlagError;
use super::etcd;
use super::flag::{By, Flag, Status};
use super::kube;
use super::table::TABLE;
use super::value::{parse_bool, parse_int, parse_switch};
use crate::agent::AgentOptions;
use crate::backend::{Admit, EngineKind, FastPathMode, Hook, TunnelGso};
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

/// The dataplane numbers a worker's sockets with one byte.
const TX_SOCKETS_MAX: i64 = 255;

/// Peers that lost frames are told apart up to this number.
const METRICS_PEERS_MAX: i64 = 256;

/// A week: a node that nobody looks after for longer is not one of a cluster any more.
const LIFETIME_MAX: i64 = 7 * 24 * 60;

/// All settings at the table's defaults.
pub(super) fn defaults() -> AgentOptions {
    let mut options = AgentOptions::default();
    for flag in TABLE.iter().filter(|flag| !flag.default.is_empty()) {
        // A default that breaks a rule would fail the first test of this module.
        let _ = set(&mut options, flag.name, flag.default);
    }
    options
}

/// Take in one setting.
pub(super) fn apply(
    options: &mut AgentOptions,
    flag: &Flag,
    value: &str,
    by: By,
) -> Result<(), FlagError> {
    match flag.status {
        Status::Works | Status::Secret => {
            set(options, flag.name, value).map_err(|rule| flag.refusal(value, by, &rule))
        }
        Status::NoEffect(_) => Ok(()),
    }
}

/// Set one value; the error is the rule it breaks.
fn set(options: &mut AgentOptions, name: &str, value: &str) -> Result<(), String> {
    let on = parse_bool(value).unwrap_or_default();
    let (interface, firewall) = (&mut options.interface, &mut options.firewall);
    let workers = &mut options.backend.workers;
    match name {
        name if name.starts_with(etcd::PREFIX) => etcd::set(&mut options.etcd, name, value)?,
        "iface" => interface.iface.push(value.to_owned()),
        "iface-regex" => interface.iface_regex.push(regex(value)?),
        "iface-can-reach" => interface.can_reach = address(value, "an IP address")?,
        "public-ip" => interface.public.v4 = address(value, "an IPv4 address")?.map(IpAddr::V4),
        "public-ipv6" => interface.public.v6 = address(value, "an IPv6 address")?.map(IpAddr::V6),
        "ip-masq" => firewall.ip_masq = on,
        "ip-masq-fully-random-disable" => firewall.random_fully = !on,
        "iptables-forward-rules" => firewall.forward_rules = on,
        "iptables-resync" => firewall.resync = Duration::from_secs(at_least_one(value)?),
        "ip-blackhole-route" => options.blackhole_route = on,
        "healthz-ip" => options.healthz.host = host(value)?,
        "healthz-port" => options.healthz.port = within(value, 0, u16::MAX.into())? as u16,
        "metrics-peers" => {
            options.metrics_peers = within(value, 0, METRICS_PEERS_MAX)? as usize;
        }
        "metrics-peer-traffic" => options.backend.peer_traffic = on,
        "kube-subnet-mgr" => options.kube_subnets = on,
        name if name.starts_with(kube::PREFIX) || kube::OTHERS.contains(&name) => {
            kube::set(&mut options.kube, name, value)?;
        }
        "drain" => options.drain = on,
        "subnets-file" => options.subnets_file = subnets_file(value)?,
        "linger" => options.linger = on,
        "socket-dir" => options.socket_dir = optional_path(value),
        "subnet-file" => options.subnet_file = subnet_file(value)?,
        "use-ended-lease" => options.use_ended_lease = on,
        "state-dir" => options.backend.state_dir = path(value)?,
        "subnet-lease-renew-margin" => {
            let minutes = within(value, 1, 1439)?;
            options.renew_margin = Duration::from_secs(minutes * 60);
        }
        "v" => options.verbosity = parse_int(value).unwrap_or_default().clamp(0, 255) as u8,
        "log-format" => options.log_format = value.parse()?,
        "cpus" => {
            let rule = "must be auto, none or a list of CPUs such as 0-3,8";
            workers.cpus = value.parse().map_err(|_| rule.to_owned())?;
        }
        "queues" => workers.queues = count(value, QUEUES_MAX)?,
        "tx-sockets" => workers.tx_sockets = count(value, TX_SOCKETS_MAX)?,
        "engine" => {
            workers.engine = match value {
                "auto" => EngineKind::Auto,
                "ring" => EngineKind::Ring,
                "poll" => EngineKind::Poll,
                _ => return Err("must be auto, ring or poll".to_owned()),
            }
        }
        "admit" => {
            options.backend.admit = match value {
                "strict" => Admit::Strict,
                "loose" => Admit::Loose,
                _ => return Err("must be strict or loose".to_owned()),
            }
        }
        "fast-path" => {
            options.backend.fast_path.mode = match value {
                "auto" => FastPathMode::Auto,
                "on" => FastPathMode::On,
                "off" => FastPathMode::Off,
                _ => return Err("must be auto, on or off".to_owned()),
            }
        }
        "fast-path-hook" => {
            options.backend.fast_path.hook = match value {
                "auto" => None,
                "tcx" => Some(Hook::Tcx),
                "clsact" => Some(Hook::Clsact),
                _ => return Err("must be auto, tcx or clsact".to_owned()),
            }
        }
        "fast-path-trains" => {
            options.backend.fast_path.trains = match value {
                "auto" => None,
                "on" => Some(true),
                "off" => Some(false),
                _ => return Err("must be auto, on or off".to_owned()),
            }
        }
        "fast-path-lifetime" => {
            let minutes = within(value, 1, LIFETIME_MAX)?;
            options.backend.fast_path.lifetime = Duration::from_secs(minutes * 60);
        }
        "bpffs" => options.backend.fast_path.bpffs = path(value)?,
        "remove" => options.remove = on,
        "remove-state" => options.remove_state = on,
        "outer-df" => workers.outer_df = on,
        "tso" => workers.tso = on,
        "uso" => workers.uso = on,
        "udp-gso" => workers.udp_gso = parse_switch(value).flatten(),
        "udp-gro" => workers.udp_gro = on,
        "spin-us" => workers.spin = Duration::from_micros(within(value, 0, SPIN_US_MAX)?),
        "tunnel-gso" => {
            workers.tunnel_gso = match value {
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
