//! What there is for each tunnel, told apart by its device.

use super::families::{Families, Labels};
use crate::status::{PeerTrafficStatus, QueueStatus, TunnelStatus, WorkersStatus};
use std::fmt;
use weft_dataplane::stats::{Count, DropReason};

/// How far a capability may be granted.
const GRANTS: [&str; 4] = ["off", "on", "limited", "refused"];

/// What tunnel GSO may be.
const GSO_STATES: [&str; 6] = [
    "off",
    "refused",
    "untried",
    "in_use",
    "segmented",
    "blocked",
];

/// What the fast path may be.
const FAST_PATH_STATES: [&str; 3] = ["off", "on", "refused"];

/// A device with its workers, which run.
type Device<'a> = (&'a str, &'a WorkersStatus);

/// What waits for a worker: its device, its number and how much it is.
type Queue<'a> = (&'a str, String, &'a QueueStatus);

pub(super) fn encode(tunnels: &[TunnelStatus], families: &mut Families<'_>) -> fmt::Result {
    let running = tunnels.iter().filter_map(|tunnel| {
        let workers = tunnel.workers.as_ref()?;
        Some((tunnel.device.as_str(), workers))
    });
    let running: Vec<Device<'_>> = running.collect();
    about(tunnels, families)?;
    table(tunnels, families)?;
    states(tunnels, &running, families)?;
    counters(&running, families)?;
    losses(&running, families)?;
    peer_traffic(tunnels, families)?;
    queues(&running, families)
}

fn about(tunnels: &[TunnelStatus], families: &mut Families<'_>) -> fmt::Result {
    let texts = tunnels.iter().map(|tunnel| {
        let vni = tunnel.vni.map_or(String::new(), |vni| vni.to_string());
        (tunnel, vni, tunnel.port.to_string())
    });
    let texts: Vec<_> = texts.collect();
    families.info(
        "tunnel",
        "The form of a tunnel's frames, its VXLAN network identifier and UDP port, and the engine that moves its packets.",
        texts.iter().map(|(tunnel, vni, port)| {
            let engine = tunnel.workers.as_ref().map_or("none", |w| w.engine.as_str());
            [
                ("device", tunnel.device.as_str()),
                ("wire", tunnel.wire.as_str()),
                ("vni", vni.as_str()),
                ("port", port.as_str()),
                ("engine", engine),
            ]
        }),
    )?;
    families.counter(
        "device_remakes",
        "Times that a tunnel's device was made anew, as somebody had removed it. Its counters then begin at 0 again.",
        of(tunnels, |tunnel| tunnel.remakes),
    )
}

fn table(tunnels: &[TunnelStatus], families: &mut Families<'_>) -> fmt::Result {
    families.gauge(
        "table_peers",
        "Peers in the table that packets are sent by.",
        of(tunnels, |tunnel| tunnel.table.peers),
    )?;
    families.gauge(
        "table_age_seconds",
        "Since that table was made. Without news of other nodes it grows old, and that is well.",
        of(tunnels, |tunnel| tunnel.table.age_seconds),
    )?;
    families.gauge(
        "table_publish_seconds",
        "How long it took to make that table and to hand it to the workers.",
        of(tunnels, |tunnel| tunnel.table.publish_seconds),
    )?;
    families.counter(
        "table_publications",
        "Tables made so far.",
        of(tunnels, |tunnel| tunnel.table.publications),
    )
}

