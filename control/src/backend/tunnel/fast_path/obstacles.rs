//! What on this host keeps packets from the fast path although the kernel has all of it, and what of
//! the host does not see packets on it.

use super::TunnelFacts;
use crate::backend::host::Host;
use crate::host::firewall::rules_on_port;
use crate::host::ipsec;
use tracing::{debug, warn};

/// Queueing disciplines that hold packets back or throw them away as they are told to.
const SHAPERS: [&str; 7] = ["tbf", "htb", "hfsc", "cbq", "cake", "netem", "etf"];

/// The reason why packets must not pass the host by, if there is one.
pub(super) async fn look(_host: &Host, tunnel: TunnelFacts<'_>) -> Result<(), String> {
    if tunnel.outer_df {
        // What the kernel learns of a path is told to the workers' sockets alone.
        return Err("with -outer-df the MTU of each path is learned by the workers".to_owned());
    }
    match ipsec::policies() {
        Ok(0) => Ok(()),
        Ok(_) => Err("this host has IPsec policies, which the fast path would pass by".to_owned()),
        Err(error) => Err(format!("IPsec policies cannot be looked for: {error}")),
    }
}

/// Say which rules of the host's firewall do not see the packets.
pub(super) async fn tell_of_rules(port: u16) {
    let rules = rules_on_port(port).await;
    let Some(first) = rules.first() else { return };
    warn!(
        code = "W0603",
        "{} firewall rules on UDP port {port} do not see packets on the fast path, such as {first}; -fast-path=off (or weft fast-path off) has all packets pass them",
        rules.len()
    );
}

/// Say that a shaper of the TUN device does not see the packets, unless `told` names it.
pub(super) async fn tell_of_shaper(
    host: &Host,
    tunnel: TunnelFacts<'_>,
    told: &mut Option<String>,
) {
    let device = &tunnel.spec.device;
    let look = async {
        let link = host.netlink.link(device).await?;
        match link {
            Some(link) => host.netlink.root_qdisc(&link).await,
            None => Ok(None),
        }
    };
    match look.await {
        Ok(qdisc) if qdisc != *told => {
            if let Some(kind) = qdisc
                .as_ref()
                .filter(|kind| SHAPERS.contains(&kind.as_str()))
            {
                warn!(
                    code = "W0604",
                    "the qdisc {kind} of {device} does not see packets on the fast path: put it on {}, or use -fast-path=off",
                    host.underlay.name
                );
            }
            *told = qdisc;
        }
        Ok(_) => {}
        Err(error) => debug!("{error}"),
    }
}
