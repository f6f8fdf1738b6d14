//! Pods with IPv6, beside IPv4 or alone, over an underlay that has both.

use crate::cluster::{Cluster, ENGINES, NEWS, PREFIX, lines_with};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use weft_lab::kernel::mac_of;
use weft_lab::topology::ping;
use weft_lab::{Agent, Lab, Namespace, Pod, Regime, skips_test, wait_until};

/// As [`crate::cluster::CONFIG`]: nodes have subnets up to number 127.
pub(crate) fn config(more: &str, kind: &str) -> String {
    format!(
        r#"{{{more}"EnableIPv6":true,"IPv6Network":"fd00:244::/48",
            "IPv6SubnetMax":"fd00:244:0:7f::","Backend":{{"Type":"{kind}"}}}}"#
    )
}

pub(crate) const BOTH: &str = r#""Network":"10.244.0.0/16","SubnetMax":"10.244.127.0","#;
pub(crate) const V6_ONLY: &str = r#""EnableIPv4":false,"#;

/// A pod and its IPv6 address.
pub(crate) struct Pod6 {
    pub(crate) pod: Pod,
    addr: Ipv6Addr,
}

/// A cluster without agents whose nodes have fd99::<number>, too.
pub(crate) fn empty(config: &str, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::configured(2, Regime::R1, config);
    cluster.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    add_underlay(&cluster.lab);
    cluster
}

/// Give nodes fd99::<number>.
pub(crate) fn add_underlay(lab: &Lab) {
    for node in lab.nodes() {
        node.ns.sysctl("net/ipv6/conf/all/forwarding", "1").unwrap();
        let address = format!("-6 address add fd99::{}/64 dev eth0 nodad", node.number);
        node.ns.ip(&address).unwrap();
    }
}

pub(crate) fn field<T: std::str::FromStr>(agent: &Agent, name: &str) -> Option<T> {
    let text = std::fs::read_to_string(agent.subnet_file()).unwrap();
    weft_lab::subnet_env::value(&text, name).unwrap()
}

/// Put a pod on a node with addresses of these subnets, which are written as their gateways.
pub(crate) fn attach(lab: &mut Lab, number: usize, v4: Ipv4Net, v6: Ipv6Net, mtu: u32) -> Pod6 {
    let pod = lab.attach_pod(number, v4, mtu).unwrap();
    let (gateway, len) = (v6.addr(), v6.prefix_len());
    let addr = Ipv6Addr::from(u128::from(gateway) + 1);
    let ns = &lab.node(number).ns;
    ns.ip(&format!("-6 address add {gateway}/{len} dev cni0 nodad"))
        .unwrap();
    pod.ns
        .ip(&format!("-6 address add {addr}/{len} dev eth0 nodad"))
        .unwrap();
    pod.ns
        .ip(&format!("-6 route add default via {gateway}"))
        .unwrap();
    Pod6 { pod, addr }
}

/// Start weft on a node and put a pod into the subnets it gets. Without IPv4 the pod's IPv4
/// address is one that nobody routes.
pub(crate) fn join(cluster: &mut Cluster, number: usize) -> Pod6 {
    let agent = cluster.launch(number);
    agent.wait_written().unwrap();
    let v4 = field(agent, "FLANNEL_SUBNET");
    let v6 = field(agent, "FLANNEL_IPV6_SUBNET").unwrap();
    let mtu = field(agent, "FLANNEL_MTU").unwrap();
    let nowhere = Ipv4Net::new([192, 168, number as u8, 1].into(), 24).unwrap();
    attach(&mut cluster.lab, number, v4.unwrap_or(nowhere), v6, mtu)
}

fn ping6(from: &Namespace, to: Ipv6Addr, count: u32, payload: u32) -> Result<(), String> {
    let [to, count, payload] = [to.to_string(), count.to_string(), payload.to_string()];
    let words = [
        "ping", "-6", "-q", "-n", "-i", "0.2", "-W", "1", "-M", "do", "-c", &count, "-s", &payload,
        &to,
    ];
    let output = from.run(&words).map_err(|error| error.to_string())?;
    match output.contains(" 0% packet loss") {
        true => Ok(()),
        false => Err(output),
    }
}

