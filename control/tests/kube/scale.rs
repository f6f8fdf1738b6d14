//! Clusters of thousands of nodes.

use crate::lab::*;
use std::fs;
use std::time::{Duration, Instant};
use weft_control::subnets::LeaseEvent;
use weft_lab::kube::{ApiOptions, StreamingLists};

/// What the process has in memory, in MB.
fn resident() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kb = line.split_whitespace().nth(1).unwrap();
    kb.parse::<usize>().unwrap() / 1024
}

/// Times and memory of nodes of 12 KB each, whichever way they are listed. The lab's server is in
/// the same process and holds all of them, too: what counts is what is added.
#[tokio::test]
async fn thousands_of_nodes_are_listed_in_little_time_and_memory() {
    const NODES: u16 = 2000;
    for streaming_lists in [StreamingLists::Served, StreamingLists::TurnedOff] {
        let cluster = Cluster::with(ApiOptions {
            streaming_lists,
            ..ApiOptions::default()
        });
        cluster.set_config(&CONFIG.replace("10.244.0.0/16", "10.240.0.0/12"));
        for number in 2..NODES {
            cluster.add(number);
        }
        let (before, begun) = (resident(), Instant::now());
        let mut running = Running::start(&cluster).await;
        let LeaseEvent::Snapshot(leases) = running.next().await else {
            panic!("no list first");
        };
        let (took, grown) = (begun.elapsed(), resident().saturating_sub(before));
        eprintln!(
            "{streaming_lists:?}: {} nodes in {took:?}, {grown} MB more",
            leases.len()
        );
        assert_eq!(leases.len(), usize::from(NODES) - 2);
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
}
