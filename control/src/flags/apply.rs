//! From flags to settings, and the rules for each value.

use super::syntax::{parse_bool, parse_int};
use super::table::{Flag, Status, TABLE};
use super::{Admit, AgentOptions, Engine, FlagError, TunnelGso};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// A TUN device has at most 256 queues (Linux drivers/net/tun.c, MAX_TAP_QUEUES).
const QUEUES_MAX: i64 = 256;

/// Longer than this, a sleep costs less than the wait for it.
const SPIN_US_MAX: i64 = 1000;

/// The dataplane numbers a worker's sockets with one byte.
const TX_SOCKETS_MAX: i64 = 255;

/// All settings at the table's defaults.
pub(super) fn defaults() -> AgentOptions {
    let mut options = AgentOptions {
        etcd_endpoints: Vec::new(),
        etcd_prefix: String::new(),
        iface: Vec::new(),
        public_ip: None,
        subnet_file: PathBuf::new(),
        renew_margin: Duration::ZERO,
        verbosity: 0,
        state_dir: PathBuf::new(),
        queues: None,
        engine: Engine::default(),
        admit: Admit::default(),
        tx_sockets: None,
        outer_df: false,
        tso: true,
        uso: true,
        udp_gso: true,
        udp_gro: true,
        spin: Duration::ZERO,
        tunnel_gso: TunnelGso::default(),
    };
    for flag in TABLE.iter().filter(|flag| !flag.default.is_empty()) {
        if flag.status == Status::Works {
            // A default that breaks a rule would fail the first test of this module.
            let _ = set(&mut options, flag.name, flag.default);
        }
    }
    options
}

/// Take in one flag.
pub(super) fn apply(options: &mut AgentOptions, flag: &Flag, value: &str) -> Result<(), FlagError> {
    let name = flag.name;
    match flag.status {
        Status::Works => set(options, name, value)
            .map_err(|rule| FlagError(format!("invalid value {value:?} for flag -{name}: {rule}"))),
        Status::Later { inert } if same(value, inert) => Ok(()),
        Status::Later { inert: "" } => Err(FlagError(format!(
            "flag -{name} is not there yet: leave it out"
        ))),
        Status::Later { inert } => Err(FlagError(format!(
            "flag -{name}={value} is not there yet: only -{name}={inert} is"
        ))),
        Status::LaterSecret if value.is_empty() => Ok(()),
        Status::LaterSecret => Err(FlagError(format!(
            "flag -{name} is not there yet: leave it out"
        ))),
    }
}

/// Whether two values of one flag mean the same.
fn same(a: &str, b: &str) -> bool {
    let truth = parse_bool(a).is_some() && parse_bool(a) == parse_bool(b);
    let number = parse_int(a).is_some() && parse_int(a) == parse_int(b);
    a == b || truth || number
}

/// Set one value; the error is the rule it breaks.
fn set(options: &mut AgentOptions, name: &str, value: &str) -> Result<(), String> {
    let on = parse_bool(value).unwrap_or_default();
    match name {
        "etcd-endpoints" => options.etcd_endpoints = endpoints(value)?,
        "etcd-prefix" => options.etcd_prefix = value.to_owned(),
        "iface" => options.iface.push(value.to_owned()),
        "public-ip" if value.is_empty() => options.public_ip = None,
        "public-ip" => options.public_ip = Some(address(value)?),
        "subnet-file" => options.subnet_file = path(value)?,
        "state-dir" => options.state_dir = path(value)?,
        "subnet-lease-renew-margin" => {
            let minutes = within(value, 1, 1439)?;
            options.renew_margin = Duration::from_secs(minutes * 60);
        }
        "v" => options.verbosity = within(value, 0, 255)? as u8,
        "queues" => options.queues = count(value, QUEUES_MAX)?,
        "tx-sockets" => options.tx_sockets = count(value, TX_SOCKETS_MAX)?,
        "engine" => {
            options.engine = match value {
                "auto" => Engine::Auto,
                "ring" => Engine::Ring,
                "poll" => Engine::Poll,
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
        "outer-df" => options.outer_df = on,
        "tso" => options.tso = on,
        "uso" => options.uso = on,
        "udp-gso" => options.udp_gso = on,
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

/// etcd servers, split at commas without trimming, as flanneld does.
fn endpoints(value: &str) -> Result<Vec<String>, String> {
    let endpoints: Vec<String> = value.split(',').map(str::to_owned).collect();
    for endpoint in &endpoints {
        let host = match endpoint.split_once("://") {
            None => endpoint,
            Some(("http", host)) => host,
            Some((scheme, _)) => return Err(format!("{scheme}:// is not there yet: use http://")),
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err("must be a comma-separated list such as http://10.0.0.1:2379".to_owned());
        }
    }
    Ok(endpoints)
}

fn address(value: &str) -> Result<Ipv4Addr, String> {
    value
        .parse()
        .map_err(|_| "must be an IPv4 address".to_owned())
}

fn path(value: &str) -> Result<PathBuf, String> {
    match value {
        "" => Err("must not be empty".to_owned()),
        path => Ok(path.into()),
    }
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
