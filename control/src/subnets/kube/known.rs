//! The other nodes as the receiver of events knows them, and what a list or a change makes of that.

use super::node::{BadNode, NodeState, Standing};
use super::pod_cidrs;
use crate::family::PerFamily;
use crate::lease::{Lease, SubnetKey};
use crate::subnets::LeaseEvent;
use crate::text::shown;
use std::collections::BTreeMap;
use tracing::{debug, info, warn};

/// How many nodes a line names.
const NAMED: usize = 3;

/// A Node as it was told.
pub(super) type Told = Result<NodeState, BadNode>;

/// The nodes with a lease, by name, without the own one.
pub(super) struct KnownNodes {
    own: Lease,
    families: PerFamily<bool>,
    /// `None` before the first list.
    nodes: Option<BTreeMap<String, Lease>>,
    /// A list that has begun.
    listing: Option<NodeListing>,
    /// What was last said of nodes of which something is wrong, so that it is said once.
    complaints: BTreeMap<String, String>,
}

/// What a list has told so far.
#[derive(Default)]
struct NodeListing {
    nodes: BTreeMap<String, Lease>,
    /// All names there are.
    foreign: Vec<String>,
    listed: usize,
}

impl KnownNodes {
    /// For the node with this lease, in a network with these families.
    pub(super) fn new(own: &Lease, families: PerFamily<bool>) -> KnownNodes {
        KnownNodes {
            own: own.clone(),
            families,
            nodes: None,
            listing: None,
            complaints: BTreeMap::new(),
        }
    }

    /// A list begins, whatever became of the one before.
    pub(super) fn begin_list(&mut self) {
        self.listing = Some(NodeListing::default());
    }

    /// The list names another node.
    pub(super) fn list(&mut self, told: Told) {
        let name = name_of(&told).to_owned();
        let lease = self.resolve(&name, told);
        let Some(listing) = &mut self.listing else {
            return;
        };
        listing.listed += 1;
        match lease {
            Resolved::Peer(lease) => {
                listing.nodes.insert(name, lease);
            }
            Resolved::Foreign => listing.foreign.push(name),
            Resolved::None => {}
        }
    }

    /// A node that the list has named is gone before the list is over.
    pub(super) fn unlist(&mut self, name: &str) {
        if let Some(listing) = &mut self.listing {
            listing.nodes.remove(name);
        }
    }

    /// The list is over; `None` if it says the same as before. Whoever is not on it is gone.
    pub(super) fn end_list(&mut self) -> Option<LeaseEvent> {
        let listing = self.listing.take().unwrap_or_default();
        self.complaints
            .retain(|name, _| listing.nodes.contains_key(name) || name.is_empty());
        say_foreign(&listing);
        let before = self.nodes.replace(listing.nodes);
        let nodes = self.nodes.as_ref()?;
        if before.is_some_and(|before| are_same(&before, nodes)) {
            return None;
        }
        let mut leases: BTreeMap<SubnetKey, (&String, &Lease)> = BTreeMap::new();
        for (name, lease) in nodes {
            let other = leases.get(&lease.key()).copied();
            if let Some((other, _)) = other {
                say_shared(&lease.key(), name, other);
            }
            if other.is_none_or(|(_, other)| other.revision <= lease.revision) {
                leases.insert(lease.key(), (name, lease));
            }
        }
        let leases = leases.into_values().map(|(_, lease)| lease.clone());
        Some(LeaseEvent::Snapshot(leases.collect()))
    }

    /// A node is new or was written again; what that changes.
    pub(super) fn put(&mut self, told: Told) -> Vec<LeaseEvent> {
        let name = name_of(&told).to_owned();
        match self.resolve(&name, told) {
            Resolved::Peer(lease) => self.insert(name, lease),
            Resolved::Foreign => {
                debug!("node {} is none of flannel's", shown(&name));
                self.remove(&name)
            }
            Resolved::None => self.remove(&name),
        }
    }

    fn insert(&mut self, name: String, lease: Lease) -> Vec<LeaseEvent> {
        let key = lease.key();
        let nodes = self.nodes.get_or_insert_default();
        let before = nodes.insert(name.clone(), lease.clone());
        if before
            .as_ref()
            .is_some_and(|before| is_same(before, &lease))
        {
            return Vec::new();
        }
        let mut events = Vec::new();
        if let Some(before) = before.filter(|before| before.key() != key) {
            events.push(self.vacated(before.key()));
        }
        let nodes = self.nodes.iter().flatten();
        let mut others = nodes.filter(|(other, held)| **other != name && held.key() == key);
        if let Some((other, _)) = others.next() {
            say_shared(&key, &name, other);
        }
        events.push(LeaseEvent::Put(lease));
        events
    }

