//! A peer behind a link that is slow or stands still: it costs no other peer anything.

use crate::cluster::{CONFIG, Cluster, NEWS, WORKERS, lines_with};
use crate::numbered::{Received, receive};
use crate::traffic::tcp;
use rustix::process::Signal;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use weft_lab::topology::ping;
use weft_lab::{Agent, Lab, LabOptions, Namespace, Regime, skips_test, slow, wait_until};

/// What the link to the slow peer lets through, and what it keeps.
const SLOW: [&str; 2] = ["20mbit", "20000000"];
const FROZEN: [&str; 2] = ["64kbit", "60000000"];

/// The same for a pod: more than the send and receive buffers of the workers hold.
const FROZEN_POD: [&str; 2] = ["64kbit", "20000000"];

/// How long an agent may take to end. Its own bound is 2 s; the rest is for slow machines.
const END: Duration = Duration::from_secs(5);

/// Three nodes that run weft. Node 1 reaches node 3 by a link of its own, which has no limit
/// yet.
fn cluster(config: &str, mtu: u32, engine: &str) -> Cluster {
    cluster_in(Regime::R1, config, mtu, engine)
}

fn cluster_in(regime: Regime, config: &str, mtu: u32, engine: &str) -> Cluster {
    let options = LabOptions {
        nodes: 3,
        mtu,
        regime,
        ..LabOptions::default()
    };
    let lab = Lab::new(options).unwrap();
    slow::join(&lab, 1, 3, mtu).unwrap();
    Cluster::in_lab(lab, config).filled(&[engine, WORKERS])
}

/// Limit the link to node 3 to a rate and a queue in bytes.
fn limit(cluster: &Cluster, [rate, queue]: [&str; 2]) {
    slow::limit(&cluster.lab, 1, rate, queue).unwrap();
}

/// Flood pod 3 with numbered datagrams from pod 1 until `done`.
fn flood(cluster: &Cluster, to: &UdpSocket, done: &AtomicBool) {
    let to = to.local_addr().unwrap();
    slow::flood(cluster.pod(1), to, 1400, done).unwrap();
}

/// A socket in pod 3.
fn receiver(cluster: &Cluster) -> UdpSocket {
    let pod = cluster.pod(3);
    let socket = pod.ns.enter(|| UdpSocket::bind((pod.address, 0)));
    let socket = socket.unwrap().unwrap();
    let patience = Some(Duration::from_millis(100));
    socket.set_read_timeout(patience).unwrap();
    socket
}

/// Do `during` while pod 1 floods pod 3 and the queue of the link overflows.
fn while_flooded(cluster: &Cluster, agent: &mut Agent, during: impl FnOnce(&mut Agent)) {
    let to = receiver(cluster);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| flood(cluster, &to, &done));
        // Whatever happens, the flood has to end.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let lost = || agent.counters().unwrap().contains_key("drop_queue_full");
            assert!(wait_until(NEWS, lost), "no queue overflowed");
            during(agent);
        }));
        done.store(true, Ordering::SeqCst);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The healthy peer is reached, the losses are those of the slow one, and the agent ends while
/// all of that goes on.
fn costs_nobody_else(mut cluster: Cluster) {
    let slow = cluster.lab.node(3).underlay;
    let mut agent = cluster.agents.remove(&1).unwrap();
    while_flooded(&cluster, &mut agent, |agent| {
        for (from, to) in [(1, 2), (2, 1)] {
            let (from, to) = (cluster.pod(from), cluster.pod(to));
            assert_reached(&from.ns, to.address);
        }
        let counters = agent.counters().unwrap();
        let lost = counters.keys().filter(|name| name.starts_with("lost_to"));
        assert_eq!(lost.collect::<Vec<_>>(), [&format!("lost_to[{slow}]")]);
        let log = agent.log_file();
        let words = ["WARN", "could not leave", &format!("{slow} (")];
        let told = || !lines_with(&log, &words).is_empty();
        assert!(wait_until(NEWS, told), "nobody is told");

        agent.signal(Signal::TERM).unwrap();
        let status = agent.wait(END).unwrap();
        assert!(status.success(), "{status}");
    });
}

/// Expect nearly all of a series of pings to be answered: one or two may meet a full queue
/// before the agent if the machine has no core for it.
fn assert_reached(from: &Namespace, to: Ipv4Addr) {
    let reached = || ping(from, to, 1, 56, false).is_ok();
    let answered = (0..40).filter(|_| reached()).count();
    assert!(answered >= 38, "{answered} of 40 pings answered");
}

/// The config of the udp backend.
fn udp() -> String {
    CONFIG.replace("vxlan", "udp")
}

#[test]
fn a_slow_peer_costs_no_other_peer_anything() {
    if skips_test() {
        return;
    }
    for (config, mtu, engine) in [
        (CONFIG, 1500, "-engine=ring"),
        (&udp(), 9000, "-engine=ring"),
        (CONFIG, 9000, "-engine=poll"),
        (&udp(), 1500, "-engine=poll"),
    ] {
        let cluster = cluster(config, mtu, engine);
        limit(&cluster, SLOW);
        costs_nobody_else(cluster);
    }
}

