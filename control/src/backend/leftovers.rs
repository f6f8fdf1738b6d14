//! Devices that an earlier run made and this one has no use for: of another VNI, of another
//! backend, of a family that the network no longer has. A TUN device outlives its process, and
//! an idle one keeps its address, and a route that leads nowhere.
//!
//! What weft makes has a mark as its alias. It names the network and the file of the own
//! subnet, which no two agents on a node have both in common, so that each removes its own
//! devices only; and none that a process holds.

use crate::host::link;
use crate::host::netlink::{Link, Netlink, NetlinkError};
use crate::release;
use tracing::{info, warn};

/// The devices that weft made and whose mark is, or is not, this one.
pub(crate) async fn marked(
    netlink: &Netlink,
    mark: &str,
    own: bool,
) -> Result<Vec<Link>, NetlinkError> {
    let mut links = netlink.links().await?;
    links.retain(|link| {
        let ours = link.kind.as_deref() == Some("tun") && link::is_marked(link);
        ours && (link.alias.as_deref() == Some(mark)) == own
    });
    Ok(links)
}

/// The devices with this mark when nobody holds them any more, or those that somebody still holds
/// after the time that a killed agent needs.
pub(crate) async fn released(
    netlink: &Netlink,
    mark: &str,
) -> Result<Result<Vec<Link>, Vec<Link>>, NetlinkError> {
    let is_held = |links: &Vec<Link>| links.iter().any(|link| link.carrier);
    let look = async || marked(netlink, mark, true).await;
    let found = release::wait(release::GRACE, look, |found| {
        !found.as_ref().is_ok_and(is_held)
    });
    let mut links = found.await?;
    if !is_held(&links) {
        return Ok(Ok(links));
    }
    links.retain(|link| link.carrier);
    Ok(Err(links))
}

/// Mark `link` as this agent's, unless somebody has given it an alias of another kind.
pub(super) async fn claim(netlink: &Netlink, link: &Link, mark: &str) {
    let alias = link.alias.as_deref();
    let may_be_marked = alias.is_none() || link::is_marked(link);
    if alias != Some(mark)
        && may_be_marked
        && let Err(error) = netlink.set_alias(link, mark).await
    {
        warn!(
            code = "W0511",
            "{error}; a later run will not know the device as its own"
        );
    }
}

/// The mark of the agent that holds the device `name`, unless it is `own`; waited for as long as
/// an agent that has just ended may hold it.
pub(super) async fn other_holder(
    netlink: &Netlink,
    name: &str,
    own: Option<&str>,
) -> Result<Option<String>, NetlinkError> {
    let look = async || {
        let held = netlink.link(name).await?.filter(|link| link.carrier);
        Ok(held.filter(|link| link::is_marked(link) && link.alias.as_deref() != own))
    };
    let is_over = |others: &Result<Option<Link>, NetlinkError>| !matches!(others, Ok(Some(_)));
    let others = release::wait(release::GRACE, look, is_over).await?;
    Ok(others.and_then(|link| link.alias))
}

/// Remove the marked devices but those in use. A failure costs nothing but the room that they
/// take, so it is only logged.
pub(super) async fn remove(netlink: &Netlink, mark: &str, used: &[&str]) {
    let look = async || remove_idle(netlink, mark, used).await;
    let is_over =
        |held: &Result<Vec<String>, NetlinkError>| !matches!(held, Ok(held) if !held.is_empty());
    match release::wait(release::GRACE, look, is_over).await {
        Ok(held) if held.is_empty() => {}
        Ok(held) => {
            let held = held.join(" and ");
            warn!(
                code = "W0510",
                "{held} of an earlier backend stays: another process holds it"
            );
        }
        Err(error) => warn!(
            code = "W0511",
            "{error}; devices of an earlier backend may be left"
        ),
    }
}

/// Remove what nobody holds; the names of the others.
async fn remove_idle(
    netlink: &Netlink,
    mark: &str,
    used: &[&str],
) -> Result<Vec<String>, NetlinkError> {
    let links = marked(netlink, mark, true).await?;
    let (held, idle): (Vec<_>, Vec<_>) = links
        .iter()
        .filter(|link| !used.contains(&link.name.as_str()))
        .partition(|link| link.carrier);
    for link in idle {
        netlink.delete_link(link).await?;
        info!(
            "removed {}, which an earlier run made for another backend or network",
            link.name
        );
    }
    Ok(held.into_iter().map(|link| link.name.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use weft_dataplane::sys::tun::{Offloads, Queues, Tun};

    const OURS: &str = "weft /coreos.com/network /run/flannel/subnet.env";
    const OTHERS: &str = "weft /other/network /run/other/subnet.env";

    async fn add(netlink: &Netlink, name: &str, alias: Option<&str>) {
        netns::ip(&["tuntap", "add", name, "mode", "tun", "multi_queue"]);
        if let Some(alias) = alias {
            let link = netlink.link(name).await.unwrap().unwrap();
            netlink.set_alias(&link, alias).await.unwrap();
        }
    }

    async fn names(netlink: &Netlink) -> Vec<String> {
        let links = netlink.links().await.unwrap();
        let tuns = links.into_iter().filter(|l| l.kind.is_some());
        tuns.map(|link| link.name).collect()
    }

    #[test]
    fn only_idle_devices_with_our_mark_go() {
        netns::run(async |netlink| {
            add(&netlink, "flannel.1", Some(OURS)).await;
            add(&netlink, "flannel.7", Some(OURS)).await;
            add(&netlink, "flannel-v6.7", Some(OURS)).await;
            add(&netlink, "flannel.8", Some(OTHERS)).await;
            add(&netlink, "flannel.9", None).await;
            let bridge = netns::link(&netlink, "br0").await;
            netlink.set_alias(&bridge, OURS).await.unwrap();
            let before = names(&netlink).await;
            remove(&netlink, OURS, &["flannel.1"]).await;
            let mut expected = before;
            expected.retain(|name| !name.ends_with(".7"));
            assert_eq!(names(&netlink).await, expected);
        });
    }

    #[test]
    fn a_device_that_a_process_holds_stays() {
        netns::run(async |netlink| {
            let offloads = Offloads {
                tso: false,
                uso: false,
            };
            // Held and down, as between its creation and its address.
            let tun = Tun::open("flannel.7", Queues::single(1), offloads).unwrap();
            let link = netlink.link("flannel.7").await.unwrap().unwrap();
            claim(&netlink, &link, OURS).await;
            let held = remove_idle(&netlink, OURS, &[]).await.unwrap();
            assert_eq!(held, ["flannel.7"]);
            assert!(netlink.link("flannel.7").await.unwrap().is_some());
            drop(tun);
            remove(&netlink, OURS, &[]).await;
            assert_eq!(netlink.link("flannel.7").await.unwrap(), None);
        });
    }

    #[test]
    fn a_mark_replaces_another_mark_and_no_other_alias() {
        netns::run(async |netlink| {
            for (alias, then) in [
                (None, OURS),
                (Some(OTHERS), OURS),
                (Some("uplink"), "uplink"),
            ] {
                add(&netlink, "flannel.1", alias).await;
                let link = netlink.link("flannel.1").await.unwrap().unwrap();
                claim(&netlink, &link, OURS).await;
                let link = netlink.link("flannel.1").await.unwrap().unwrap();
                assert_eq!(link.alias.as_deref(), Some(then));
                netlink.delete_link(&link).await.unwrap();
            }
        });
    }
}
