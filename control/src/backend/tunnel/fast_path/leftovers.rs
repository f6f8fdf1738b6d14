//! What programs an earlier run has left for tunnels that are there no more, or that have none now.
//!
//! A pinned program goes on when its device is gone, and one on the underlay device then still
//! looks at each datagram. Whose it was does not matter: a device that an agent carries packets
//! with is there, also when the agent has ended.

use super::merger::MergerName;
use crate::host::netlink::{BpfFilter, Link, Netlink, NetlinkError};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tracing::debug;
use weft_dataplane::fastpath::{self, FILTER_PRIORITY, Former, Pins, filter_handle};

/// Take away programs whose TUN device is not in this network namespace, and the merging pairs with
/// this mark that have lost theirs. What was removed, and why something could not be.
pub(crate) async fn remove(
    netlink: &Netlink,
    bpffs: &Path,
    mark: Option<&str>,
) -> (Vec<String>, Vec<String>) {
    let (mut done, mut failures) = (Vec::new(), Vec::new());
    match netlink.links().await {
        Ok(links) => {
            remove_pins(bpffs, &links, &mut done, &mut failures);
            if let Err(error) = remove_filters(netlink, &links, &mut done).await {
                // A kernel without them has none of ours.
                debug!("{error}");
            }
            remove_pairs(netlink, mark, &links, &mut done, &mut failures).await;
        }
        Err(error) => failures.push(error.to_string()),
    }
    (done, failures)
}

fn is_tunnel(link: &Link) -> bool {
    link.kind.as_deref() == Some("tun")
}

fn has_tunnel(links: &[Link], device: &str) -> bool {
    links.iter().any(|l| l.name == device && is_tunnel(l))
}

fn remove_pins(bpffs: &Path, links: &[Link], done: &mut Vec<String>, failures: &mut Vec<String>) {
    let devices = Pins::devices(bpffs).into_iter();
    for device in devices.filter(|device| !has_tunnel(links, device)) {
        match Pins::remove(bpffs, &device) {
            Ok(true) => done.push(format!("the fast path of {device}")),
            Ok(false) => {}
            Err(error) => {
                failures.push(format!("cannot remove the fast path of {device}: {error}"));
            }
        }
    }
}

async fn remove_filters(
    netlink: &Netlink,
    links: &[Link],
    done: &mut Vec<String>,
) -> Result<(), NetlinkError> {
    let tunnels = links.iter().filter(|link| is_tunnel(link));
    let used: Vec<u32> = tunnels.map(|link| filter_handle(&link.name)).collect();
    for filter in ours(netlink).await? {
        let link = links.iter().find(|link| link.index == filter.index);
        if let Some(link) = link.filter(|_| !used.contains(&filter.handle))
            && fastpath::remove_filters(&link.name, filter.handle)
        {
            done.push(format!("the fast path's filter on {}", link.name));
        }
    }
    Ok(())
}

/// Filters of weft's programs on any link.
async fn ours(netlink: &Netlink) -> Result<Vec<BpfFilter>, NetlinkError> {
    let mut filters = netlink.bpf_filters().await?;
    filters.retain(|filter| filter.priority == FILTER_PRIORITY);
    Ok(filters)
}

async fn remove_pairs(
    netlink: &Netlink,
    mark: Option<&str>,
    links: &[Link],
    done: &mut Vec<String>,
    failures: &mut Vec<String>,
) {
    let marked = |link: &&Link| mark.is_some() && link.alias.as_deref() == mark;
    for link in links.iter().filter(marked) {
        let device = MergerName::device_of(link);
        if device.is_some_and(|device| !has_tunnel(links, &device)) {
            match netlink.delete_link(link).await {
                Ok(()) => done.push(format!("the pair of {}", link.name)),
                Err(error) => failures.push(error.to_string()),
            }
        }
    }
}

/// Take away all that was left for `device`, which is there but has no programs now; whether there
/// was anything, and the reason why something may go on.
pub(super) async fn remove_of(
    netlink: &Netlink,
    bpffs: &Path,
    device: &str,
) -> (bool, Option<String>) {
    let handle = filter_handle(device);
    let mut filters = ours(netlink).await.unwrap_or_default();
    filters.retain(|filter| filter.handle == handle);
    let mut links = netlink.links().await.unwrap_or_default();
    links.retain(|link| filters.iter().any(|filter| filter.index == link.index));
    let names = links.into_iter().map(|link| link.name);
    let (removed, former) = fastpath::remove_left(bpffs, device, names);
    MergerName::of(device).remove(netlink).await;
    let any = former.removed > 0 || matches!(removed, Ok(true));
    let unpinned = removed.err().filter(|_| former.removed == 0);
    let unpinned = unpinned.map(|error| {
        let place = bpffs.display();
        format!("what an earlier run has left for {device} under {place} stays: {error}")
    });
    (any, unpinned.or_else(|| unknown(former, device)))
}

