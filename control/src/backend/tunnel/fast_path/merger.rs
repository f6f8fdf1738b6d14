//! The veth pair in which segments are merged on their way in: GRO happens where a device hands
//! packets to the kernel, and what a program redirects has no other such place.

use crate::host::netlink::{Link, Netlink, NetlinkError};
use crate::host::sysctl;
use tracing::debug;
use weft_dataplane::fastpath::Merger;
use weft_dataplane::sys::ethtool;

/// Long enough for every packet (`ETH_MAX_MTU`).
const MTU: u32 = 65_535;

/// The names of both ends.
#[derive(Clone, Debug)]
pub(super) struct MergerName {
    near: String,
    far: String,
}

impl MergerName {
    /// Those for a TUN device: `weft-m.1` and `weft-g.1` for `flannel.1`.
    pub(super) fn of(device: &str) -> MergerName {
        let suffix = device.trim_start_matches("flannel");
        MergerName {
            near: format!("weft-m{suffix}"),
            far: format!("weft-g{suffix}"),
        }
    }

    /// The TUN device that `link` merges for, if it is the near end of a pair.
    pub(super) fn device_of(link: &Link) -> Option<String> {
        let suffix = link.name.strip_prefix("weft-m")?;
        let is_veth = link.kind.as_deref() == Some("veth");
        is_veth.then(|| format!("flannel{suffix}"))
    }

    /// The end that packets are given to.
    pub(super) fn near(&self) -> &str {
        &self.near
    }

    /// The pair, if it is there.
    pub(super) async fn find(&self, netlink: &Netlink) -> Result<Option<Merger>, NetlinkError> {
        let (near, far) = (
            netlink.link(&self.near).await?,
            netlink.link(&self.far).await?,
        );
        let is_pair = near.is_some() && far.is_some();
        Ok(near.filter(|_| is_pair).map(|near| Merger {
            near: near.index,
            far: self.far.clone(),
        }))
    }

    /// Make the pair and set it up, silent and without addresses.
    pub(super) async fn make(
        &self,
        netlink: &Netlink,
        mark: Option<&str>,
    ) -> Result<Option<Merger>, NetlinkError> {
        if self.find(netlink).await?.is_none() {
            netlink.add_veth(&self.near, &self.far).await?;
        }
        // Without: a device that may send super-packets is not expected to need merging
        // (`veth_skb_is_eligible_for_gro`).
        let offloads = ethtool::set_tso(&self.near, false);
        if let Err(error) = offloads.and_then(|()| ethtool::set_gro(&self.far, true)) {
            debug!("offloads of {} and {}: {error}", self.near, self.far);
        }
        for name in [&self.near, &self.far] {
            let Some(link) = netlink.link(name).await? else {
                return Ok(None);
            };
            // It is to stay silent; where there is no IPv6 it does.
            let _ = sysctl::ensure("ipv6", name, "disable_ipv6", "1");
            if let Some(mark) = mark {
                netlink.set_alias(&link, mark).await?;
            }
            netlink.set_link(&link, MTU, link.txqueuelen).await?;
            netlink.set_link_up_silently(&link).await?;
        }
        self.find(netlink).await
    }

    /// Remove the pair, if it is there.
    pub(super) async fn remove(&self, netlink: &Netlink) {
        let removed = async {
            match netlink.link(&self.near).await? {
                Some(link) if link.kind.as_deref() == Some("veth") => {
                    netlink.delete_link(&link).await
                }
                _ => Ok(()),
            }
        };
        if let Err(error) = removed.await {
            debug!("{error}");
        }
    }
}
