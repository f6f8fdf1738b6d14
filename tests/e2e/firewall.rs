//! Masquerading and forward rules, in both flavours.

use crate::cluster::{CONFIG, Cluster, WORKERS, new_lab};
use crate::errors::{Errors, count};
use crate::pods::exchange;
use crate::traffic::{tcp, tcp_back, udp, udp_super};
use crate::tunnel_gso::leaves_whole;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::time::Duration;
use weft_lab::topology::ping;
use weft_lab::{Namespace, Pod, Regime, skips_test, wait_until};

const NFTABLES: &str =
    r#"{"Network":"10.244.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

const DUAL: &str = r#"{"Network":"10.244.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:244::/56",
    "Backend":{"Type":"vxlan"}}"#;

/// How long a repair may take with `-iptables-resync=1`, on a busy machine.
const REPAIR: Duration = Duration::from_secs(10);

/// Two nodes with this network config and these flags, prepared before any agent starts.
fn cluster(config: &str, flags: &[&str], prepare: &[&str]) -> Cluster {
    let lab = new_lab(2, Regime::R1);
    if !prepare.is_empty() {
        for node in lab.nodes() {
            node.ns.run(prepare).unwrap();
        }
    }
    Cluster::in_lab(lab, config).filled(flags)
}

/// The address that a server in `to` sees a pod's connection come from.
pub(crate) fn source_seen(from: &Pod, to: &Namespace, address: IpAddr) -> IpAddr {
    let listener = to.enter(|| TcpListener::bind((address, 0)));
    let listener = listener.unwrap().unwrap();
    let server = listener.local_addr().unwrap();
    let limit = Duration::from_secs(10);
    let client = from.ns.enter(|| TcpStream::connect_timeout(&server, limit));
    let _client = client.unwrap().unwrap();
    listener.accept().unwrap().1.ip()
}

/// What a pod's peers see of it: a pod of the other node, and the other node itself.
fn sources(cluster: &Cluster) -> (IpAddr, IpAddr) {
    let (from, to) = (cluster.pod(1), cluster.pod(2));
    let node = cluster.lab.node(2);
    (
        source_seen(from, &to.ns, to.address.into()),
        source_seen(from, &node.ns, node.underlay.into()),
    )
}

fn subnet_file(cluster: &Cluster, number: usize) -> String {
    std::fs::read_to_string(cluster.agents[&number].subnet_file()).unwrap()
}

#[test]
fn pods_keep_their_address_inside_and_get_the_nodes_outside() {
    if skips_test() {
        return;
    }
    for config in [CONFIG, NFTABLES] {
        let cluster = cluster(config, &["-ip-masq"], &[]);
        let (pod, node) = (cluster.pod(1).address, cluster.lab.node(1).underlay);
        assert_eq!(sources(&cluster), (pod.into(), node.into()), "{config}");
        assert!(subnet_file(&cluster, 1).contains("FLANNEL_IPMASQ=true\n"));
        let errors = Errors::of(&cluster);
        exchange(&cluster, 1, 2);
        errors.assert_none_since(&cluster);
    }
}

/// A container of another network on a node: to pods it has the address of the node's tunnel.
fn guest(cluster: &Cluster, number: usize) -> Pod {
    let (node, ns) = (&cluster.lab.node(number).ns, Namespace::unnamed().unwrap());
    let address = Ipv4Addr::new(172, 30, 0, 2);
    for words in [
        format!(
            "link add guest mtu 1450 type veth peer name eth0 mtu 1450 netns {}",
            ns.name()
        ),
        "addr add 172.30.0.1/24 dev guest".to_owned(),
        "link set guest up".to_owned(),
    ] {
        node.ip(&words).unwrap();
    }
    for words in [
        &format!("addr add {address}/24 dev eth0"),
        "link set eth0 up",
        "route add default via 172.30.0.1",
    ] {
        ns.ip(words).unwrap();
    }
    Pod { ns, address }
}

/// A node as what has its underlay address towards a pod, as programs that are bound to it.
fn host(cluster: &Cluster, number: usize, to: &Pod) -> Pod {
    let (ns, address) = (
        cluster.lab.node(number).ns.clone(),
        cluster.lab.node(number).underlay,
    );
    let route = format!("route add {}/32 dev flannel.1 src {address}", to.address);
    ns.ip(&route).unwrap();
    Pod { ns, address }
}

