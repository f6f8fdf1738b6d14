//! Nodes that start while etcd is away go by what they remember; what etcd says then counts.

use crate::cluster::{Cluster, NEWS, PREFIX, WORKERS, lines_with};
use crate::probe::Probe;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use weft_control::host::state_file;
use weft_lab::topology::ping;
use weft_lab::{Regime, skips_test, wait_until};

const HEALTH: &str = "-healthz-port=8471";

/// What `/readyz` of a node answers; empty if nobody does.
fn readyz(cluster: &Cluster, number: usize) -> String {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect("127.0.0.1:8471")?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = cluster.lab.node(number).ns.enter(ask).unwrap();
    let answer = answer.unwrap_or_default();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
    format!("{status} {body}")
}

fn state_file_of(cluster: &Cluster, number: usize) -> PathBuf {
    let dir = cluster.agents[&number].state_dir();
    dir.join("net-coreos.com-network.state")
}

fn remembered(cluster: &Cluster, number: usize) -> serde_json::Value {
    let content = state_file::read(&state_file_of(cluster, number)).unwrap();
    serde_json::from_slice(&content.unwrap_or_default()).unwrap_or_default()
}

/// Wait until a node has written that it knows a lease.
fn await_remembered(cluster: &Cluster, number: usize, subnet: &str) {
    let is_there = || !remembered(cluster, number)["peers"][subnet].is_null();
    assert!(wait_until(NEWS, is_there), "node {number}: {subnet}");
}

fn await_line(cluster: &Cluster, number: usize, words: &[&str]) -> String {
    let log = cluster.agents[&number].log_file();
    let mut found = None;
    wait_until(NEWS, || {
        found = lines_with(&log, words).pop();
        found.is_some()
    });
    found.unwrap_or_else(|| panic!("node {number} does not say {words:?}"))
}

fn put_ghost(cluster: &Cluster, subnet: &str, address: &str) {
    let value = format!(
        r#"{{"PublicIP":"{address}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:63"}}}}"#
    );
    let key = format!("{PREFIX}/subnets/{subnet}");
    cluster.etcd.put(&key, &value).unwrap();
}

/// Whether node 1 sends somewhere what is for an address.
fn is_routed(cluster: &Cluster, to: Ipv4Addr) -> bool {
    let before = cluster.counter(1, "drop_no_peer");
    let _ = ping(&cluster.pod(1).ns, to, 1, 56, false);
    cluster.counter(1, "drop_no_peer") == before
}

/// Wait until nodes 1 and 2 have written that they know each other.
pub(crate) fn await_remembered_each_other(cluster: &Cluster) {
    await_remembered(cluster, 1, &key_of(cluster, 2));
    await_remembered(cluster, 2, &key_of(cluster, 1));
}

/// Kill the agents of nodes 1 and 2, which know each other.
fn crash(cluster: &mut Cluster) {
    await_remembered_each_other(cluster);
    for number in [1, 2] {
        cluster.agents.get_mut(&number).unwrap().kill().unwrap();
    }
}

fn key_of(cluster: &Cluster, number: usize) -> String {
    let key = cluster.lease_key(number);
    key.rsplit('/').next().unwrap().to_owned()
}

fn start_both(cluster: &mut Cluster) {
    for number in [1, 2] {
        let agent = cluster.agents.get_mut(&number).unwrap();
        agent.start_again().unwrap();
    }
    for number in [1, 2] {
        let agent = cluster.agents.get_mut(&number).unwrap();
        agent.wait_written().unwrap();
    }
}

#[test]
fn nodes_that_crash_and_start_without_etcd_reach_each_other_and_are_put_right_later() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[HEALTH, WORKERS]);
    let (gone, come) = ([10, 244, 201, 9].into(), [10, 244, 202, 9].into());
    put_ghost(&cluster, "10.244.201.0-24", "10.99.0.77");
    await_remembered(&cluster, 1, "10.244.201.0-24");
    crash(&mut cluster);
    cluster
        .etcd
        .delete(&format!("{PREFIX}/subnets/10.244.201.0-24"))
        .unwrap();
    put_ghost(&cluster, "10.244.202.0-24", "10.99.0.78");
    cluster.etcd.stop().unwrap();

    start_both(&mut cluster);
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    for number in [1, 2] {
        let aged = "200 flanneld is ready, by what it knew ";
        let is_aged = || readyz(&cluster, number).starts_with(aged);
        assert!(wait_until(NEWS, is_aged), "{}", readyz(&cluster, number));
        await_line(&cluster, number, &["WARN", "etcd has not answered within"]);
        cluster.agents[&number].counters().unwrap();
        await_line(&cluster, number, &["etcd has not confirmed"]);
    }
    assert!(is_routed(&cluster, gone), "as remembered");
    assert!(!is_routed(&cluster, come), "not known yet");

    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    cluster.etcd.start_again().unwrap();
    for number in [1, 2] {
        let confirmed = ["etcd has confirmed the lease", &key_of(&cluster, number)];
        await_line(&cluster, number, &confirmed);
        let is_confirmed = || readyz(&cluster, number) == "200 flanneld is ready";
        assert!(wait_until(NEWS, is_confirmed));
    }
    let line = await_line(&cluster, 1, &["etcd has confirmed the lease"]);
    assert!(line.contains("2, of which 1 are new and 0 have changed; 1 are gone"));
    let is_right = || !is_routed(&cluster, gone) && is_routed(&cluster, come);
    assert!(wait_until(NEWS, is_right));
    await_remembered(&cluster, 1, "10.244.202.0-24");
    probe.finish();
}

