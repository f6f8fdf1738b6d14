//! Queueing disciplines, and the filters of the clsact one.

use super::connection::Netlink;
use super::error::{NetlinkError, collect, failed};
use super::types::Link;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

/// A filter that runs a BPF program on what enters a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfFilter {
    /// Index of the link.
    pub index: u32,
    /// Its priority among the filters of the link.
    pub priority: u16,
    /// Its handle.
    pub handle: u32,
}

impl Netlink {
    /// The qdisc that packets pass on their way out of a link, if it has one.
    pub async fn root_qdisc(&self, link: &Link) -> Result<Option<String>, NetlinkError> {
        let mut qdiscs = self.qdiscs().await?;
        qdiscs.retain(|qdisc| index(qdisc) == link.index && qdisc.header.parent == TcHandle::ROOT);
        Ok(qdiscs.first().and_then(kind).map(str::to_owned))
    }

    /// All filters that run a BPF program on what enters a link.
    pub async fn bpf_filters(&self) -> Result<Vec<BpfFilter>, NetlinkError> {
        let mut found = Vec::new();
        // Without this qdisc there are none, and most links have none.
        let qdiscs = self.qdiscs().await?;
        for at in qdiscs.iter().filter(|qdisc| kind(qdisc) == Some("clsact")) {
            found.extend(self.bpf_filters_on(index(at)).await?);
        }
        Ok(found)
    }

    async fn bpf_filters_on(&self, index: u32) -> Result<Vec<BpfFilter>, NetlinkError> {
        let link = i32::try_from(index).unwrap_or(i32::MAX);
        let request = self.handle.traffic_filter(link).get().ingress();
        let filters = collect(request.execute()).await;
        let filters = filters.map_err(|e| failed("list the filters of a link", e))?;
        Ok(filters.iter().filter_map(bpf_filter).collect())
    }

    async fn qdiscs(&self) -> Result<Vec<TcMessage>, NetlinkError> {
        let qdiscs = collect(self.handle.qdisc().get().execute()).await;
        qdiscs.map_err(|e| failed("list the qdiscs", e))
    }
}

/// A message that names a filter, and not only a priority that some have.
fn bpf_filter(message: &TcMessage) -> Option<BpfFilter> {
    let handle = u32::from(message.header.handle);
    (kind(message) == Some("bpf") && handle != 0).then_some(BpfFilter {
        index: index(message),
        // The lower half is the protocol.
        priority: (message.header.info >> 16) as u16,
        handle,
    })
}

fn index(message: &TcMessage) -> u32 {
    message.header.index.unsigned_abs()
}

fn kind(message: &TcMessage) -> Option<&str> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            TcAttribute::Kind(kind) => Some(kind.as_str()),
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use crate::host::netns;

    #[test]
    fn the_root_qdisc_is_that_of_the_link() {
        netns::run(async |netlink| {
            for name in ["flannel.1", "other"] {
                netns::link(&netlink, name).await;
            }
            let of = async |name: &str| {
                let link = netlink.link(name).await.unwrap().unwrap();
                netlink.root_qdisc(&link).await.unwrap()
            };
            let plain = of("flannel.1").await;
            assert_ne!(plain.as_deref(), Some("tbf"));
            let tbf = "qdisc add dev flannel.1 root tbf rate 1mbit burst 10k latency 50ms";
            weft_lab::run(std::process::Command::new("tc").args(tbf.split(' '))).unwrap();
            assert_eq!(of("flannel.1").await.as_deref(), Some("tbf"));
            assert_ne!(of("other").await.as_deref(), Some("tbf"));
            assert_eq!(netlink.bpf_filters().await.unwrap(), []);
        });
    }
}