/// Everything that comes in super-packets, to a pod and back, from a source that is masqueraded.
fn exchange_masqueraded(cluster: &Cluster, from: &Pod, to: &Pod) {
    let tunnel = cluster.lab.node(1).subnet.unwrap().network();
    assert_eq!(source_seen(from, &to.ns, to.address.into()), tunnel);
    let sent = || ["tun_reads", "frames_sent"].map(|name| cluster.counter(1, name));
    let [reads, frames] = sent();
    tcp(from, to, 4, 4 << 20);
    let [reads_then, frames_then] = sent();
    let (reads, frames) = (reads_then - reads, frames_then - frames);
    assert!(frames > 4 * (4 << 20) / 1_400, "{frames}");
    assert!(
        reads < frames / 2,
        "{reads} packets of {frames} frames: they were cut"
    );
    tcp_back(from, to, 4, 4 << 20);
    udp(from, to, &[0, 64, 1_400, 8_000], 20);
    udp_super(from, to, 1_200, 40, 77);
    udp_super(from, to, 1_422, 12, 0);
}

/// The kernel changes the source of a super-packet before a program or a worker has it.
#[test]
fn masqueraded_super_packets_arrive_whole() {
    if skips_test() {
        return;
    }
    for (way, regime) in ["on", "off"]
        .into_iter()
        .flat_map(|way| [(way, Regime::R1), (way, Regime::R3)])
    {
        let flags = ["-ip-masq", &format!("-fast-path={way}")];
        let cluster = Cluster::of_weft_with(2, regime, &flags);
        let (guest, to) = (guest(&cluster, 1), cluster.pod(2));
        let errors = Errors::of(&cluster);
        exchange_masqueraded(&cluster, &guest, to);
        exchange_masqueraded(&cluster, &host(&cluster, 1, to), to);
        errors.assert_none_since(&cluster);
        for protocol in ["Tcp", "Udp"] {
            assert_eq!(
                count(&guest.ns, protocol, "InCsumErrors"),
                0,
                "{way}, {regime}"
            );
        }
        let fast = cluster.counter(1, "fast_sends");
        assert_eq!(fast > 1_000, way == "on", "{way}, {regime}: {fast}");
    }
}

/// Give the first pod of a node an address in the node's IPv6 subnet.
fn add_ipv6(cluster: &Cluster, number: usize) -> Ipv6Addr {
    let env = subnet_file(cluster, number);
    let gateway = env
        .lines()
        .find_map(|line| line.strip_prefix("FLANNEL_IPV6_SUBNET="));
    let gateway: ipnet::Ipv6Net = gateway.unwrap().parse().unwrap();
    let address = Ipv6Addr::from(u128::from(gateway.addr()) + 1);
    let (node, pod) = (&cluster.lab.node(number).ns, &cluster.pod(number).ns);
    node.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
    let add = |ns: &Namespace, address: Ipv6Addr, device: &str| {
        let len = gateway.prefix_len();
        ns.ip(&format!("addr add {address}/{len} dev {device} nodad"))
            .unwrap();
    };
    add(node, gateway.addr(), "cni0");
    add(pod, address, "eth0");
    pod.ip(&format!("-6 route add default via {}", gateway.addr()))
        .unwrap();
    address
}

#[test]
fn pods_with_ipv6_keep_their_address_inside_and_get_the_nodes_outside() {
    if skips_test() {
        return;
    }
    let lab = new_lab(2, Regime::R1);
    let underlay = |number: usize| format!("fd00:99::{number}").parse::<Ipv6Addr>().unwrap();
    for node in lab.nodes() {
        let address = underlay(node.number);
        let add = format!("addr add {address}/64 dev eth0 nodad");
        node.ns.ip(&add).unwrap();
        node.ns
            .run(&["ip6tables", "-P", "FORWARD", "DROP"])
            .unwrap();
    }
    let cluster = Cluster::in_lab(lab, DUAL).filled(&["-ip-masq"]);
    let [pod, peer] = [1, 2].map(|number| add_ipv6(&cluster, number));
    let (from, to) = (cluster.pod(1), cluster.pod(2));
    assert_eq!(source_seen(from, &to.ns, peer.into()), IpAddr::V6(pod));
    let seen = source_seen(from, &cluster.lab.node(2).ns, underlay(2).into());
    assert_eq!(seen, IpAddr::V6(underlay(1)));
}

