//! Pods that the shipped conflists attach, with Debian's `bridge`, `host-local`, `portmap`
//! and `bandwidth`.

use crate::cluster::{Cluster, NEWS};
use crate::firewall::source_seen;
use crate::runtime::Runtime;
use crate::traffic::tcp;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;
use weft_benches::load::iperf::{self, Direction};
use weft_lab::topology::ping;
use weft_lab::{Namespace, Pod, Regime, skips_test_without, wait_until};

const SHIPPED: &str = include_str!("../../deploy/cni/10-flannel.conflist");
const SHAPING: &str = include_str!("../../deploy/cni/10-flannel-bandwidth.conflist");

fn skips() -> bool {
    skips_test_without(&[("/usr/lib/cni/bridge", "containernetworking-plugins")])
}

/// Two nodes of weft, each with a runtime and nothing else yet.
fn nodes(conflist: &str) -> (Cluster, [Runtime; 2]) {
    nodes_with(conflist, &[])
}

/// As [`nodes`], with further flags for the agents.
fn nodes_with(conflist: &str, flags: &[&str]) -> (Cluster, [Runtime; 2]) {
    let mut cluster = Cluster::empty(2, Regime::R1);
    cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    for number in [1, 2] {
        cluster.join_without_pod(number);
    }
    let runtimes = [1, 2].map(|number| Runtime::new(&cluster, number, conflist));
    (cluster, runtimes)
}

/// A pod on each node, the first with arguments for capabilities.
fn pods(cluster: &Cluster, runtimes: &[Runtime; 2], arguments: &Value) -> [Pod; 2] {
    let ns = |role| cluster.lab.namespace(role).unwrap();
    let pods = [
        runtimes[0].add(&ns("pod1"), "pod-1", arguments),
        runtimes[1].add(&ns("pod2"), "pod-2", &Value::Null),
    ];
    let [one, two] = &pods;
    for (from, to) in [(one, two), (two, one)] {
        let reached = || ping(&from.ns, to.address, 1, 56, false).is_ok();
        assert!(wait_until(NEWS, reached), "no way to {}", to.address);
    }
    pods
}

/// Say something to `to` from inside `from`, and return what `pod` got on `port`.
fn said(from: &Namespace, to: SocketAddr, pod: &Pod, port: u16) -> String {
    let listener = pod
        .ns
        .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let listener = listener.unwrap().unwrap();
    std::thread::scope(|scope| {
        let heard = scope.spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let limit = Duration::from_secs(5);
        let stream = from
            .enter(|| TcpStream::connect_timeout(&to, limit))
            .unwrap();
        match stream {
            Ok(mut stream) => stream.write_all(b"hello").unwrap(),
            Err(error) => {
                // Let the listener go, then fail.
                let own = SocketAddr::from((pod.address, port));
                let _ = pod.ns.enter(|| TcpStream::connect_timeout(&own, limit));
                panic!("{to}: {error}");
            }
        }
        heard.join().unwrap()
    })
}

#[test]
fn pods_of_the_shipped_conflist_reach_each_other_and_leave_nothing() {
    if skips() {
        return;
    }
    let (cluster, runtimes) = nodes(SHIPPED);
    let [one, two] = &pods(&cluster, &runtimes, &Value::Null);
    for (number, pod) in [(1, one), (2, two)] {
        let env = cluster.agents[&number].subnet_env().unwrap();
        assert!(env.subnet.contains(&pod.address), "{env:?}");
        let link = pod.ns.ip("link show eth0").unwrap();
        assert!(link.contains(&format!("mtu {}", env.mtu)), "{link}");
        // isDefaultGateway of the conflist's delegate.
        let gateway = format!("default via {}", env.subnet.addr());
        assert!(pod.ns.ip("route").unwrap().contains(&gateway));
    }
    tcp(one, two, 4, 1 << 20);
    tcp(two, one, 4, 1 << 20);

    for (number, runtime) in [(1, &runtimes[0]), (2, &runtimes[1])] {
        let id = format!("pod-{number}");
        let pod = if number == 1 { one } else { two };
        assert_eq!(runtime.attachments(), [format!("{id}:eth0")]);
        assert_eq!(runtime.leases(), [pod.address.to_string()]);
        runtime.del(&pod.ns, &id, &Value::Null);
        runtime.del(&pod.ns, &id, &Value::Null);
        assert!(runtime.attachments().is_empty() && runtime.leases().is_empty());
        let node = &cluster.lab.node(number).ns;
        let veths = || node.ip("-o link show type veth master cni0").unwrap();
        assert!(wait_until(NEWS, || veths().is_empty()), "{}", veths());
        assert!(pod.ns.ip("link show eth0").is_err());
    }
}

#[test]
fn a_pod_is_reached_by_host_port_from_another_node() {
    if skips() {
        return;
    }
    let (cluster, runtimes) = nodes(SHIPPED);
    let mapping = json!({"hostPort": 8080, "containerPort": 80, "protocol": "tcp"});
    let arguments = json!({ "portMappings": [mapping] });
    let [one, two] = &pods(&cluster, &runtimes, &arguments);
    let (node1, node2) = (cluster.lab.node(1), &cluster.lab.node(2).ns);
    let host_port = SocketAddr::from((node1.underlay, 8080));
    assert_eq!(said(node2, host_port, one, 80), "hello", "from the node");
    assert_eq!(said(&two.ns, host_port, one, 80), "hello", "from a pod");

    let rules = || node1.ns.run(&["iptables-save", "-t", "nat"]).unwrap();
    assert!(rules().contains("8080"), "{}", rules());
    runtimes[0].del(&one.ns, "pod-1", &arguments);
    assert!(!rules().contains("8080"), "{}", rules());
}

