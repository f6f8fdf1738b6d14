//! What to take, given all leases there are: decided without a look at etcd.

use super::store::Entry;
use crate::config::NetworkConfig;
use crate::lease::choose::{self, Subnet};
use crate::lease::{LeaseAttrs, Previous, SubnetKey};
use crate::subnets::SubnetError;
use rand::Rng;
use std::fmt::Display;
use tracing::{info, warn};

/// What a node asks for.
pub(super) struct Wanted<'a> {
    pub(super) config: &'a NetworkConfig,
    pub(super) attrs: &'a LeaseAttrs,
    pub(super) previous: &'a Previous,
    /// How many free subnets of each family to choose from.
    pub(super) candidates: usize,
}

/// What to do.
#[derive(Debug)]
pub(super) enum LeasePlan<'a> {
    /// Write this lease of the node anew.
    Reuse(&'a Entry),
    /// Write a new lease.
    Take {
        key: SubnetKey,
        /// Leases of this node that the new one takes the place of.
        instead_of: Vec<&'a Entry>,
    },
}

/// The own lease if there is one that still fits. Else for each family by itself the subnet
/// of a lease that does not, else the previous one, else one of the first free ones at random.
///
/// Of several own leases a reservation comes first, then the oldest.
pub(super) fn plan<'a>(
    wanted: &Wanted<'_>,
    entries: &'a [Entry],
    rng: &mut impl Rng,
) -> Result<LeasePlan<'a>, SubnetError> {
    let (mut own, others): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|entry| entry.is_of(wanted.attrs));
    own.sort_by_key(|entry| rank(entry));
    let usable = |entry: &&&Entry| {
        choose::compatible(wanted.config, &entry.key) && rival(entry, entries).is_none()
    };
    if let Some(entry) = own.iter().find(usable) {
        return Ok(LeasePlan::Reuse(entry));
    }
    let v4 = FamilyWish {
        former: own.iter().filter_map(|entry| entry.key.v4).collect(),
        previous: wanted.previous.subnet,
        taken: others.iter().filter_map(|entry| entry.key.v4).collect(),
    };
    let v6 = FamilyWish {
        former: own.iter().filter_map(|entry| entry.key.v6).collect(),
        previous: wanted.previous.ipv6_subnet,
        taken: others.iter().filter_map(|entry| entry.key.v6).collect(),
    };
    let key = SubnetKey {
        v4: v4.choose(wanted, rng)?,
        v6: v6.choose(wanted, rng)?,
    };
    // A reservation that says nothing about the new lease is the operator's to delete.
    let (instead_of, left): (Vec<&Entry>, Vec<&Entry>) = own
        .into_iter()
        .partition(|entry| !entry.is_reservation() || entry.key.overlaps(&key));
    for entry in left {
        warn!(
            code = "W0307",
            "the reservation {} of this node cannot be used ({}) and is left alone; {key} is taken",
            entry.key,
            unfit(wanted, entry, entries)
        );
    }
    for entry in &instead_of {
        let what = match entry.is_reservation() {
            true => "reservation",
            false => "lease",
        };
        let reason = unfit(wanted, entry, entries);
        warn!(
            code = "W0308",
            "the {what} {} of this node gives way to {key}: {reason}", entry.key
        );
    }
    Ok(LeasePlan::Take { key, instead_of })
}

/// Why an own lease is not used as it is.
fn unfit(wanted: &Wanted<'_>, entry: &Entry, entries: &[Entry]) -> String {
    match rival(entry, entries) {
        _ if !choose::compatible(wanted.config, &entry.key) => {
            "the network config does not allow it".into()
        }
        Some(other) => format!("{} of {} overlaps it", other.key, holder(other)),
        None => "another one is used".into(),
    }
}

/// An older lease of another node that shares addresses with this one. Two nodes that choose at
/// the same moment can meet in one family and not in the other, and then their keys differ: etcd
/// takes both. The one that came later has to choose anew.
pub(super) fn rival<'a>(entry: &Entry, entries: &'a [Entry]) -> Option<&'a Entry> {
    entries.iter().find(|other| {
        other.key != entry.key
            && other.key.overlaps(&entry.key)
            && other.create_revision < entry.create_revision
            && !entry.attrs.as_ref().is_ok_and(|attrs| other.is_of(attrs))
    })
}

/// That another node has a MAC of `attrs`, by a lease written before `revision`. Both run from
/// copies of one disk. Of two that write at the same moment each looks again after it has
/// written, and so exactly one of them finds the other: the later one.
pub(super) fn mac_taken(
    attrs: &LeaseAttrs,
    entries: &[Entry],
    revision: i64,
) -> Option<SubnetError> {
    let mut earlier = entries.iter().filter(|e| e.mod_revision < revision);
    earlier.find_map(|entry| {
        let other = entry.attrs.as_ref().ok()?;
        Some(SubnetError::MacTaken {
            mac: attrs.shared_mac(other)?,
            by: other.identity(),
            key: entry.key,
        })
    })
}

/// What the node with the addresses of `attrs` was known by, by the lease that it would use.
pub(super) fn known<'a>(attrs: &LeaseAttrs, entries: &'a [Entry]) -> Option<&'a LeaseAttrs> {
    let own = entries.iter().filter(|entry| entry.is_of(attrs));
    let known = own.filter(|entry| {
        let stored = entry.attrs.as_ref();
        stored.is_ok_and(|stored| stored.macs().iter().any(Option::is_some))
    });
    known.min_by_key(|entry| rank(entry))?.attrs.as_ref().ok()
}

/// Which of its own leases a node uses first.
fn rank(entry: &Entry) -> (bool, i64) {
    (!entry.is_reservation(), entry.create_revision)
}

/// Who holds a lease, for people.
fn holder(entry: &Entry) -> String {
    match &entry.attrs {
        Ok(attrs) => attrs.identity().to_string(),
        Err(_) => "an unknown node".into(),
    }
}

/// What there is to choose from in one family.
struct FamilyWish<S> {
    /// Of this node's leases that do not fit.
    former: Vec<S>,
    /// Of an earlier start.
    previous: Option<S>,
    /// Of the other nodes.
    taken: Vec<S>,
}

impl<S: Subnet + Display> FamilyWish<S> {
    /// `None` if the network does not have this family.
    fn choose(&self, wanted: &Wanted<'_>, rng: &mut impl Rng) -> Result<Option<S>, SubnetError> {
        let config = wanted.config;
        let Some(range) = S::range(config) else {
            return Ok(None);
        };
        let wishes = self.former.iter().chain(&self.previous);
        let mut wishes = wishes.filter(|wish| choose::fits(config, *wish));
        if let Some(wish) = wishes.find(|wish| choose::is_free(*wish, &self.taken)) {
            return Ok(Some(*wish));
        }
        if let Some(previous) = self.previous.filter(|wish| choose::fits(config, wish)) {
            info!("the previous subnet {previous} is another node's by now: choosing a new one");
        }
        let free = choose::candidates(config, &self.taken, wanted.candidates);
        match choose::pick(&free, rng) {
            Some(subnet) => Ok(Some(subnet)),
            None => Err(SubnetError::OutOfSubnets {
                min: range.min,
                max: range.max,
                len: range.subnet_len,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