/// What there is to say of programs on `device` that this process cannot be rid of.
pub(super) fn unknown(former: Former, device: &str) -> Option<String> {
    (former.unknown > 0).then(|| {
        let folder = folder_of(device);
        format!("other programs on {device} see packets first, and if an earlier agent has left them, they send them by what it knew: without CAP_SYS_ADMIN nobody can tell; remove {folder} where it was pinned (what is beside it is other agents'), or have that place mounted here and named by -bpffs")
    })
}

/// Where an agent pins what is of `device` in this network namespace, unless it has another `-bpffs`.
fn folder_of(device: &str) -> String {
    let namespace = fs::metadata("/proc/thread-self/ns/net");
    let namespace = namespace.map_or("<namespace>".to_owned(), |file| file.ino().to_string());
    format!("/sys/fs/bpf/weft/{namespace}/{}", device.replace('.', "+"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns::{self, ip};

    const OURS: &str = "weft /coreos.com/network /run/flannel/subnet.env";
    const OTHERS: &str = "weft /other/network /run/other/subnet.env";

    /// A filter that lets everything pass, known by the name of `tunnel`.
    fn add_filter(link: &str, priority: u16, tunnel: &str) {
        let handle = filter_handle(tunnel);
        let line = format!(
            "filter add dev {link} ingress protocol all prio {priority} handle {handle} bpf bytecode"
        );
        let words = line.split(' ').chain(["1,6 0 0 0"]);
        weft_lab::run(std::process::Command::new("tc").args(words)).unwrap();
    }

    async fn filters(netlink: &Netlink) -> Vec<(u16, u32)> {
        let filters = netlink.bpf_filters().await.unwrap();
        filters.iter().map(|f| (f.priority, f.handle)).collect()
    }

    #[test]
    fn what_cannot_be_told_apart_is_named_by_its_own_folder() {
        let inode = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let some = Former {
            unknown: 1,
            ..Former::default()
        };
        let said = unknown(some, "flannel.1").unwrap();
        let folder = format!("remove /sys/fs/bpf/weft/{inode}/flannel+1 where");
        assert!(said.contains(&folder), "{said}");
        assert_eq!(unknown(Former::default(), "flannel.1"), None);
    }

    #[test]
    fn what_has_lost_its_tunnel_goes_and_nothing_else() {
        netns::run(async |netlink| {
            let bpffs = tempfile::tempdir().unwrap();
            let inode = fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
            let pin = |namespace: u64, device: &str| {
                let folder = bpffs.path().join(format!("weft/{namespace}/{device}"));
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join("out"), "").unwrap();
                folder
            };
            let kept = [pin(inode, "flannel+1"), pin(inode + 1, "flannel+7")];
            let gone = [pin(inode, "flannel+7"), pin(inode, "flannel0")];
            ip(&["tuntap", "add", "flannel.1", "mode", "tun"]);
            // As flanneld's kernel device is called.
            ip(&["link", "add", "flannel.7", "type", "bridge"]);
            netns::link(&netlink, "eth0").await;
            let clsact = "qdisc add dev eth0 clsact".split(' ');
            weft_lab::run(std::process::Command::new("tc").args(clsact)).unwrap();
            for tunnel in ["flannel.1", "flannel.7"] {
                add_filter("eth0", FILTER_PRIORITY, tunnel);
            }
            add_filter("eth0", 9, "flannel.7");
            for (name, mark) in [
                ("weft-m.1", OURS),
                ("weft-m.7", OURS),
                ("weft-m.8", OTHERS),
                ("veth7", OURS),
            ] {
                let link = netns::link(&netlink, name).await;
                netlink.set_alias(&link, mark).await.unwrap();
            }

            let (done, failures) = remove(&netlink, bpffs.path(), Some(OURS)).await;
            assert_eq!(failures, [""; 0]);
            assert_eq!(done.len(), 4, "{done:?}");
            assert!(kept.iter().all(|folder| folder.join("out").exists()));
            assert!(!gone.iter().any(|folder| folder.exists()));
            let left = [
                (9, filter_handle("flannel.7")),
                (FILTER_PRIORITY, filter_handle("flannel.1")),
            ];
            assert_eq!(filters(&netlink).await, left);
            for (name, stays) in [("weft-m.1", true), ("weft-m.7", false), ("weft-m.8", true)] {
                let there = netlink.link(name).await.unwrap().is_some();
                assert_eq!(there, stays, "{name}");
            }
            let again = remove(&netlink, bpffs.path(), Some(OURS)).await;
            assert_eq!(again, (Vec::new(), Vec::new()));

            // What its own agent takes away when it has no use for it.
            for any in [true, false] {
                let removed = remove_of(&netlink, bpffs.path(), "flannel.1").await;
                assert_eq!(removed, (any, None));
            }
            assert_eq!(filters(&netlink).await, left[..1]);
            assert!(!kept[0].exists() && kept[1].exists());
            assert_eq!(netlink.link("weft-m.1").await.unwrap(), None);
        });
    }
}
