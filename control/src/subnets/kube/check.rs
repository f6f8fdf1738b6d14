//! Ways for the fuzz targets to what reads the API.

use super::annotations;
use super::event::NodeEvent;
use super::known::KnownNodes;
use super::node::{NodeState, Standing};
use super::prefix::AnnotationPrefix;
use super::split::ListSplitter;
use crate::family::PerFamily;
use crate::lease::{Lease, LeaseAttrs};
use crate::subnets::LeaseEvent;
use std::collections::BTreeSet;

/// What is wrong with the JSON of a Node, if anything is.
pub fn node(json: &[u8]) -> Result<(), String> {
    let prefix = AnnotationPrefix::default();
    let node = NodeState::read(json, &prefix).map_err(|bad| bad.reason)?;
    let families = PerFamily { v4: true, v6: true };
    match node.standing(families) {
        Standing::Bad(reason, _) => Err(reason),
        Standing::Peer(lease) => {
            let (wanted, _) = node.annotations.wanted(&lease.attrs);
            let missing = node.annotations.missing(wanted);
            let values = missing
                .iter()
                .map(|(key, value)| (*key, Some(value.as_str())));
            let patch = annotations::patch(&prefix, values);
            assert!(serde_json::from_slice::<serde_json::Value>(&patch).is_ok());
            Ok(())
        }
        Standing::Foreign | Standing::NoSubnet => Ok(()),
    }
}

/// What the lines of a watch, which begins with a list, make of the other nodes: the number of
/// events and of peers at the end.
pub fn watch(lines: &[u8]) -> (usize, usize) {
    let prefix = AnnotationPrefix::default();
    let own = Lease {
        subnet: "10.244.255.0/24".parse().ok(),
        subnet_v6: None,
        attrs: LeaseAttrs::alloc(Some([192, 0, 2, 255].into()), None),
        expires: None,
        revision: 0,
    };
    let mut known = KnownNodes::new(&own, PerFamily { v4: true, v6: true });
    known.begin_list();
    let (mut listing, mut told, mut peers) = (true, 0, BTreeSet::new());
    for line in lines.split(|byte| *byte == b'\n') {
        let events = match NodeEvent::read(line, &prefix) {
            NodeEvent::Put(node) if listing => {
                known.list(node);
                Vec::new()
            }
            NodeEvent::Put(node) => known.put(node),
            NodeEvent::Delete(node) => {
                known.delete(&node.map_or_else(|bad| bad.name, |node| node.name))
            }
            NodeEvent::Bookmark { ends_list, .. } if ends_list => {
                listing = !listing;
                match listing {
                    true => {
                        known.begin_list();
                        Vec::new()
                    }
                    false => known.end_list().into_iter().collect(),
                }
            }
            _ => Vec::new(),
        };
        told += events.len();
        for event in events {
            match event {
                LeaseEvent::Snapshot(leases) => peers = leases.iter().map(Lease::key).collect(),
                LeaseEvent::Put(lease) => drop(peers.insert(lease.key())),
                LeaseEvent::Delete(key) => assert!(peers.remove(&key), "{key} was not there"),
            }
        }
    }
    (told, peers.len())
}

/// What is wrong with a list of Nodes, if anything is; the number of its items.
pub fn list(json: &[u8]) -> Result<usize, String> {
    let (mut splitter, mut items) = (ListSplitter::default(), 0);
    for part in json.chunks(7) {
        splitter.push(part, |item| {
            items += 1;
            let _ = NodeState::read(item, &AnnotationPrefix::default());
        })?;
    }
    splitter.end().map(|_| items)
}
