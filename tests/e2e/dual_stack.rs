//! Pods with IPv6, beside IPv4 or alone, over an underlay that has both.

use crate::cluster::{Cluster, ENGINES, NEWS, PREFIX};
use ipnet::{Ipv4Net, Ipv6Net};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::thread;
use weft_benches::lab::kernel::mac_of;
use weft_benches::lab::topology::ping;
use weft_benches::lab::{Agent, Lab, Namespace, Pod, Regime, netns, skips_test};

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
    pod: Pod,
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
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.strip_prefix('=')?.parse().ok())
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
        "ping", "-6", "-q", "-n", "-i", "0.05", "-W", "1", "-M", "do", "-c", &count, "-s",
        &payload, &to,
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
        let reached = netns::wait_until(NEWS, || {
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
        assert!(netns::wait_until(NEWS, reached), "{to}");
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
            let lines = crate::cluster::lines_with(&log, &words);
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

/// Make node 2 what flannel makes of a node with both families: the subnets 10.244.200.0/24
/// and fd00:244:0:c8::/64, devices flannel.1 and flannel-v6.1, a lease, a pod.
fn join_kernel(cluster: &mut Cluster) -> Pod6 {
    let v4: Ipv4Net = "10.244.200.1/24".parse().unwrap();
    let v6: Ipv6Net = "fd00:244:0:c8::1/64".parse().unwrap();
    let ns = cluster.lab.node(2).ns.clone();
    for (device, mtu, local, address) in [
        ("flannel.1", 1450, "10.99.0.2", "10.244.200.0/32"),
        ("flannel-v6.1", 1430, "fd99::2", "fd00:244:0:c8::/128"),
    ] {
        ns.ip(&format!(
            "link add {device} mtu {mtu} type vxlan id 1 local {local} dev eth0 dstport 8472 \
             nolearning udpcsum"
        ))
        .unwrap();
        ns.ip(&format!("address add {address} dev {device}"))
            .unwrap();
        ns.ip(&format!("link set {device} up")).unwrap();
    }
    let data = |device: &str| {
        let mac = mac_of(&ns, device).unwrap();
        format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#)
    };
    let value = format!(
        r#"{{"PublicIP":"10.99.0.2","PublicIPv6":"fd99::2","BackendType":"vxlan","BackendData":{},"BackendV6Data":{}}}"#,
        data("flannel.1"),
        data("flannel-v6.1")
    );
    let key = format!("{PREFIX}/subnets/10.244.200.0-24&fd00:244:0:c8::-64");
    cluster.etcd.put_leased(&key, &value, 86_400).unwrap();
    attach(&mut cluster.lab, 2, v4, v6, 1430)
}

#[test]
fn dual_stack_vxlan_exchanges_both_families_with_kernel_vxlan() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = empty(&config(BOTH, "vxlan"), &[engine]);
        let kernel = join_kernel(&mut cluster);
        let weft = join(&mut cluster, 1);
        let agent = &cluster.agents[&1];
        let v4: Ipv4Net = field(agent, "FLANNEL_SUBNET").unwrap();
        let v6: Ipv6Net = field(agent, "FLANNEL_IPV6_SUBNET").unwrap();
        let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
        let own = keys.iter().find(|key| !key.contains("10.244.200.0"));
        let value = cluster.etcd.get(own.unwrap()).unwrap().unwrap();
        let value: serde_json::Value = serde_json::from_str(&value).unwrap();
        let ns = &cluster.lab.node(2).ns;
        for (device, data, subnet, base, underlay) in [
            (
                "flannel.1",
                "BackendData",
                v4.trunc().to_string(),
                v4.network().to_string(),
                "10.99.0.1",
            ),
            (
                "flannel-v6.1",
                "BackendV6Data",
                v6.trunc().to_string(),
                v6.network().to_string(),
                "fd99::1",
            ),
        ] {
            let mac = value[data]["VtepMAC"].as_str().unwrap();
            ns.ip(&format!(
                "neigh replace {base} lladdr {mac} dev {device} nud permanent"
            ))
            .unwrap();
            let fdb = [
                "bridge",
                "fdb",
                "replace",
                mac,
                "dev",
                device,
                "dst",
                underlay,
                "self",
                "permanent",
            ];
            ns.run(&fdb).unwrap();
            ns.ip(&format!(
                "route replace {subnet} via {base} dev {device} onlink"
            ))
            .unwrap();
        }
        exchange4(&weft, &kernel);
        exchange6(&weft, &kernel);
    }
}