#[test]
fn a_machine_that_boots_without_etcd_after_a_power_cut_has_its_pods_network() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft(2, Regime::R1);
    let env = cluster.agents[&1].subnet_env().unwrap();
    crash(&mut cluster);
    cluster.etcd.kill().unwrap();
    for number in [1, 2] {
        let ns = &cluster.lab.node(number).ns;
        ns.ip("link del flannel.1").unwrap();
        fs::remove_file(cluster.agents[&number].subnet_file()).unwrap();
    }
    start_both(&mut cluster);
    assert_eq!(cluster.agents[&1].subnet_env().unwrap(), env);
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    cluster.etcd.start_again().unwrap();
    await_line(&cluster, 1, &["etcd has confirmed the lease"]);
    cluster.await_path(1, 2);
}

#[test]
fn a_lease_that_has_ended_is_not_used_without_etcd_unless_it_is_asked_for() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[HEALTH, WORKERS]);
    crash(&mut cluster);
    cluster.etcd.stop().unwrap();
    let mut content = remembered(&cluster, 1);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    content["ends"] = (now.as_secs() - 60).into();
    let content = serde_json::to_vec(&content).unwrap();
    state_file::write(&state_file_of(&cluster, 1), &content).unwrap();

    cluster.agents.get_mut(&1).unwrap().start_again().unwrap();
    let line = await_line(
        &cluster,
        1,
        &["remembers is not used: the lease", "ended 1m"],
    );
    assert!(line.contains("-use-ended-lease"), "{line}");
    await_line(&cluster, 1, &["etcd unreachable"]);
    assert_eq!(readyz(&cluster, 1), "503 flanneld is not ready yet");

    let flags = [HEALTH, WORKERS, "-use-ended-lease"].map(str::to_owned);
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_with(flags.into()).unwrap();
    agent.wait_written().unwrap();
    cluster.agents.get_mut(&2).unwrap().start_again().unwrap();
    cluster.await_path(1, 2);
}

#[test]
fn a_node_whose_subnet_another_has_taken_starts_anew_by_itself() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[HEALTH]);
    let (lost, key) = (
        cluster.agents[&1].subnet_env().unwrap(),
        cluster.lease_key(1),
    );
    crash(&mut cluster);
    let subnet = key_of(&cluster, 1);
    cluster.etcd.delete(&key).unwrap();
    put_ghost(&cluster, &subnet, "10.99.0.77");
    cluster.etcd.stop().unwrap();

    start_both(&mut cluster);
    cluster.await_path(1, 2);
    let pid = cluster.agents[&1].pid();
    cluster.etcd.start_again().unwrap();
    await_line(
        &cluster,
        1,
        &["WARN", &subnet, "is outdated: this node's subnet is"],
    );
    await_line(&cluster, 1, &["starting anew with what etcd says"]);
    let agent = &cluster.agents[&1];
    let has_moved = || {
        agent
            .subnet_env()
            .is_ok_and(|env| env.subnet != lost.subnet)
    };
    assert!(wait_until(NEWS, has_moved));
    let is_ready = || readyz(&cluster, 1) == "200 flanneld is ready";
    assert!(wait_until(NEWS, is_ready), "{}", readyz(&cluster, 1));
    assert_eq!(agent.pid(), pid, "the same process");
    let env = agent.subnet_env().unwrap();
    cluster.lab.attach_pod(1, env.subnet, env.mtu).unwrap();
}

/// How long after its start a node without etcd and without a fast path forwards; printed, since
/// it depends on the machine.
#[test]
fn a_killed_node_forwards_soon_after_its_start_whether_etcd_answers_or_not() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS]);
    let bind = |number: usize| {
        let pod = cluster.pod(number);
        let socket = pod.ns.enter(|| UdpSocket::bind((pod.address, 0)));
        socket.unwrap().unwrap()
    };
    let (sender, receiver) = (bind(1), bind(2));
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    receiver.set_nonblocking(true).unwrap();
    await_remembered(&cluster, 1, &key_of(&cluster, 2));
    for etcd_answers in [true, false] {
        if !etcd_answers {
            cluster.etcd.stop().unwrap();
        }
        let mut times = Vec::new();
        for _ in 0..5 {
            let agent = cluster.agents.get_mut(&1).unwrap();
            agent.kill().unwrap();
            let mut buffer = [0; 8];
            while receiver.recv(&mut buffer).is_ok() {}
            let begun = Instant::now();
            agent.start_again().unwrap();
            while receiver.recv(&mut buffer).is_err() {
                assert!(begun.elapsed() < NEWS, "nothing passes");
                let _ = sender.send(b"packet");
                std::thread::sleep(Duration::from_millis(1));
            }
            times.push(begun.elapsed());
        }
        eprintln!("etcd answers: {etcd_answers}; forwards after {times:?}");
    }
}
