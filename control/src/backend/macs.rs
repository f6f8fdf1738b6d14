//! The MACs that the lease tells the peers.

use super::prepared::Prepared;
use super::vxlan;
use crate::host::mac_store::VtepMac;
use crate::lease::LeaseAttrs;
use crate::wire::MacAddr;

impl Prepared {
    /// One that the next start will not find, if there is one.
    pub fn unkept_mac(&self) -> Option<&VtepMac> {
        let mut tunnels = self.carriers.list.iter().filter_map(|c| c.tunnel.as_ref());
        tunnels.find_map(|tunnel| Some(tunnel.kept_mac()).filter(|mac| mac.unkept.is_some()))
    }

    /// Whether there is one that nobody has had before, as where the state directory is new.
    pub fn has_new_mac(&self) -> bool {
        let mut tunnels = self.carriers.list.iter().filter_map(|c| c.tunnel.as_ref());
        tunnels.any(|tunnel| tunnel.kept_mac().is_new)
    }

    /// Have the MACs that peers know this node by, where those in hand are new or could not be
    /// kept; none of those that are `shared` with another node.
    pub fn take_macs(&mut self, known: &LeaseAttrs, shared: &[MacAddr]) {
        for carrier in &mut self.carriers.list {
            let data = known.vxlan_data(carrier.peers.family);
            if let (Some(tunnel), Ok(data)) = (&mut carrier.tunnel, data)
                && !shared.contains(&data.vtep_mac)
            {
                tunnel.take_mac(data.vtep_mac);
            }
        }
        self.carriers.attrs = vxlan::attrs(&self.host, &self.carriers.list);
    }

    /// Have a new MAC wherever this one was in use; the devices' names. None if it was nowhere.
    pub fn replace_mac(&mut self, shared: MacAddr) -> Vec<String> {
        let tunnels = self
            .carriers
            .list
            .iter_mut()
            .filter_map(|c| c.tunnel.as_mut());
        let affected = tunnels.filter(|t| t.vxlan_data().is_some() && t.mac() == shared);
        let devices = affected.map(|tunnel| tunnel.renew_mac()).collect();
        self.carriers.attrs = vxlan::attrs(&self.host, &self.carriers.list);
        devices
    }

    /// What is to be logged of the MACs of these devices.
    pub fn describe_macs(&self, devices: &[String]) -> String {
        let tunnels = self.carriers.list.iter().filter_map(|c| c.tunnel.as_ref());
        let affected = tunnels.filter(|tunnel| devices.iter().any(|name| name == tunnel.device()));
        let lines: Vec<String> = affected
            .map(|tunnel| format!("{} has {}", tunnel.device(), tunnel.kept_mac()))
            .collect();
        lines.join("; ")
    }
}
