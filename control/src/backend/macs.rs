//! The MACs that the lease tells the peers, and other nodes that have the same ones: nodes that
//! run from copies of one disk drop each other's packets as their own.

use super::{Prepared, vxlan};
use crate::host::mac_store::VtepMac;
use crate::lease::MacAddr;
use crate::lease::{Lease, LeaseAttrs, SubnetKey};
use crate::subnets::LeaseEvent;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl Prepared {
    /// One that the next start will not find, if there is one.
    pub fn unkept_mac(&self) -> Option<&VtepMac> {
        let mut tunnels = self.carriers.iter().filter_map(|c| c.tunnel.as_ref());
        tunnels.find_map(|tunnel| Some(tunnel.kept_mac()).filter(|mac| mac.unkept.is_some()))
    }

    /// Have the MACs that peers know this node by, where those in hand could not be kept; none
    /// of those that are `shared` with another node.
    pub fn take_macs(&mut self, known: &LeaseAttrs, shared: &[MacAddr]) {
        for carrier in &mut self.carriers {
            let data = known.vxlan_data(carrier.peers.family);
            if let (Some(tunnel), Ok(data)) = (&mut carrier.tunnel, data)
                && !shared.contains(&data.vtep_mac)
            {
                tunnel.take_mac(data.vtep_mac);
            }
        }
        self.attrs = vxlan::attrs(&self.host, &self.carriers);
    }

    /// Have a new MAC wherever this one was in use; the devices' names. None if it was nowhere.
    pub fn replace_mac(&mut self, shared: MacAddr) -> Vec<String> {
        let host = &self.host;
        let tunnels = self.carriers.iter_mut().filter_map(|c| c.tunnel.as_mut());
        let affected = tunnels.filter(|t| t.vxlan_data().is_some() && t.mac() == shared);
        let devices = affected.map(|tunnel| tunnel.renew_mac(host)).collect();
        self.attrs = vxlan::attrs(&self.host, &self.carriers);
        devices
    }

    /// What is to be logged of the MACs of these devices.
    pub fn describe_macs(&self, devices: &[String]) -> String {
        let tunnels = self.carriers.iter().filter_map(|c| c.tunnel.as_ref());
        let affected = tunnels.filter(|tunnel| devices.iter().any(|name| name == tunnel.device()));
        let lines: Vec<String> = affected
            .map(|tunnel| format!("{} has {}", tunnel.device(), tunnel.kept_mac()))
            .collect();
        lines.join("; ")
    }
}

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

    fn lease(node: u8, mac: u8) -> Lease {
        let data = VxlanData {
            vni: 1,
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
        let mut told = |event| {
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
        assert_eq!(told(snapshot(&[(2, 2), (3, 1)])), ["10.5.3.0-24"]);
        // A renewal, and another list.
        assert_eq!(told(LeaseEvent::Put(lease(3, 1))), none);
        assert_eq!(told(snapshot(&[(2, 2), (3, 1)])), none);
        assert_eq!(told(LeaseEvent::Put(lease(2, 1))), ["10.5.2.0-24"]);
        // Both end, and come back.
        assert_eq!(told(LeaseEvent::Put(lease(3, 3))), none);
        assert_eq!(told(LeaseEvent::Delete(lease(2, 1).key())), none);
        assert_eq!(told(LeaseEvent::Put(lease(3, 1))), ["10.5.3.0-24"]);
        assert_eq!(told(LeaseEvent::Put(lease(2, 1))), ["10.5.2.0-24"]);
        assert_eq!(told(snapshot(&[])), none);
        assert_eq!(told(snapshot(&[(2, 1)])), ["10.5.2.0-24"]);
        // This node's own, under another key.
        assert_eq!(told(LeaseEvent::Put(lease(1, 1))), none);
    }
}