#[test]
fn nor_does_a_link_that_stands_still_with_the_longest_of_queues() {
    if skips_test() {
        return;
    }
    for engine in ["-engine=ring", "-engine=poll"] {
        let cluster = cluster(CONFIG, 1500, engine);
        limit(&cluster, FROZEN);
        costs_nobody_else(cluster);
    }
}

#[test]
fn nor_does_a_pod_that_takes_nothing() {
    if skips_test() {
        return;
    }
    for engine in ["-engine=ring", "-engine=poll"] {
        let options = LabOptions {
            pods_per_node: 2,
            ..LabOptions::default()
        };
        let lab = Lab::new(options).unwrap();
        let cluster = Cluster::in_lab(lab, CONFIG).filled(&[engine, WORKERS]);
        let [frozen, healthy] = &cluster.lab.node(2).pods[..] else {
            panic!("node 2 has no two pods");
        };
        let node = &cluster.lab.node(2).ns;
        let [rate, queue] = FROZEN_POD;
        let qdisc = ["tc", "qdisc", "add", "dev", "veth1", "root", "tbf"];
        let limits = ["rate", rate, "burst", "32k", "limit", queue];
        node.run(&[&qdisc[..], &limits].concat()).unwrap();
        let dropped = || {
            let seen = node.run(&["tc", "-s", "qdisc", "show", "dev", "veth1"]);
            let seen = seen.unwrap();
            let (_, dropped) = seen.split_once("dropped ").unwrap();
            !dropped.starts_with("0,")
        };
        let to = (frozen.address, 9).into();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| slow::flood(cluster.pod(1), to, 1400, &done).unwrap());
            let overflowed = wait_until(NEWS, dropped);
            let from = &cluster.pod(1).ns;
            let reached = std::panic::catch_unwind(|| assert_reached(from, healthy.address));
            done.store(true, Ordering::SeqCst);
            assert!(
                overflowed,
                "{engine}: the queue of the pod did not overflow"
            );
            if let Err(panic) = reached {
                std::panic::resume_unwind(panic);
            }
        });
    }
}

#[test]
fn trains_to_others_stay_trains_beside_a_flood_of_many_flows() {
    if skips_test() {
        return;
    }
    for engine in ["-engine=ring", "-engine=poll"] {
        let cluster = cluster_in(Regime::R2, CONFIG, 1500, engine);
        limit(&cluster, SLOW);
        let done = AtomicBool::new(false);
        // More flows than there are send sockets.
        let sinks: Vec<UdpSocket> = (0..24).map(|_| receiver(&cluster)).collect();
        let count = |name| cluster.counter(1, name);
        std::thread::scope(|scope| {
            for sink in &sinks {
                let (cluster, done) = (&cluster, &done);
                scope.spawn(move || {
                    let to = sink.local_addr().unwrap();
                    slow::trickle(cluster.pod(1), to, 1400, done).unwrap();
                });
            }
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let overflowed = wait_until(NEWS, || count("drop_queue_full") > 0);
                assert!(overflowed, "{engine}: no queue overflowed");
                let before = [count("frames_sent"), count("sends")];
                tcp(cluster.pod(1), cluster.pod(2), 4, 5_000_000);
                let [frames, sends] = [count("frames_sent"), count("sends")];
                (frames - before[0], sends - before[1])
            }));
            done.store(true, Ordering::SeqCst);
            let (frames, sends) = outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            assert!(
                frames > 3 * sends,
                "{engine}: {frames} frames in {sends} sends"
            );
        });
    }
}

#[test]
fn a_flow_keeps_its_order_when_a_queue_overflows() {
    if skips_test() {
        return;
    }
    for engine in ["-engine=ring", "-engine=poll"] {
        let cluster = cluster(CONFIG, 1500, engine);
        limit(&cluster, ["100mbit", "20000000"]);
        // Each core has a queue of its own behind a veth: with one of them none overtakes.
        let far = &cluster.lab.node(3).ns;
        for (ns, device) in [(far, slow::SLOW), (&cluster.pod(3).ns, "eth0")] {
            let file = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
            ns.run(&["sh", "-c", &format!("echo 1 > {file}")]).unwrap();
        }
        let to = receiver(&cluster);
        let done = AtomicBool::new(false);
        let so_far = AtomicU64::new(0);
        let Received { count, late, .. } = std::thread::scope(|scope| {
            let counted = scope.spawn(|| receive(&to, &done, &so_far));
            scope.spawn(|| flood(&cluster, &to, &done));
            let lost = || cluster.counter(1, "drop_queue_full");
            let overflowed = wait_until(NEWS, || lost() > 1_000);
            done.store(true, Ordering::SeqCst);
            assert!(overflowed, "{engine}: no queue overflowed");
            counted.join().unwrap()
        });
        assert!(count > 1_000, "{engine}: {count} arrived");
        // The kernel may still move a thread to another core now and then.
        assert!(late * 500 <= count, "{engine}: {late} of {count} came late");
    }
}