/// Send `len` bytes over TCP and compare them at the other end.
fn tcp6(from: &Pod6, to: &Pod6, len: usize) {
    let content: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
    let listener = to
        .pod
        .ns
        .enter(|| TcpListener::bind((to.addr, 0)))
        .unwrap()
        .unwrap();
    let at = listener.local_addr().unwrap();
    let mut stream = from
        .pod
        .ns
        .enter(|| TcpStream::connect(at))
        .unwrap()
        .unwrap();
    let (mut other, _) = listener.accept().unwrap();
    let received = thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut received = Vec::new();
            other.read_to_end(&mut received).map(|_| received)
        });
        stream.write_all(&content).unwrap();
        drop(stream);
        reader.join().unwrap().unwrap()
    });
    assert!(received == content, "{} of {len} bytes", received.len());
}

/// What pods may do to each other over IPv6, with packets that fill an MTU of 1430.
pub(crate) fn exchange6(a: &Pod6, b: &Pod6) {
    for (from, to) in [(a, b), (b, a)] {
        let mut last = Ok(());
        let reached = wait_until(NEWS, || {
            last = ping6(&from.pod.ns, to.addr, 1, 56);
            last.is_ok()
        });
        assert!(reached, "{}: {last:?}", to.addr);
        ping6(&from.pod.ns, to.addr, 5, 1_382).unwrap();
        tcp6(from, to, 4 << 20);
    }
}

pub(crate) fn exchange4(a: &Pod6, b: &Pod6) {
    for (from, to) in [(a, b), (b, a)] {
        let to = to.pod.address;
        let reached = || ping(&from.pod.ns, to, 1, 56, false).is_ok();
        assert!(wait_until(NEWS, reached), "{to}");
        ping(&from.pod.ns, to, 5, 1_402, true).unwrap();
    }
}

#[test]
fn dual_stack_vxlan_carries_both_families_with_either_engine() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = empty(&config(BOTH, "vxlan"), &[engine]);
        let [a, b] = [1, 2].map(|number| join(&mut cluster, number));
        exchange4(&a, &b);
        exchange6(&a, &b);

        let agent = &cluster.agents[&1];
        assert_eq!(field(agent, "FLANNEL_MTU"), Some(1430));
        let ns = &cluster.lab.node(1).ns;
        for (device, mtu) in [("flannel.1", 1450), ("flannel-v6.1", 1430)] {
            let shown = ns.ip(&format!("link show {device}")).unwrap();
            assert!(shown.contains(&format!("mtu {mtu}")), "{shown}");
        }
        let accept_ra = ["cat", "/proc/sys/net/ipv6/conf/flannel-v6.1/accept_ra"];
        assert_eq!(ns.run(&accept_ra).unwrap().trim(), "0");
        cluster.agents[&1].counters().unwrap();
        let log = agent.log_file();
        for device in ["flannel.1", "flannel-v6.1"] {
            let words = ["counters:", &format!("device={device} ")];
            let lines = lines_with(&log, &words);
            assert!(
                lines.iter().any(|line| line.contains("sends=")),
                "{lines:?}"
            );
        }
    }
}