    /// A node is gone, or no peer any more; what that changes.
    pub(super) fn remove(&mut self, name: &str) -> Vec<LeaseEvent> {
        let nodes = self.nodes.as_mut();
        match nodes.and_then(|nodes| nodes.remove(name)) {
            Some(lease) => vec![self.vacated(lease.key())],
            None => Vec::new(),
        }
    }

    /// As [`KnownNodes::remove`], and nothing is remembered of it.
    pub(super) fn delete(&mut self, name: &str) -> Vec<LeaseEvent> {
        self.complaints.remove(name);
        self.remove(name)
    }

    /// A node has given up subnets: another one may have been given them already.
    fn vacated(&self, key: SubnetKey) -> LeaseEvent {
        let nodes = self.nodes.iter().flatten();
        let holders = nodes.filter(|(_, lease)| lease.key() == key);
        match holders.max_by_key(|(_, lease)| lease.revision) {
            Some((_, lease)) => LeaseEvent::Put(lease.clone()),
            None => LeaseEvent::Delete(key),
        }
    }

    /// What a node is from here on. One that has become unreadable stays what it was, unless it has
    /// other subnets by now.
    fn resolve(&mut self, name: &str, told: Told) -> Resolved {
        let before = self.nodes.as_ref().and_then(|nodes| nodes.get(name));
        let (reason, keeps) = match told {
            Err(bad) => (bad.reason, true),
            Ok(node) => match node.standing(self.families) {
                Standing::Foreign => {
                    self.complaints.remove(name);
                    return Resolved::Foreign;
                }
                Standing::NoSubnet => {
                    self.complaints.remove(name);
                    return Resolved::None;
                }
                Standing::Peer(lease) if lease.attrs.same_node(&self.own.attrs) => {
                    let addr = lease.attrs.identity();
                    (format!("it advertises {addr}, as this node does"), false)
                }
                Standing::Peer(lease) => {
                    self.complaints.remove(name);
                    if node.is_windows && before.is_none() {
                        info!(
                            code = "W1011",
                            "node {} runs Windows, where flannel takes no VNI but 4096 and no Port but 4789",
                            shown(name)
                        );
                    }
                    return Resolved::Peer(*lease);
                }
                Standing::Bad(reason, cidrs) => {
                    let same = |cidrs| before.is_some_and(|b| b.key() == pod_cidrs::key(&cidrs));
                    (reason, cidrs.is_none_or(same))
                }
            },
        };
        let kept = before.filter(|_| keeps).cloned();
        let consequence = match kept {
            Some(_) => "keeping what was known of it",
            None => "skipped",
        };
        let line = format!("{reason}; {consequence}");
        if self.complaints.get(name) != Some(&line) {
            let named = match name {
                "" => "a node whose name cannot be read".to_owned(),
                name => format!("node {}", shown(name)),
            };
            warn!(code = "W1008", "{named}: {line}");
            self.complaints.insert(name.to_owned(), line);
        }
        kept.map_or(Resolved::None, Resolved::Peer)
    }
}

/// What a node is from here on.
enum Resolved {
    Peer(Lease),
    Foreign,
    None,
}

fn name_of(told: &Told) -> &str {
    match told {
        Ok(node) => &node.name,
        Err(bad) => &bad.name,
    }
}

/// Whether packets go the same way by both. A heartbeat of a node gives it another revision.
fn is_same(one: &Lease, other: &Lease) -> bool {
    one.key() == other.key() && one.attrs == other.attrs
}

fn are_same(one: &BTreeMap<String, Lease>, other: &BTreeMap<String, Lease>) -> bool {
    let mut pairs = one.iter().zip(other);
    one.len() == other.len()
        && pairs.all(|((name, a), (other_name, b))| name == other_name && is_same(a, b))
}

/// Nodes that no flannel runs on are one line for all: at the start of a cluster each one is.
fn say_foreign(listing: &NodeListing) {
    let foreign = &listing.foreign;
    if foreign.is_empty() {
        return;
    }
    let names: Vec<String> = foreign.iter().take(NAMED).map(|name| shown(name)).collect();
    let more = match foreign.len() - names.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    info!(
        "of {} nodes, {} have no annotations of flannel: {}{more}; no packets go there until they do",
        listing.listed,
        foreign.len(),
        names.join(", ")
    );
}

fn say_shared(key: &SubnetKey, name: &str, other: &str) {
    let (name, other) = (shown(name), shown(other));
    warn!(
        code = "W1009",
        "nodes {name} and {other} have the same podCIDR {key}: its packets go to the one that was written last"
    );
}

#[cfg(test)]
mod tests;
