//! Other nodes that have this node's MAC: nodes that run from copies of one disk drop each
//! other's packets as their own.

use crate::lease::{Lease, LeaseAttrs, SubnetKey};
use crate::subnets::LeaseEvent;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Leases of other nodes with this node's MAC.
pub(super) struct Twins {
    own: LeaseAttrs,
    reported: BTreeMap<SubnetKey, IpAddr>,
}

impl Twins {
    /// None yet; `own` is what the own lease says.
    pub(super) fn new(own: LeaseAttrs) -> Twins {
        Twins {
            own,
            reported: BTreeMap::new(),
        }
    }

    /// Take in events; a line for each conflict that is new.
    pub(super) fn take_in(&mut self, events: &[LeaseEvent]) -> Vec<String> {
        let mut lines = Vec::new();
        for event in events {
            match event {
                LeaseEvent::Snapshot(leases) => {
                    let listed: BTreeSet<SubnetKey> = leases.iter().map(Lease::key).collect();
                    self.reported.retain(|key, _| listed.contains(key));
                    lines.extend(leases.iter().filter_map(|lease| self.look_at(lease)));
                }
                LeaseEvent::Put(lease) => lines.extend(self.look_at(lease)),
                LeaseEvent::Delete(key) => {
                    self.reported.remove(key);
                }
            }
        }
        lines
    }

    fn look_at(&mut self, lease: &Lease) -> Option<String> {
        let (key, node) = (lease.key(), lease.attrs.identity());
        let Some(mac) = self.own.shared_mac(&lease.attrs) else {
            self.reported.remove(&key);
            return None;
        };
        let is_new = self.reported.insert(key, node) != Some(node);
        is_new.then(|| {
            format!(
                "lease {key} of {node} has this node's MAC {}: the two drop each other's packets; start the agent of one of them again, which then takes another MAC",
                mac
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::VxlanData;
    use crate::wire::{MacAddr, Vni};

    fn lease(node: u8, mac: u8) -> Lease {
        let data = VxlanData {
            vni: Vni::new(1).unwrap(),
            vtep_mac: MacAddr([0x0e, 0, 0, 0, 0, mac]),
        };
        Lease {
            subnet: Some(format!("10.5.{node}.0/24").parse().unwrap()),
            subnet_v6: None,
            attrs: LeaseAttrs::vxlan(Some(([192, 0, 2, node].into(), data)), None),
            expires: None,
            revision: 1,
        }
    }

    #[test]
    fn a_conflict_is_told_once_until_it_is_over() {
        let mut twins = Twins::new(lease(1, 1).attrs);
        let mut reported = |event| {
            let lines = twins.take_in(&[event]);
            let named = |line: &String| {
                assert!(
                    line.contains("this node's MAC 0e:00:00:00:00:01:"),
                    "{line}"
                );
                line.split(' ').nth(1).unwrap().to_owned()
            };
            lines.iter().map(named).collect::<Vec<_>>()
        };
        let none = [""; 0];
        let snapshot = |leases: &[(u8, u8)]| {
            let leases = leases.iter().map(|&(node, mac)| lease(node, mac));
            LeaseEvent::Snapshot(leases.collect())
        };
        assert_eq!(reported(snapshot(&[(2, 2), (3, 1)])), ["10.5.3.0-24"]);
        // A renewal, and another list.
        assert_eq!(reported(LeaseEvent::Put(lease(3, 1))), none);
        assert_eq!(reported(snapshot(&[(2, 2), (3, 1)])), none);
        assert_eq!(reported(LeaseEvent::Put(lease(2, 1))), ["10.5.2.0-24"]);
        // Both end, and come back.
        assert_eq!(reported(LeaseEvent::Put(lease(3, 3))), none);
        assert_eq!(reported(LeaseEvent::Delete(lease(2, 1).key())), none);
        assert_eq!(reported(LeaseEvent::Put(lease(3, 1))), ["10.5.3.0-24"]);
        assert_eq!(reported(LeaseEvent::Put(lease(2, 1))), ["10.5.2.0-24"]);
        assert_eq!(reported(snapshot(&[])), none);
        assert_eq!(reported(snapshot(&[(2, 1)])), ["10.5.2.0-24"]);
        // This node's own, under another key.
        assert_eq!(reported(LeaseEvent::Put(lease(1, 1))), none);
    }
}