#[test]
fn ipv6_alone_has_leases_of_its_own_and_no_ipv4_device() {
    if skips_test() {
        return;
    }
    let mut cluster = empty(&config(V6_ONLY, "vxlan"), &[]);
    let [a, b] = [1, 2].map(|number| join(&mut cluster, number));
    exchange6(&a, &b);
    let ns = &cluster.lab.node(1).ns;
    assert!(ns.ip("link show flannel.1").is_err());
    let agent = &cluster.agents[&1];
    assert_eq!(field::<String>(agent, "FLANNEL_SUBNET"), None);
    assert_eq!(field(agent, "FLANNEL_MTU"), Some(1430));
    let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[test]
fn dual_stack_host_gw_routes_both_families() {
    if skips_test() {
        return;
    }
    let mut cluster = empty(&config(BOTH, "host-gw"), &[]);
    let [a, b] = [1, 2].map(|number| join(&mut cluster, number));
    exchange4(&a, &b);
    exchange6(&a, &b);
    assert_eq!(field(&cluster.agents[&1], "FLANNEL_MTU"), Some(1500));
    let shown = cluster.lab.node(1).ns.ip("-6 route show").unwrap();
    assert!(shown.contains("via fd99::2 dev eth0"), "{shown}");
}

/// What flannel makes of a node with both families.
struct Kernel {
    number: usize,
    /// The node's subnets, written as their gateways.
    v4: Ipv4Net,
    v6: Ipv6Net,
}

/// What a device sends to another node by.
struct Way {
    device: &'static str,
    mac: String,
    subnet: IpNet,
    underlay: IpAddr,
}

impl Kernel {
    fn new(number: usize) -> Kernel {
        // The first in the range that nodes get subnets from.
        let id = 100 * number;
        Kernel {
            number,
            v4: format!("10.244.{id}.1/24").parse().unwrap(),
            v6: format!("fd00:244:0:{id:x}::1/64").parse().unwrap(),
        }
    }

    fn key(&self) -> String {
        let (v4, v6) = (self.v4.network(), self.v6.network());
        format!("{PREFIX}/subnets/{v4}-24&{v6}-64")
    }

    /// Devices flannel.1 and flannel-v6.1, a lease, a pod.
    fn join(&self, cluster: &mut Cluster) -> Pod6 {
        let number = self.number;
        let ns = cluster.lab.node(number).ns.clone();
        let (v4, v6) = (self.v4.network(), self.v6.network());
        add_kernel_device(&ns, "flannel.1", 1450, &format!("10.99.0.{number}"));
        add_kernel_device(&ns, "flannel-v6.1", 1430, &format!("fd99::{number}"));
        ns.ip(&format!("address add {v4}/32 dev flannel.1"))
            .unwrap();
        ns.ip(&format!("address add {v6}/128 dev flannel-v6.1 nodad"))
            .unwrap();
        let data = |device: &str| {
            let mac = mac_of(&ns, device).unwrap();
            format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)
        };
        let value = format!(
            r#"{{"PublicIP":"10.99.0.{number}","PublicIPv6":"fd99::{number}","BackendType":"vxlan","BackendData":{},"BackendV6Data":{}}}"#,
            data("flannel.1"),
            data("flannel-v6.1")
        );
        cluster
            .etcd
            .put_leased(&self.key(), &value, 86_400)
            .unwrap();
        attach(&mut cluster.lab, number, self.v4, self.v6, 1430)
    }

    /// Tell the node's kernel about another node by its lease, as flannel does.
    fn learn(&self, cluster: &Cluster, number: usize, key: &str) {
        let ns = &cluster.lab.node(self.number).ns;
        for way in ways(cluster, number, key) {
            let (device, mac, base) = (way.device, &way.mac, way.subnet.network());
            let (subnet, underlay) = (way.subnet, way.underlay.to_string());
            ns.ip(&format!(
                "neigh replace {base} lladdr {mac} dev {device} nud permanent"
            ))
            .unwrap();
            let fdb = ["bridge", "fdb", "replace", mac, "dev", device];
            let to = ["dst", &underlay, "self", "permanent"];
            ns.run(&[&fdb[..], &to].concat()).unwrap();
            ns.ip(&format!(
                "route replace {subnet} via {base} dev {device} onlink"
            ))
            .unwrap();
        }
    }
}

fn add_kernel_device(ns: &Namespace, device: &str, mtu: u32, local: &str) {
    ns.ip(&format!(
        "link add {device} mtu {mtu} type vxlan id 1 local {local} dev eth0 dstport 8472 \
         nolearning udpcsum"
    ))
    .unwrap();
    ns.ip(&format!("link set {device} up")).unwrap();
}

fn lease(cluster: &Cluster, key: &str) -> serde_json::Value {
    let value = cluster.etcd.get(key).unwrap();
    serde_json::from_str(&value.unwrap()).unwrap()
}

