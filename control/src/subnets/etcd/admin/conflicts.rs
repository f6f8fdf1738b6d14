//! Leases that cannot be right, or not all of them.

use super::record::{Life, Record};
use crate::config::NetworkConfig;
use crate::family::Family;
use crate::lease::{choose, enclosed};
use crate::text::shown;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Put down at each record what is wrong with it, alone or together with others.
pub(super) fn mark(records: &mut [Record], config: Option<&NetworkConfig>) {
    for record in records.iter_mut() {
        record.conflicts = alone(record, config);
    }
    for (a, b, line) in shared(records, addresses, "public address") {
        both(records, a, b, &line);
    }
    let macs = |record: &Record| record.macs().into_iter().flatten().collect();
    for (a, b, line) in shared(records, macs, "MAC address") {
        both(records, a, b, &line);
    }
    for (a, b) in overlaps(records) {
        both(records, a, b, "overlaps with");
    }
    for record in records {
        // Both families of two leases may overlap.
        let mut seen = BTreeSet::new();
        record.conflicts.retain(|line| seen.insert(line.clone()));
    }
}

/// What is wrong with a record whatever the others are.
fn alone(record: &Record, config: Option<&NetworkConfig>) -> Vec<String> {
    let mut lines = Vec::new();
    if record.subnets.is_none() {
        lines.push("the key names no subnet: nodes ignore it".to_owned());
    }
    if let Err(reason) = &record.attrs {
        lines.push(format!("the value cannot be read: {reason}"));
    }
    if record.backend() == Some("vxlan")
        && let Ok(attrs) = &record.attrs
    {
        let data = match (&attrs.backend_data, &attrs.backend_v6_data) {
            (None, Some(_)) => attrs.vxlan_data(Family::V6),
            _ => attrs.vxlan_data(Family::V4),
        };
        if let Err(reason) = data {
            lines.push(format!("the vxlan data cannot be read: {reason}"));
        }
    }
    let Some(config) = config else {
        return lines;
    };
    if let Some(subnets) = &record.subnets
        && !choose::compatible(config, subnets)
    {
        lines.push("the network config does not allow this subnet".to_owned());
    }
    lines.extend(unlike_backend(record, config));
    lines
}

/// A reservation that its node has not used yet names no backend.
fn unlike_backend(record: &Record, config: &NetworkConfig) -> Option<String> {
    record.attrs.as_ref().ok()?;
    let wanted = shown(&config.backend.kind);
    let untyped = matches!(wanted.as_str(), "udp" | "alloc");
    match record.backend() {
        None if untyped || record.life == Life::Reserved => None,
        None => Some(format!(
            "the value names no backend, the network config {wanted}"
        )),
        Some(kind) if kind == config.backend.kind => None,
        Some(kind) => Some(format!(
            "its backend is {}, that of the network config {wanted}",
            shown(kind)
        )),
    }
}

fn addresses(record: &Record) -> Vec<IpAddr> {
    let Ok(attrs) = &record.attrs else {
        return Vec::new();
    };
    let v4 = Some(attrs.public_ip).filter(|v4| !v4.is_unspecified());
    let v6 = attrs.public_ipv6.map(IpAddr::V6);
    v4.map(IpAddr::V4).into_iter().chain(v6).collect()
}

/// Pairs of records that have a property in common which only one should have: each with the
/// first that has it.
fn shared<T: Ord + ToString>(
    records: &[Record],
    properties: impl Fn(&Record) -> Vec<T>,
    what: &str,
) -> Vec<(usize, usize, String)> {
    let mut first: BTreeMap<T, usize> = BTreeMap::new();
    let mut pairs = Vec::new();
    for (i, record) in records.iter().enumerate() {
        for property in properties(record) {
            let text = property.to_string();
            let owner = *first.entry(property).or_insert(i);
            if owner != i {
                pairs.push((owner, i, format!("{what} {text} is also that of")));
            }
        }
    }
    pairs
}

/// Pairs of records whose subnets overlap: each with the one that encloses it.
fn overlaps(records: &[Record]) -> Vec<(usize, usize)> {
    let nets = records.iter().enumerate().flat_map(|(i, record)| {
        let v4 = record.subnets.and_then(|subnets| subnets.v4);
        let v6 = record.subnets.and_then(|subnets| subnets.v6);
        let nets = [v4.map(IpNet::V4), v6.map(IpNet::V6)];
        nets.into_iter().flatten().map(move |net| (net, i))
    });
    enclosed(nets.collect())
}

/// Say `line` of both records, each with the other's key.
fn both(records: &mut [Record], a: usize, b: usize, line: &str) {
    for (this, other) in [(a, b), (b, a)] {
        let line = format!("{line} {}", shown(&records[other].key));
        records[this].conflicts.push(line);
    }
}

#[cfg(test)]
mod tests;