#[test]
fn without_ip_masq_pods_keep_their_address_everywhere() {
    if skips_test() {
        return;
    }
    let cluster = cluster(CONFIG, &[], &[]);
    let pod = cluster.pod(1).address;
    assert_eq!(sources(&cluster), (pod.into(), pod.into()));
    assert!(subnet_file(&cluster, 1).contains("FLANNEL_IPMASQ=false\n"));
    let nat = ["iptables-save", "-t", "nat"];
    let nat = cluster.lab.node(1).ns.run(&nat).unwrap();
    assert!(!nat.contains("FLANNEL"), "{nat}");
}

#[test]
fn pods_reach_each_other_through_a_forward_chain_that_drops() {
    if skips_test() {
        return;
    }
    let drop = ["iptables", "-P", "FORWARD", "DROP"];
    let cluster = cluster(CONFIG, &["-iptables-resync=1"], &drop);
    let errors = Errors::of(&cluster);
    exchange(&cluster, 1, 2);
    errors.assert_none_since(&cluster);

    // Somebody clears the chain: within a period the rules are back.
    let node = &cluster.lab.node(2).ns;
    node.run(&["iptables", "-F", "FLANNEL-FWD"]).unwrap();
    node.run(&["iptables", "-F", "FORWARD"]).unwrap();
    let repaired = wait_until(REPAIR, || {
        let rules = node.run(&["iptables", "-S"]).unwrap();
        rules.matches("FLANNEL-FWD").count() == 4
    });
    assert!(repaired, "{}", node.run(&["iptables", "-S"]).unwrap());
    cluster.await_path(1, 2);
}

#[test]
fn super_packets_pass_a_forward_chain_that_drops() {
    if skips_test() {
        return;
    }
    let drop = ["iptables", "-P", "FORWARD", "DROP"];
    let cluster = cluster(CONFIG, &[WORKERS], &drop);
    leaves_whole(&cluster);
    let rules = cluster.lab.node(1).ns.run(&["iptables", "-S"]).unwrap();
    assert!(rules.contains("-A WEFT-FWD -i weft.1 "), "{rules}");
}

#[test]
fn without_forward_rules_a_forward_chain_that_drops_does_so() {
    if skips_test() {
        return;
    }
    let lab = new_lab(2, Regime::R1);
    let mut cluster = Cluster::in_lab(lab, CONFIG);
    cluster.flags = vec!["-iptables-forward-rules=false".into()];
    cluster.join(1);
    cluster.join(2);
    cluster.await_path(1, 2);
    let node = &cluster.lab.node(1).ns;
    node.run(&["iptables", "-P", "FORWARD", "DROP"]).unwrap();
    let (from, to) = (cluster.pod(1), cluster.pod(2));
    ping(&from.ns, to.address, 2, 56, false).unwrap_err();
    node.run(&["iptables", "-P", "FORWARD", "ACCEPT"]).unwrap();
    cluster.await_path(1, 2);
}

#[test]
fn rules_outlive_the_agent_and_go_with_a_change_of_flavour() {
    if skips_test() {
        return;
    }
    let mut cluster = cluster(CONFIG, &["-ip-masq"], &[]);
    let node = cluster.lab.node(1).ns.clone();
    let saved = || node.run(&["iptables-save"]).unwrap();
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let lines = |saved: String| saved.matches("FLANNEL-").count();
    assert_eq!(lines(saved()), 2 + 7 + 3, "two chains and their rules");

    let key = format!("{}/config", crate::cluster::PREFIX);
    cluster.etcd.put(&key, NFTABLES).unwrap();
    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_again().unwrap();
    agent.wait_ready().unwrap();
    assert_eq!(lines(saved()), 0, "{}", saved());
    assert!(!saved().contains("WEFT-FWD"), "{}", saved());
    let tables = node.run(&["nft", "list", "tables"]).unwrap();
    assert!(tables.contains("table ip flannel-ipv4"), "{tables}");
    cluster.await_path(1, 2);
}