/// Each state that something may be in is a series, which is 1 while it is in it and else 0.
fn states(
    tunnels: &[TunnelStatus],
    running: &[Device<'_>],
    families: &mut Families<'_>,
) -> fmt::Result {
    let granted = running.iter().flat_map(|(device, workers)| {
        workers.capabilities.iter().flat_map(move |(name, grant)| {
            GRANTS.iter().map(move |state| {
                let labels = [
                    ("device", *device),
                    ("capability", name.as_str()),
                    ("state", *state),
                ];
                (labels, u32::from(grant == state))
            })
        })
    });
    families.gauge(
        "capability",
        "How far the kernel grants a capability: 1 for the state that it is in.",
        granted,
    )?;
    let gso = running.iter().flat_map(|(device, workers)| {
        GSO_STATES.iter().map(move |state| {
            let labels = [("device", *device), ("state", *state)];
            (labels, u32::from(workers.tunnel_gso.state == *state))
        })
    });
    families.gauge(
        "tunnel_gso",
        "Whether super-packets leave whole: 1 for the state that tunnel GSO is in.",
        gso,
    )?;
    let peers = running.iter().flat_map(|(device, workers)| {
        let gso = &workers.tunnel_gso;
        [("open", gso.open), ("blocked", gso.blocked)]
            .map(|(state, peers)| ([("device", *device), ("state", state)], peers))
    });
    families.gauge(
        "tunnel_gso_peers",
        "Peers that super-packets get out to whole (open), and those that they do not (blocked).",
        peers,
    )?;
    let paths = tunnels.iter().flat_map(|tunnel| {
        FAST_PATH_STATES.iter().map(move |state| {
            let labels = [("device", tunnel.device.as_str()), ("state", *state)];
            (labels, u32::from(tunnel.fast_path.state == *state))
        })
    });
    families.gauge(
        "fast_path",
        "Whether eBPF programs carry packets: 1 for the state that the fast path is in.",
        paths,
    )
}

fn counters(running: &[Device<'_>], families: &mut Families<'_>) -> fmt::Result {
    for count in Count::ALL {
        let name = count.name();
        let values = running.iter().map(|(device, workers)| {
            let value = workers.counters.get(name).copied();
            ([("device", *device)], value.unwrap_or(0))
        });
        families.counter(name, count.help(), values)?;
    }
    let drops = running.iter().flat_map(|(device, workers)| {
        DropReason::ALL.iter().map(move |reason| {
            let drops = workers.drops.get(reason.name()).copied();
            let labels = [("device", *device), ("reason", reason.name())];
            (labels, drops.unwrap_or(0))
        })
    });
    families.counter(
        "drops",
        "Packets and datagrams that went no further, by reason.",
        drops,
    )
}

fn losses(running: &[Device<'_>], families: &mut Families<'_>) -> fmt::Result {
    families.counter(
        "lost_frames",
        "Frames that could not leave, of all peers.",
        running
            .iter()
            .map(|(device, w)| ([("device", *device)], w.lost_frames)),
    )?;
    let peers = running.iter().flat_map(|(device, workers)| {
        let lost = workers.lost_to.iter();
        lost.map(move |loss| (*device, loss.peer.to_string(), loss.frames))
    });
    let peers: Vec<(&str, String, u64)> = peers.collect();
    families.counter(
        "peer_lost_frames",
        "Frames that could not leave, of the peers that lost most (-metrics-peers).",
        peers.iter().map(|(device, peer, frames)| {
            ([("device", *device), ("peer", peer.as_str())], *frames)
        }),
    )
}

/// What a peer's counter is called, what it counts, and where it stands.
type PeerCounter = (&'static str, &'static str, fn(&PeerTrafficStatus) -> u64);

const PEER_TRAFFIC: [PeerCounter; 4] = [
    (
        "peer_sent_packets",
        "Packets that the underlay device has sent to a peer, whatever carried them, of the peers with the most traffic (-metrics-peer-traffic).",
        |traffic| traffic.sent_packets,
    ),
    (
        "peer_sent_bytes",
        "Their bytes, with headers from the Ethernet header on; those of a super-packet count once.",
        |traffic| traffic.sent_bytes,
    ),
    (
        "peer_received_packets",
        "Packets that have come from a peer to the tunnel's port, admitted or not.",
        |traffic| traffic.received_packets,
    ),
    (
        "peer_received_bytes",
        "Their bytes, counted as those that were sent.",
        |traffic| traffic.received_bytes,
    ),
];

fn peer_traffic(tunnels: &[TunnelStatus], families: &mut Families<'_>) -> fmt::Result {
    let peers = tunnels.iter().flat_map(|tunnel| {
        let traffic = tunnel.peer_traffic.iter();
        traffic.map(|traffic| (tunnel.device.as_str(), traffic.peer.to_string(), traffic))
    });
    let peers: Vec<(&str, String, &PeerTrafficStatus)> = peers.collect();
    for (name, help, value) in PEER_TRAFFIC {
        let values = peers.iter().map(|(device, peer, traffic)| {
            let labels = [("device", *device), ("peer", peer.as_str())];
            (labels, value(traffic))
        });
        families.counter(name, help, values)?;
    }
    Ok(())
}

fn queues(running: &[Device<'_>], families: &mut Families<'_>) -> fmt::Result {
    let queues = running.iter().flat_map(|(device, workers)| {
        let queues = workers.queues.iter().enumerate();
        queues.map(move |(number, queue)| (*device, number.to_string(), queue))
    });
    let queues: Vec<Queue<'_>> = queues.collect();
    families.gauge(
        "receive_waiting_bytes",
        "What waits in the sockets of a worker that receives, with what the kernel adds.",
        of_queues(&queues, |queue| queue.waiting_bytes),
    )?;
    families.gauge(
        "receive_room_bytes",
        "What may wait there.",
        of_queues(&queues, |queue| queue.room_bytes),
    )
}

/// A value of each queue.
fn of_queues<'a>(
    queues: &'a [Queue<'a>],
    value: impl Fn(&QueueStatus) -> u64,
) -> impl Iterator<Item = (Labels<'a, 2>, u64)> {
    queues.iter().map(move |(device, number, queue)| {
        let labels = [("device", *device), ("queue", number.as_str())];
        (labels, value(queue))
    })
}

/// A value of each tunnel.
fn of<V>(
    tunnels: &[TunnelStatus],
    value: impl Fn(&TunnelStatus) -> V,
) -> impl Iterator<Item = (Labels<'_, 1>, V)> {
    tunnels
        .iter()
        .map(move |tunnel| ([("device", tunnel.device.as_str())], value(tunnel)))
}
