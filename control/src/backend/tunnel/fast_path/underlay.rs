//! The underlay device as the choice of ways depends on it.

use super::options::{FastPathMode, FastPathOptions};
use crate::backend::host::Host;
use std::fs;
use std::path::Path;
use weft_dataplane::fastpath::Policy;
use weft_dataplane::sys::ethtool::{self, Features};

/// Devices below devices that are looked at: a VLAN on a bond of cards, and one more.
const DEPTH: usize = 4;

/// The underlay device at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnderlayDevice {
    pub(super) index: u32,
    mtu: u32,
    features: Features,
    /// A card is below it, which cuts super-packets on the way.
    hardware: bool,
}

impl UnderlayDevice {
    /// Unless `options` say it, super-packets leave by the fast path where they cross whole, or where
    /// nothing merges the trains that workers make of them instead. That is judged by this node's own
    /// device, for the peers' are as a rule like it.
    pub(super) fn policy(&self, options: &FastPathOptions) -> Policy {
        let trains = self.features.gro && !self.is_whole();
        Policy {
            all: options.mode == FastPathMode::On,
            super_packets: !options.trains.unwrap_or(trains),
            mtu: self.mtu,
        }
    }

    /// Super-packets cross it whole.
    fn is_whole(&self) -> bool {
        self.features.tunnel_gso && !self.hardware
    }

    /// Whether super-packets leave by the fast path and are cut behind it, so that those of the
    /// peers, who do the same, are to be merged.
    pub(super) fn cuts(&self, policy: Policy) -> bool {
        (policy.all || policy.super_packets) && !self.is_whole()
    }
}

/// Look at the underlay device; the reason why there can be no fast path over it.
pub(super) async fn look(host: &Host) -> Result<UnderlayDevice, String> {
    let name = &host.underlay.name;
    let link = host.netlink.link(name).await.map_err(|e| e.to_string())?;
    let link = link.ok_or_else(|| format!("there is no {name}"))?;
    if link.mac.is_none() || link.loopback {
        return Err(format!("{name} is not an Ethernet device"));
    }
    let features = ethtool::features(name).map_err(|e| format!("features of {name}: {e}"))?;
    Ok(UnderlayDevice {
        index: link.index,
        mtu: link.mtu,
        features,
        hardware: is_hardware(&Path::new("/sys/class/net").join(name), DEPTH),
    })
}

/// Whether `device`, a folder of sysfs, is a card or on top of one. What virtio calls a device
/// passes super-packets on.
fn is_hardware(device: &Path, depth: usize) -> bool {
    if let Ok(bus) = fs::read_link(device.join("device/subsystem")) {
        return !bus.ends_with("virtio");
    }
    if depth == 0 {
        return false;
    }
    let entries = fs::read_dir(device).into_iter().flatten().flatten();
    let mut lower = entries.filter(|e| e.file_name().to_string_lossy().starts_with("lower_"));
    lower.any(|entry| is_hardware(&entry.path(), depth - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn trains_are_for_devices_behind_which_somebody_merges_them() {
        use FastPathMode::{Auto, On};
        // Tunnel GSO, GRO, a card: all, super-packets, segments to be merged.
        for (device, (mode, trains), expected) in [
            ((true, false, false), (Auto, None), (false, true, false)), // a veth
            ((true, true, false), (Auto, None), (false, true, false)),  // one with GRO
            ((false, true, false), (Auto, None), (false, false, false)), // as virtio is
            ((true, true, true), (Auto, None), (false, false, false)),  // a card
            ((false, true, true), (Auto, None), (false, false, false)),
            ((true, false, true), (Auto, None), (false, true, true)), // nobody merges
            (
                (true, true, false),
                (Auto, Some(true)),
                (false, false, false),
            ),
            ((true, true, true), (Auto, Some(false)), (false, true, true)),
            ((false, true, true), (On, None), (true, false, true)),
            ((true, true, false), (On, None), (true, true, false)),
        ] {
            let (tunnel_gso, gro, hardware) = device;
            let underlay = UnderlayDevice {
                index: 1,
                mtu: 1500,
                features: Features { gro, tunnel_gso },
                hardware,
            };
            let options = FastPathOptions {
                mode,
                trains,
                ..FastPathOptions::default()
            };
            let policy = underlay.policy(&options);
            let found = (policy.all, policy.super_packets, underlay.cuts(policy));
            assert_eq!(found, expected, "{device:?}");
        }
    }

    #[test]
    fn a_card_is_found_below_a_bond_and_a_vlan() {
        let dir = tempfile::tempdir().unwrap();
        let device = |name: &str| dir.path().join(name);
        for (name, bus) in [("eth0", "pci"), ("eth1", "virtio")] {
            fs::create_dir_all(device(name).join("device")).unwrap();
            let subsystem = device(name).join("device/subsystem");
            symlink(format!("../../bus/{bus}"), subsystem).unwrap();
        }
        for (upper, lower) in [("bond0", "eth0"), ("bond0.5", "bond0"), ("br0", "eth1")] {
            fs::create_dir_all(device(upper)).unwrap();
            symlink(device(lower), device(upper).join(format!("lower_{lower}"))).unwrap();
        }
        fs::create_dir_all(device("veth0")).unwrap();
        let found: Vec<bool> = ["eth0", "eth1", "bond0", "bond0.5", "br0", "veth0"]
            .map(|name| is_hardware(&device(name), DEPTH))
            .into();
        assert_eq!(found, [true, false, true, true, false, false]);
    }
}
