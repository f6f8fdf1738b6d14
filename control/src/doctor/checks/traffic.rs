//! What counters say.

use crate::doctor::facts::Facts;
use crate::doctor::finding::NO_AGENT;
use crate::doctor::finding::{Look, advise};
use crate::status::TunnelStatus;

/// What each reason for a drop asks for, as the page on troubleshooting has it. What is not here is
/// told without.
const REASONS: &[(&str, &str)] = &[
    (
        "recursion",
        "this node routes a peer's address into a tunnel: -public-ip there, or a more specific route to it here",
    ),
    (
        "no_peer",
        "no live lease has the destination: weft leases list; is the agent there up?",
    ),
    (
        "unknown_sender",
        "frames come from an address that is no live lease's: -public-ip or -iface there, or -admit=loose here",
    ),
    (
        "wrong_mac",
        "a peer has an older MAC of this node: restart its agent; keep -state-dir on a disk that survives",
    ),
    (
        "spoofed_source",
        "inner sources that are not the sender's own: find out which, or -admit=loose",
    ),
    (
        "wrong_vni",
        "another overlay is on this port: VNI in the network config",
    ),
    (
        "bad_vxlan",
        "something else sends to this port, a doctor on another node among them: tcpdump -ni any udp port 8472",
    ),
    (
        "loop",
        "a node has this node's MAC: start one of the two agents again",
    ),
    (
        "queue_full",
        "the link to a peer is slower than what is sent: tc -s qdisc; lost_to in weft status",
    ),
    (
        "receive_queue_full",
        "more comes than the worker takes: ss -lunm sport = :8472; more -queues",
    ),
    (
        "tun_queue_full",
        "pods send faster than the worker takes it: docs/performance.md, overload",
    ),
    (
        "send_failed",
        "no route to the peer, or the local firewall refuses: ip route get PEER",
    ),
    (
        "write_failed",
        "the device was set down or removed: ip monitor link",
    ),
    (
        "too_big",
        "packets are longer than the path, and their senders are told: Backend.MTU if it goes on",
    ),
    ("truncated", "a bug: please report it"),
];

/// Multicast and broadcast of hosts mean nothing.
const HARMLESS: [&str; 1] = ["not_unicast"];

pub(super) fn drops(facts: &Facts) -> Look {
    let Ok(agent) = &facts.agent else {
        return Look::unknown(NO_AGENT);
    };
    let mut look = Look::ok("nothing, while this ran");
    for (before, after) in pairs(&agent.status.tunnels, &agent.later.tunnels) {
        let (Some(was), Some(is)) = (&before.workers, &after.workers) else {
            continue;
        };
        for (reason, count) in &is.drops {
            let grown = count.saturating_sub(was.drops.get(reason).copied().unwrap_or(0));
            if grown == 0 || HARMLESS.contains(&reason.as_str()) {
                continue;
            }
            let known = REASONS.iter().find(|(name, _)| name == reason);
            let remedy = known.map_or("docs/packet.md, drop reasons", |(_, remedy)| remedy);
            look.warn(
                format!(
                    "{} drops with {reason}: {grown} while this ran, {count} so far",
                    after.device
                ),
                advise(remedy),
            );
        }
    }
    look
}

/// A tunnel as it was and as it is.
fn pairs<'a>(
    before: &'a [TunnelStatus],
    after: &'a [TunnelStatus],
) -> impl Iterator<Item = (&'a TunnelStatus, &'a TunnelStatus)> {
    let was = |now: &'a TunnelStatus| before.iter().find(|then| then.device == now.device);
    after.iter().filter_map(move |now| Some((was(now)?, now)))
}

pub(super) fn lost(facts: &Facts) -> Look {
    let Ok(agent) = &facts.agent else {
        return Look::unknown(NO_AGENT);
    };
    let mut look = Look::ok("they could, while this ran");
    for (before, after) in pairs(&agent.status.tunnels, &agent.later.tunnels) {
        let (Some(was), Some(is)) = (&before.workers, &after.workers) else {
            continue;
        };
        let grown = is.lost_frames.saturating_sub(was.lost_frames);
        if grown > 0 {
            let named: Vec<String> = is
                .lost_to
                .iter()
                .map(|loss| loss.peer.to_string())
                .collect();
            look.warn(
                format!(
                    "{grown} frames of {} could not leave while this ran, most of them for {}",
                    after.device,
                    super::some(&named)
                ),
                advise("tc -s qdisc; ip route get PEER"),
            );
        }
    }
    look
}

pub(super) fn checksums(facts: &Facts) -> Look {
    /// One in so many is the fault of somebody, and not of a cable.
    const FEW: u64 = 10_000;
    let (received, wrong) = facts.host.received;
    let mut look = Look::ok(format!(
        "{wrong} of {received} datagrams and segments had a wrong checksum"
    ));
    if wrong > 10 && wrong > received / FEW {
        look.warn(
            format!("{wrong} of {received} datagrams and segments had a wrong checksum"),
            advise("on peers with kernel VXLAN before Linux 5.7: ethtool -K flannel.1 tx-checksum-ip-generic off; on peers with Linux 7.0 to 7.1.4: -udp-gso=auto"),
        );
    }
    look
}
