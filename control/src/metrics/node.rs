//! What there is once for each node.

use super::families::Families;
use crate::status::{HandOverStatus, LeaseStatus, NodeStatus, StoreStatus};
use std::fmt;

pub(super) fn encode(status: Option<&NodeStatus>, families: &mut Families<'_>) -> fmt::Result {
    families.info(
        "build",
        "The version of weft.",
        status.map(|s| [("version", s.version.as_str())]),
    )?;
    families.info(
        "node",
        "The backend's type and the interface of the underlay.",
        status.map(|s| {
            [
                ("backend", s.backend.as_str()),
                ("underlay", s.underlay.name.as_str()),
            ]
        }),
    )?;
    families.gauge(
        "start_time_seconds",
        "When the agent began, in seconds since 1970.",
        status.map(|s| ([], s.started)),
    )?;
    families.gauge(
        "ready",
        "Whether the node can be used, as /readyz says.",
        status.map(|s| ([], u32::from(s.ready))),
    )?;
    families.gauge(
        "underlay_up",
        "Whether the host has the addresses that packets to other nodes leave from.",
        status.map(|s| ([], u32::from(s.underlay.there))),
    )?;
    families.gauge(
        "pod_mtu_bytes",
        "The largest packet that pods may send.",
        status.map(|s| ([], s.mtu)),
    )?;
    families.gauge(
        "peers",
        "Other nodes that packets can be sent to.",
        status.map(|s| ([], s.peers)),
    )?;
    hand_overs(status.map(|s| &s.hand_overs), families)?;
    lease(status.map(|s| &s.lease), families)?;
    store(status.map(|s| &s.store), families)
}

fn hand_overs(hand_overs: Option<&HandOverStatus>, families: &mut Families<'_>) -> fmt::Result {
    let taken = hand_overs.map(|h| [("agent", h.from_agents), ("service_manager", h.from_store)]);
    families.counter(
        "hand_overs",
        "Times that a process went on where another had stopped, from which it had all.",
        taken
            .iter()
            .flatten()
            .map(|(from, times)| ([("from", *from)], *times)),
    )?;
    families.counter(
        "hand_overs_refused",
        "Times that it came to nothing.",
        hand_overs.map(|h| ([], h.refused)),
    )?;
    families.gauge(
        "hand_over_wait_seconds",
        "How long packets waited at the last one; none if there was none, or after a crash.",
        hand_overs.and_then(|h| Some(([], h.waited_seconds?))),
    )
}

fn lease(lease: Option<&LeaseStatus>, families: &mut Families<'_>) -> fmt::Result {
    let subnets = lease.iter().flat_map(|lease| &lease.subnets);
    let subnets: Vec<String> = subnets.map(ToString::to_string).collect();
    let left = lease.and_then(|lease| lease.seconds_left);
    let kind = left.map_or("reservation", |_| "lease");
    families.info(
        "lease",
        "The node's subnets; a reservation never ends, nor does what a file says.",
        subnets
            .iter()
            .map(|subnet| [("subnet", subnet.as_str()), ("kind", kind)]),
    )?;
    families.gauge(
        "lease_remaining_seconds",
        "Until the lease ends unless it is renewed; none of a reservation.",
        left.map(|left| ([], left)),
    )
}

fn store(store: Option<&StoreStatus>, families: &mut Families<'_>) -> fmt::Result {
    families.gauge(
        "remembered_age_seconds",
        "How old what the node goes by is while the store has not confirmed it; 0 from then on.",
        store.map(|store| ([], store.remembered_seconds.unwrap_or(0))),
    )?;
    let health = store.and_then(|store| store.health.as_ref());
    families.gauge(
        "store_up",
        "Whether the last request to the store was answered.",
        health.map(|h| ([], u32::from(h.reachable))),
    )?;
    families.gauge(
        "store_answer_age_seconds",
        "Since a request was last answered. A node without news asks nothing for hours.",
        health.and_then(|h| Some(([], h.answered_seconds_ago?))),
    )?;
    families.counter(
        "store_requests",
        "Requests to the store.",
        health.map(|h| ([], h.requests)),
    )?;
    families.counter(
        "store_failures",
        "Requests that no server of the store has answered.",
        health.map(|h| ([], h.failures)),
    )?;
    families.histogram(
        "store_answer_duration_seconds",
        "How long answers of the store took.",
        health.map(|h| {
            let answered = h.requests.saturating_sub(h.failures);
            (h.answer_seconds, answered, h.answers_within.clone())
        }),
    )
}
