//! What becomes of the underlay interface while the node runs.

use super::host::Host;
use crate::host::netlink::NetlinkError;
use std::collections::BTreeSet;
use std::net::IpAddr;
use tracing::{debug, info, warn};

/// What was found at the last look.
#[derive(Debug, Default)]
pub(super) struct UnderlayCheck {
    /// Addresses that packets leave from and that no interface has any more.
    lost: BTreeSet<IpAddr>,
    /// The MTU, where it is another than at the start.
    mtu: Option<u32>,
}

impl UnderlayCheck {
    /// Whether all addresses are there.
    pub(super) fn is_there(&self) -> bool {
        self.lost.is_empty()
    }

    /// Look at the kernel's addresses and the MTU, and say what has changed. Other addresses are
    /// not taken: peers know this node by the one in its lease.
    pub(super) async fn look(&mut self, host: &Host) {
        if let Err(error) = self.compare(host).await {
            debug!("{error}; looking at the underlay again");
        }
    }

    async fn compare(&mut self, host: &Host) -> Result<(), NetlinkError> {
        let underlay = &host.underlay;
        let addresses = host.netlink.addresses().await?;
        for addr in underlay.local.present() {
            if addresses.iter().any(|address| address.addr == addr) {
                if self.lost.remove(&addr) {
                    info!("{addr} of {} is there again", underlay.name);
                }
            } else if self.lost.insert(addr) {
                warn!(
                    "{} has lost {addr}: no packets leave from it, and the node is not ready until it is back; start again to take another address",
                    underlay.name
                );
            }
        }
        let Some(link) = host.netlink.link(&underlay.name).await? else {
            return Ok(());
        };
        let mtu = (link.mtu != underlay.mtu).then_some(link.mtu);
        if mtu != self.mtu {
            match mtu {
                Some(mtu) => warn!(
                    "the MTU of {} is {mtu} and was {} at the start, which the tunnel and subnet.env go by; start again to take the new one",
                    underlay.name, underlay.mtu
                ),
                None => info!("the MTU of {} is {} again", underlay.name, underlay.mtu),
            }
            self.mtu = mtu;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::PerFamily;
    use crate::host::iface::{InterfaceOptions, choose};
    use crate::host::netns;

    #[test]
    fn changes_of_addresses_and_mtu_are_noticed_and_so_is_their_end() {
        netns::run(async |netlink| {
            netns::link(&netlink, "eth0").await;
            let ip = |line: &str| netns::ip(&line.split(' ').collect::<Vec<_>>());
            ip("address add 192.0.2.1/24 dev eth0");
            ip("link set eth0 up");
            let options = InterfaceOptions {
                iface: vec!["eth0".to_owned()],
                ..InterfaceOptions::default()
            };
            let wanted = PerFamily {
                v4: true,
                v6: false,
            };
            let underlay = choose(&netlink, &options, wanted).await.unwrap();
            let host = Host {
                netlink,
                underlay,
                mark: None,
            };
            let mut check = UnderlayCheck::default();
            for (change, there, mtu) in [
                ("link set eth0 mtu 1500", true, None),
                ("link set eth0 mtu 1400", true, Some(1400)),
                ("address flush dev eth0", false, Some(1400)),
                ("link set eth0 mtu 1500", false, None),
                ("address add 192.0.2.2/24 dev eth0", false, None),
                ("address add 192.0.2.1/32 dev lo", true, None),
            ] {
                ip(change);
                check.look(&host).await;
                assert_eq!((check.is_there(), check.mtu), (there, mtu), "{change}");
            }
        });
    }
}