/// Either the agent masquerades or the bridge: never both, never none.
#[test]
fn pods_keep_their_address_inside_whether_the_agent_masquerades_or_the_bridge() {
    if skips() {
        return;
    }
    for flags in [&["-ip-masq"][..], &[]] {
        let (cluster, runtimes) = nodes_with(SHIPPED, flags);
        let [one, two] = &pods(&cluster, &runtimes, &Value::Null);
        let (node1, node2) = (cluster.lab.node(1), cluster.lab.node(2));
        let env = cluster.agents[&1].subnet_env().unwrap();
        assert_eq!(env.ipmasq, !flags.is_empty());
        let seen = source_seen(one, &two.ns, two.address.into());
        match flags {
            // The bridge spares its own subnet only; to others it takes flannel.1's address.
            [] => assert_eq!(seen, env.subnet.network(), "{env:?}"),
            _ => assert_eq!(seen, one.address, "{env:?}"),
        }
        let seen = source_seen(one, &node2.ns, node2.underlay.into());
        assert_eq!(seen, node1.underlay, "{env:?}");
        let nat = node1.ns.run(&["iptables-save", "-t", "nat"]).unwrap();
        let bridges = format!("-A POSTROUTING -s {}", one.address);
        assert_eq!(nat.contains("FLANNEL-POSTRTG"), env.ipmasq, "{nat}");
        assert_eq!(nat.contains(&bridges), !env.ipmasq, "{nat}");
    }
}

/// What a shaped pod is held to, in bits per second.
const RATE: f64 = 50e6;

#[test]
fn a_shaped_pod_keeps_to_its_rate() {
    if skips() {
        return;
    }
    let (cluster, runtimes) = nodes(SHAPING);
    let limits = json!({"ingressRate": RATE as u64, "ingressBurst": 1_000_000,
                        "egressRate": RATE as u64, "egressBurst": 1_000_000});
    let arguments = json!({ "bandwidth": limits });
    let [shaped, free] = &pods(&cluster, &runtimes, &arguments);
    for direction in [Direction::There, Direction::Back] {
        let measured = iperf::run(free, shaped, Duration::from_secs(3), 2, direction);
        let rate = measured.unwrap().bits_per_second;
        // Headers count for the shaper and not for iperf3, the burst the other way.
        let band = 0.6 * RATE..1.3 * RATE;
        assert!(
            band.contains(&rate),
            "{:.1} Mbit/s {direction:?}",
            rate / 1e6
        );
    }
    let node = &cluster.lab.node(1).ns;
    let shapers = || node.ip("-o link show type ifb").unwrap();
    assert_eq!(shapers().lines().count(), 1, "{}", shapers());
    runtimes[0].del(&shaped.ns, "pod-1", &arguments);
    assert_eq!(shapers(), "");
}

/// As multus and kubevirt attach pods: each network has its address, mapped ports and shapers,
/// and takes away its own alone.
#[test]
fn a_pod_in_two_networks_leaves_nothing_of_either() {
    if skips() {
        return;
    }
    let mut cluster = Cluster::empty(2, Regime::R1);
    cluster.join_without_pod(1);
    let first = Runtime::new(&cluster, 1, SHAPING);
    let second = first.beside(
        "second",
        "FLANNEL_NETWORK=10.222.0.0/16\nFLANNEL_SUBNET=10.222.7.1/24\n\
         FLANNEL_MTU=1400\nFLANNEL_IPMASQ=false\n",
    );
    let arguments = |port: u16| {
        json!({
            "portMappings": [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 1_000_000_000, "ingressBurst": 1_000_000,
                          "egressRate": 1_000_000_000, "egressBurst": 1_000_000},
        })
    };
    let node = &cluster.lab.node(1).ns;
    let pod = cluster.lab.namespace("pod").unwrap();
    let rules = || node.run(&["iptables-save", "-t", "nat"]).unwrap();
    let attached = [
        (&first, "eth0", arguments(8080)),
        (&second, "net1", arguments(8081)),
    ];
    for order in [[0, 1], [1, 0]] {
        for (network, ifname, arguments) in &attached {
            network.add_interface(&pod, ("pod", ifname), arguments);
        }
        let [gone, stays] = order.map(|number| &attached[number]);
        for _ in 0..2 {
            gone.0.del_interface(&pod, ("pod", gone.1), &gone.2);
            assert!(gone.0.attachments().is_empty() && gone.0.leases().is_empty());
            assert_eq!(stays.0.attachments(), [format!("pod:{}", stays.1)]);
            assert_eq!(stays.0.leases().len(), 1);
            assert!(pod.ip(&format!("link show {}", gone.1)).is_err());
            pod.ip(&format!("link show {}", stays.1)).unwrap();
            let port = stays.2["portMappings"][0]["hostPort"].to_string();
            assert!(rules().contains(&port), "{port}: {}", rules());
        }
        stays.0.del_interface(&pod, ("pod", stays.1), &stays.2);
        assert!(stays.0.attachments().is_empty() && stays.0.leases().is_empty());
        assert!(pod.ip(&format!("link show {}", stays.1)).is_err());
        let rules = rules();
        assert!(
            !rules.contains("--dport 808") && !rules.contains("10.222."),
            "{rules}"
        );
        assert_eq!(node.ip("-o link show type ifb").unwrap(), "");
    }
}