/// How the node of a lease with both families is reached.
fn ways(cluster: &Cluster, number: usize, key: &str) -> [Way; 2] {
    let lease = lease(cluster, key);
    let name = key.rsplit('/').next().unwrap();
    let (v4, v6) = name.split_once('&').unwrap();
    let way = |device, data: &str, subnet: &str, underlay: String| {
        let (base, len) = subnet.rsplit_once('-').unwrap();
        Way {
            device,
            mac: lease[data]["VtepMAC"].as_str().unwrap().to_owned(),
            subnet: format!("{base}/{len}").parse().unwrap(),
            underlay: underlay.parse().unwrap(),
        }
    };
    [
        way("flannel.1", "BackendData", v4, format!("10.99.0.{number}")),
        way(
            "flannel-v6.1",
            "BackendV6Data",
            v6,
            format!("fd99::{number}"),
        ),
    ]
}

fn keys(cluster: &Cluster) -> Vec<String> {
    cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap()
}

#[test]
fn dual_stack_vxlan_exchanges_both_families_with_kernel_vxlan() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = empty(&config(BOTH, "vxlan"), &[engine]);
        let node = Kernel::new(2);
        let kernel = node.join(&mut cluster);
        let weft = join(&mut cluster, 1);
        let keys = keys(&cluster);
        let own = keys.iter().find(|&key| *key != node.key()).unwrap();
        node.learn(&cluster, 1, own);
        exchange4(&weft, &kernel);
        exchange6(&weft, &kernel);
    }
}

/// The only line of node 1's log that says that a kernel device is taken over.
fn assert_taken_over(cluster: &Cluster, device: &str) {
    let log = cluster.agents[&1].log_file();
    let words = ["taking over", &format!("device {device},")];
    assert_eq!(lines_with(&log, &words).len(), 1, "{device}");
    let ns = &cluster.lab.node(1).ns;
    let shown = ns.ip(&format!("-d link show {device}")).unwrap();
    assert!(shown.contains("tun type tun"), "{shown}");
}

#[test]
fn dual_stack_kernel_devices_of_both_families_are_taken_over() {
    if skips_test() {
        return;
    }
    let mut cluster = empty(&config(BOTH, "vxlan"), &[]);
    let nodes = [1, 2].map(Kernel::new);
    let [a, b] = nodes.each_ref().map(|node| node.join(&mut cluster));
    nodes[0].learn(&cluster, 2, &nodes[1].key());
    nodes[1].learn(&cluster, 1, &nodes[0].key());
    exchange4(&a, &b);
    exchange6(&a, &b);
    let before = lease(&cluster, &nodes[0].key());

    // Node 2 is told nothing: it goes on with the MACs and the lease that it knows.
    cluster.launch(1).wait_written().unwrap();
    exchange4(&a, &b);
    exchange6(&a, &b);
    for device in ["flannel.1", "flannel-v6.1"] {
        assert_taken_over(&cluster, device);
    }
    assert_eq!(keys(&cluster).len(), 2);
    assert_eq!(lease(&cluster, &nodes[0].key()), before);
}

#[test]
fn ipv6_alone_the_kernel_device_is_taken_over() {
    if skips_test() {
        return;
    }
    let mut cluster = empty(&config(V6_ONLY, "vxlan"), &[]);
    let a = join(&mut cluster, 1);
    let own = keys(&cluster).remove(0);
    let b = join(&mut cluster, 2);
    exchange6(&a, &b);

    // flanneld in weft's place: a kernel device, whose MAC is in the lease.
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let ns = cluster.lab.node(1).ns.clone();
    ns.ip("link del flannel-v6.1").unwrap();
    add_kernel_device(&ns, "flannel-v6.1", 1430, "fd99::1");
    let mac = mac_of(&ns, "flannel-v6.1").unwrap();
    let mut value = lease(&cluster, &own);
    assert_ne!(value["BackendV6Data"]["VtepMAC"], *mac);
    value["BackendV6Data"]["VtepMAC"] = mac.into();
    cluster
        .etcd
        .put_leased(&own, &value.to_string(), 86_400)
        .unwrap();

    let agent = cluster.agents.get_mut(&1).unwrap();
    agent.start_again().unwrap();
    agent.wait_written().unwrap();
    exchange6(&a, &b);
    assert_taken_over(&cluster, "flannel-v6.1");
    assert_eq!(keys(&cluster).len(), 2);
    assert_eq!(lease(&cluster, &own), value);
}
