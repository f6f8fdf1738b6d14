//! Leases as text.

use serde_json::{Value, json};
use weft_control::subnets::etcd::admin::{LeaseChange, Life, Record};
use weft_control::text::{escaped, line, shown, span};

/// What stands for nothing.
const NONE: &str = "-";

/// A table of all leases, and below it what is wrong with them.
pub(crate) fn list(records: &[Record]) -> String {
    let dual = records.iter().any(|record| {
        let v6 = record.subnets.and_then(|subnets| subnets.v6);
        v6.is_some()
            || record
                .attrs
                .as_ref()
                .is_ok_and(|attrs| attrs.public_ipv6.is_some())
    });
    let mut rows = vec![heading(dual)];
    rows.extend(records.iter().map(|record| row(record, dual)));
    let mut text = aligned(&rows);
    for record in records {
        for conflict in &record.conflicts {
            text += &format!("CONFLICT {}: {}\n", shown(&record.key), line(conflict));
        }
    }
    let reserved = records
        .iter()
        .filter(|record| record.life == Life::Reserved);
    let conflicts = records.iter().filter(|record| !record.conflicts.is_empty());
    text += &format!(
        "{} leases, {} of them reserved, {} with conflicts\n",
        records.len(),
        reserved.count(),
        conflicts.count()
    );
    text
}

fn heading(dual: bool) -> Vec<String> {
    let names = match dual {
        false => &[
            "SUBNET",
            "PUBLIC IP",
            "BACKEND",
            "MAC",
            "RENEWED",
            "ENDS",
            "STATE",
        ][..],
        true => &[
            "SUBNET",
            "IPV6 SUBNET",
            "PUBLIC IP",
            "PUBLIC IPV6",
            "BACKEND",
            "MAC",
            "RENEWED",
            "ENDS",
            "STATE",
        ],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

fn row(record: &Record, dual: bool) -> Vec<String> {
    let attrs = record.attrs.as_ref().ok();
    let subnet = match record.subnets {
        None => shown(&record.key),
        Some(subnets) => or_none(subnets.v4),
    };
    let public_ip = attrs.map(|attrs| attrs.public_ip);
    let mut cells = vec![subnet];
    if dual {
        cells.push(or_none(record.subnets.and_then(|subnets| subnets.v6)));
    }
    cells.push(or_none(public_ip.filter(|ip| !ip.is_unspecified())));
    if dual {
        cells.push(or_none(attrs.and_then(|attrs| attrs.public_ipv6)));
    }
    let [mac, mac_v6] = record.macs();
    cells.push(shown(record.backend().unwrap_or(NONE)));
    cells.push(or_none(mac.or(mac_v6)));
    cells.push(
        record
            .life
            .renewed()
            .map_or(NONE.to_owned(), |ago| format!("{} ago", span(ago))),
    );
    cells.push(ends(&record.life));
    cells.push(state(record).to_owned());
    cells
}

fn state(record: &Record) -> &'static str {
    match (record.conflicts.is_empty(), record.life) {
        (false, Life::Reserved) => "reserved, CONFLICT",
        (false, _) => "CONFLICT",
        (true, Life::Reserved) => "reserved",
        (true, _) => "leased",
    }
}

fn ends(life: &Life) -> String {
    match life {
        Life::Reserved => "never".to_owned(),
        Life::Unasked => NONE.to_owned(),
        Life::Leased { left, .. } if left.is_zero() => "now".to_owned(),
        Life::Leased { left, .. } => format!("in {}", span(*left)),
    }
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or(NONE.to_owned(), |value| value.to_string())
}

/// Columns two spaces apart.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths);
        let line: String = cells
            .map(|(cell, &width)| format!("{cell:<width$}  "))
            .collect();
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// Everything about one lease, a line each.
pub(crate) fn details(record: &Record) -> String {
    let attrs = record.attrs.as_ref().ok();
    let (v4, v6) = record
        .subnets
        .map_or((None, None), |subnets| (subnets.v4, subnets.v6));
    let public_ip = attrs
        .map(|attrs| attrs.public_ip)
        .filter(|ip| !ip.is_unspecified());
    let [mac, mac_v6] = record.macs();
    let renewed = record
        .life
        .renewed()
        .map(|ago| format!("{} ago", span(ago)));
    let granted = match record.life {
        Life::Leased { granted, .. } => Some(span(granted)),
        Life::Reserved | Life::Unasked => None,
    };
    let lease = (record.etcd_lease != 0).then(|| format!("{:x}", record.etcd_lease));
    let mut rows = vec![
        ("key", escaped(&record.key)),
        ("subnet", or_none(v4)),
        ("IPv6 subnet", or_none(v6)),
        ("public IP", or_none(public_ip)),
        (
            "public IPv6",
            or_none(attrs.and_then(|attrs| attrs.public_ipv6)),
        ),
        ("backend", shown(record.backend().unwrap_or(NONE))),
        ("MAC", or_none(mac)),
        ("MAC for IPv6", or_none(mac_v6)),
        ("state", state(record).to_owned()),
        ("granted for", or_none(granted)),
        ("renewed", or_none(renewed)),
        ("ends", ends(&record.life)),
        ("etcd lease", or_none(lease)),
        ("revision", record.revision.to_string()),
        ("value", escaped(&record.value)),
    ];
    let conflicts = record.conflicts.iter();
    rows.extend(conflicts.map(|conflict| ("conflict", line(conflict))));
    let row = |(name, value): (&str, String)| format!("{name:<14}{value}\n");
    rows.into_iter().map(row).collect()
}

/// The word for what happened.
fn word(change: &LeaseChange) -> (&'static str, Option<&Record>) {
    match change {
        LeaseChange::New(record) => ("new", Some(record)),
        LeaseChange::Renewed(record) => ("renewed", Some(record)),
        LeaseChange::Changed(record) => ("changed", Some(record)),
        LeaseChange::Deleted(record) => ("deleted", Some(record)),
        LeaseChange::Interrupted(_) => ("interrupted", None),
        LeaseChange::Resumed => ("resumed", None),
    }
}

/// One thing that happened, in a line.
pub(crate) fn change(change: &LeaseChange) -> String {
    let (word, record) = word(change);
    let Some(record) = record else {
        let LeaseChange::Interrupted(reason) = change else {
            return word.to_owned();
        };
        return format!("{word}: {}; retrying", line(reason));
    };
    let what = match &record.attrs {
        Err(reason) => format!("unreadable: {}", line(reason)),
        Ok(attrs) => {
            let [mac, mac_v6] = record.macs();
            let mut parts = vec![attrs.identity().to_string()];
            parts.extend(record.backend().map(shown));
            parts.extend(mac.or(mac_v6).map(|mac| mac.to_string()));
            parts.join(" ")
        }
    };
    let reserved = match record.life {
        Life::Reserved => " reserved",
        _ => "",
    };
    format!("{word:<8} {} {what}{reserved}", shown(&record.key))
}

/// One thing that happened, for programs.
pub(crate) fn change_json(time: &str, change: &LeaseChange) -> Value {
    let (word, record) = word(change);
    let reason = match change {
        LeaseChange::Interrupted(reason) => Some(reason),
        _ => None,
    };
    json!({
        "time": time,
        "event": word,
        "lease": record.map(Record::to_json),
        "reason": reason,
    })
}

#[cfg(test)]
mod tests;
