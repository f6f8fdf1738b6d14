//! The TAP of tunnel GSO beside a tunnel's TUN: made, and looked after.

use super::options::WorkerOptions;
use super::spec::TunnelSpec;
use crate::host::netlink::{Netlink, NetlinkError};
use crate::host::tap::{self, TapSetupError};
use crate::release;
use tracing::{debug, info, warn};
use weft_dataplane::sys::tap::{Tap, TapError};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::worker::tunnel_gso::TunnelGso;

/// Why there is no TAP although one was wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoTap {
    #[error("TAP for super-packets: {0}")]
    Refused(#[from] TapError),
    #[error("TAP for super-packets: {0}")]
    SetUp(#[from] TapSetupError),
    #[error("TAP for super-packets: {0}")]
    Netlink(#[from] NetlinkError),
    #[error("TAP for super-packets: {0} was removed while it was being set up")]
    Gone(String),
}

/// The TAP's name; none if tunnel GSO is not wanted or not possible.
pub(crate) fn name(spec: &TunnelSpec, options: &WorkerOptions) -> Option<String> {
    // With DF on outer packets the kernel says nothing of the path to those who send by a TAP.
    let possible = spec.wire == Wire::Vxlan && spec.local.is_ipv4() && !options.outer_df;
    (possible && options.tunnel_gso != TunnelGso::Off).then(|| format!("weft.{}", spec.vni))
}

/// Make the TAP `name` and set it up.
pub(crate) async fn make(netlink: &Netlink, name: &str) -> Result<Tap, NoTap> {
    let tap = open(name).await?;
    let link = netlink.link(name).await?;
    let link = link.ok_or_else(|| NoTap::Gone(name.to_owned()))?;
    tap::set_up(netlink, &link).await?;
    Ok(tap)
}

async fn open(name: &str) -> Result<Tap, TapError> {
    let is_busy = |opened: &Result<Tap, TapError>| opened.as_ref().is_err_and(TapError::is_busy);
    release::wait(
        release::GRACE,
        async || Tap::open(name),
        |opened| !is_busy(opened),
    )
    .await
}

/// See to it that the TAP `name` is up and has its settings and address; whether it is there at
/// all.
pub(super) async fn look_after(netlink: &Netlink, name: &str) -> Result<bool, NetlinkError> {
    let Some(link) = netlink.link(name).await? else {
        warn!(code = "W0501", "{name} was removed: making it anew");
        return Ok(false);
    };
    if !link.up {
        warn!(code = "W0502", "{name} was set down: bringing it up again");
        tap::bring_up(netlink, &link).await?;
    }
    match tap::restore(netlink, &link).await {
        Ok(true) => info!(
            code = "W0503",
            "{name} had lost its address or settings (rp_filter, accept_local, forwarding): it has them again"
        ),
        Ok(false) => {}
        Err(error) => debug!("cannot look at the settings of {name}: {error}"),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;

    #[test]
    fn a_name_that_is_still_taken_is_waited_for_while_others_go_on() {
        netns::run(async |netlink| {
            let held = match Tap::open("weft.1") {
                Ok(held) => held,
                Err(error) => return eprintln!("skipped: no tunnel GSO: {error}"),
            };
            // It never comes to this if the thread sleeps meanwhile.
            let release = async { drop(held) };
            let (made, ()) = futures::join!(make(&netlink, "weft.1"), release);
            let tap = made.unwrap();
            let link = netlink.link("weft.1").await.unwrap().unwrap();
            assert!(link.up);
            assert_eq!(link.mac, Some(tap.mac()));
        });
    }

    #[test]
    fn a_tap_that_is_set_down_comes_up_and_one_that_is_removed_is_missed() {
        netns::run(async |netlink| {
            netns::ip(&["tuntap", "add", "weft.1", "mode", "tap"]);
            assert!(look_after(&netlink, "weft.1").await.unwrap());
            let link = netlink.link("weft.1").await.unwrap().unwrap();
            assert!(link.up);
            netlink.delete_link(&link).await.unwrap();
            assert!(!look_after(&netlink, "weft.1").await.unwrap());
        });
    }
}
