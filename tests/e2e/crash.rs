//! Agents that are killed and start again at once, under numbered datagrams and without a fast
//! path.

use crate::cluster::{Cluster, ENGINES, NEWS, WORKERS};
use crate::numbered::Numbered;
use crate::remembered::await_remembered_each_other;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use weft_lab::{Regime, skips_test, wait_until};

/// Datagrams a second in each direction.
const RATE: u64 = 2_000;

/// By then the kernel has let go of all that a killed process had.
const RELEASED: Duration = Duration::from_millis(1_500);

/// Kill node 1's agent and start it again after `rest`. For how long no datagram passed in one
/// direction or the other while there was a process to pass it.
fn restart(cluster: &mut Cluster, rest: Duration) -> Duration {
    let (a, b) = (cluster.pod(1).clone(), cluster.pod(2).clone());
    let datagrams = [Numbered::start(&a, &b, RATE), Numbered::start(&b, &a, RATE)];
    let pass = || datagrams.iter().for_each(|each| each.await_more(RATE / 10));
    pass();
    let agent = cluster.agents.get_mut(&1).unwrap();
    let killed = Instant::now();
    agent.kill().unwrap();
    let dead = killed.elapsed();
    std::thread::sleep(rest);
    let nobody = killed.elapsed();
    agent.start_again().unwrap();
    pass();
    agent.wait_written().unwrap();
    let [(out, out_gap), (back, back_gap)] = datagrams.map(Numbered::finish_timed);
    let gap = out_gap.max(back_gap).saturating_sub(nobody);
    eprintln!(
        "dead after {dead:?}, started {rest:?} later: lost {} of {} and {} of {}, silent for {gap:?}",
        out.lost, out.sent, back.lost, back.sent
    );
    gap
}

#[test]
fn a_start_right_after_a_kill_takes_no_longer_than_any_other() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[engine, WORKERS]);
        await_remembered_each_other(&cluster);
        let mut gaps = |rest, times| -> Vec<Duration> {
            let gaps = (0..times).map(|_| restart(&mut cluster, rest));
            gaps.collect()
        };
        let (mut at_once, later) = (gaps(Duration::ZERO, 5), gaps(RELEASED, 3));
        at_once.sort_unstable();
        eprintln!("{engine}: {at_once:?} at once, {later:?} later");
        // Whoever goes by the state of the link, which is told once a second, mostly takes one.
        let bound = 4 * *later.iter().max().unwrap() + Duration::from_millis(100);
        assert!(at_once[2] < bound, "{engine}: {at_once:?}");
    }
}

/// As a flanneld that takes over needs it.
#[test]
fn the_port_of_a_killed_agent_is_free_at_once() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[engine, WORKERS]);
        let ns = cluster.lab.node(1).ns.clone();
        cluster.agents.get_mut(&1).unwrap().kill().unwrap();
        let killed = Instant::now();
        let is_free = || {
            ns.enter(|| UdpSocket::bind("0.0.0.0:8472").is_ok())
                .unwrap()
        };
        assert!(wait_until(NEWS, is_free));
        eprintln!("{engine}: the port was free after {:?}", killed.elapsed());
        ns.ip("link del flannel.1").unwrap();
        ns.ip("link add flannel.1 type vxlan id 1 dstport 8472 local 10.99.0.1 nolearning")
            .unwrap();
        ns.ip("link set flannel.1 up").unwrap();
    }
}
