//! Subnets that stay a node's for ever.

use super::error::AdminError;
use super::leases::Leases;
use super::record::{Life, Record};
use crate::config::{NetworkConfig, NetworkRange};
use crate::lease::{LeaseAttrs, SubnetKey, choose};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is to be reserved for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The subnets.
    pub subnets: SubnetKey,
    /// The node's public IPv4 address.
    pub public_ip: Option<Ipv4Addr>,
    /// The node's public IPv6 address.
    pub public_ipv6: Option<Ipv6Addr>,
}

/// What a reservation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// There was no such lease before.
    New,
    /// The node's lease no longer ends; all else about it stays.
    Kept,
    /// It had been reserved for this node before.
    Already,
}

/// Write the key without an etcd lease, if nothing speaks against it.
pub(super) async fn reserve(leases: &Leases, wanted: &Reservation) -> Result<Reserved, AdminError> {
    let attrs = LeaseAttrs::alloc(wanted.public_ip, wanted.public_ipv6);
    let config = leases.config().await?.map_err(AdminError::Refused)?;
    allowed(&config, wanted).map_err(AdminError::Refused)?;
    let records = leases.read().await?;
    let present = against(&records, wanted, &attrs).map_err(AdminError::Refused)?;
    let key = wanted.subnets.to_string();
    let (present, value, outcome) = match present {
        Some(record) if record.etcd_lease == 0 => return Ok(Reserved::Already),
        Some(record) => (record.clone(), record.value.clone(), Reserved::Kept),
        None => (absent(&key), attrs.to_json(), Reserved::New),
    };
    if !leases.reserve(&present, &value).await? {
        return Err(AdminError::Refused(format!(
            "{key} was changed by somebody else at the same moment: look again with weft leases show {key}"
        )));
    }
    confirm(leases, wanted, &attrs, outcome).await
}

/// Look again after the write, which etcd held only against the key itself: a lease that
/// overlaps may have been written meanwhile. What is new is taken back then.
async fn confirm(
    leases: &Leases,
    wanted: &Reservation,
    attrs: &LeaseAttrs,
    outcome: Reserved,
) -> Result<Reserved, AdminError> {
    let records = leases.read().await?;
    let Err(reason) = against(&records, wanted, attrs) else {
        return Ok(outcome);
    };
    let key = wanted.subnets.to_string();
    let ours = records.iter().find(|record| {
        record.key == key && record.etcd_lease == 0 && record.attrs.as_ref() == Ok(attrs)
    });
    let taken_back = match ours.filter(|_| outcome == Reserved::New) {
        Some(ours) => leases.release(ours).await?,
        None => false,
    };
    let now = match taken_back {
        true => "the reservation was taken back",
        false => "look at both with weft leases list",
    };
    Err(AdminError::Refused(format!(
        "at the same moment somebody else wrote a lease: {reason}; {now}"
    )))
}

/// Whether the network config has such subnets; the rule if not.
fn allowed(config: &NetworkConfig, wanted: &Reservation) -> Result<(), String> {
    let SubnetKey { v4, v6 } = wanted.subnets;
    let families = [
        (
            "IPv4",
            "an IPv4 SUBNET and --public-ip",
            v4.is_some(),
            config.ranges.v4.is_some(),
        ),
        (
            "IPv6",
            "--ipv6-subnet and --public-ipv6",
            v6.is_some(),
            config.ranges.v6.is_some(),
        ),
    ];
    for (family, flag, given, enabled) in families {
        match (given, enabled) {
            (true, false) => return Err(format!("the network has no {family}")),
            (false, true) => return Err(format!("the network has {family}: give {flag}, too")),
            _ => {}
        }
    }
    if choose::compatible(config, &wanted.subnets) {
        return Ok(());
    }
    let ranges = config.ranges.present().map(|range| {
        let NetworkRange {
            subnet_len,
            min,
            max,
            ..
        } = range;
        format!("subnets of length {subnet_len} from {min} to {max}")
    });
    let rule: Vec<String> = ranges.collect();
    Err(format!("the network config allows {}", rule.join(" with ")))
}

/// The lease that is there already, if it is this node's; the reason if another is in the way.
fn against<'a>(
    records: &'a [Record],
    wanted: &Reservation,
    attrs: &LeaseAttrs,
) -> Result<Option<&'a Record>, String> {
    let mut present = None;
    for record in records {
        let Some(subnets) = record.subnets else {
            continue;
        };
        let node = record.attrs.as_ref().map(LeaseAttrs::identity);
        let same_node = record
            .attrs
            .as_ref()
            .is_ok_and(|other| other.same_node(attrs));
        let key = &record.key;
        match (subnets == wanted.subnets, same_node) {
            (true, true) => present = Some(record),
            (true, false) => {
                return Err(format!(
                    "{key} belongs to {}: release it first",
                    owner(node)
                ));
            }
            (false, true) => {
                return Err(format!(
                    "node {} already has {key}: reserve that, or release it first",
                    attrs.identity()
                ));
            }
            (false, false) if subnets.overlaps(&wanted.subnets) => {
                return Err(format!(
                    "{} overlaps with {key} of {}",
                    wanted.subnets,
                    owner(node)
                ));
            }
            (false, false) => {}
        }
    }
    Ok(present)
}

fn owner(node: Result<IpAddr, &String>) -> String {
    node.map_or("nobody known".to_owned(), |node| node.to_string())
}

/// A key that is not there.
fn absent(key: &str) -> Record {
    Record {
        key: key.to_owned(),
        subnets: None,
        value: String::new(),
        attrs: Err("there is none".to_owned()),
        life: Life::Reserved,
        etcd_lease: 0,
        revision: 0,
        conflicts: Vec::new(),
    }
}

#[cfg(test)]
mod tests;
