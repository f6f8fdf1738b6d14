//! Backends and their options between two nodes: flannel's own functional tests (rows F of
//! docs/flannel-compatibility.md) and what it has none for.

use crate::cluster::{Cluster, ENGINES, NEWS, PREFIX, lines_with};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::time::Duration;
use weft_lab::topology::ping;
use weft_lab::{
    Agent, AgentOptions, Lab, Namespace, Regime, SubnetEnv, Vtep, VxlanSpec, skips_test, wait_until,
};

/// As [`crate::cluster::CONFIG`]: nodes have the lower half of the network.
fn config(backend: &str) -> String {
    format!(r#"{{"Network":"10.244.0.0/16","SubnetMax":"10.244.127.0","Backend":{backend}}}"#)
}

/// Two nodes with pods, both with this backend, that reach each other.
fn two_nodes(backend: &str) -> Cluster {
    let mut cluster = Cluster::configured(2, Regime::R1, &config(backend));
    for number in [1, 2] {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    cluster
}

/// Give a node an address of its own inside `subnet`, as flannel's tests do with a dummy
/// device. A bridge without ports does the same on kernels that have no dummy devices.
fn add_dummy(ns: &Namespace, device: &str, subnet: Ipv4Net) -> Ipv4Addr {
    ns.ip(&format!("link add {device} type bridge")).unwrap();
    ns.ip(&format!("address add {subnet} dev {device}"))
        .unwrap();
    ns.ip(&format!("link set {device} up")).unwrap();
    subnet.addr()
}

/// The steps that flannel's functional tests have in common.
fn common_steps(backend: &str) {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::configured(2, Regime::R1, &config(backend));
    let addresses = [1, 2].map(|number| {
        let env = cluster.join_without_pod(number);
        add_dummy(&cluster.lab.node(number).ns, "dummy0", env.subnet)
    });
    for (number, own, other) in [(1, 0, 1), (2, 1, 0)] {
        let ns = &cluster.lab.node(number).ns;
        let (own, other) = (addresses[own].to_string(), addresses[other].to_string());
        let mut last = String::new();
        // The file does not say that the routes are there.
        let reached = wait_until(NEWS, || {
            let result = ns.run(&[
                "ping", "-c", "3", "-i", "0.2", "-W", "1", "-I", &own, &other,
            ]);
            last = format!("{result:?}");
            last.contains(" 0% packet loss")
        });
        assert!(reached, "node {number}: {last}");
    }
}

#[test]
fn f1_vxlan_common_steps() {
    common_steps(r#"{"Type":"vxlan"}"#);
}

#[test]
fn f3_host_gw_common_steps() {
    common_steps(r#"{"Type":"host-gw"}"#);
}

fn second_agent(lab: &Lab, cluster: &Cluster, number: usize, name: &str) -> (Agent, SubnetEnv) {
    let mut options = AgentOptions::new(crate::cluster::weft(), cluster.etcd.endpoint());
    options.prefix = format!("/{name}/network");
    options.name = name.to_owned();
    options.flags = ["-ip-masq", "-iptables-resync=1"].map(str::to_owned).into();
    let mut agent = Agent::start(lab, number, options).unwrap();
    let env = agent.wait_ready().unwrap();
    (agent, env)
}

/// Each agent looks after its rules and leaves those of the other alone.
fn assert_stable_rules(node: &Namespace) {
    let rules = || node.run(&["iptables", "-t", "nat", "-S", "FLANNEL-POSTRTG"]);
    let both = |rules: &str| ["10.11.0.0/16", "10.12.0.0/16"].map(|net| rules.contains(net));
    let complete = wait_until(NEWS, || rules().is_ok_and(|r| both(&r) == [true; 2]));
    let before = rules();
    assert!(complete, "{before:?}");
    let before = before.unwrap();
    // Two periods of -iptables-resync=1, and more.
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(rules().unwrap(), before);
    }
}

#[test]
fn f8_two_agents_on_each_node() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    for (name, network, kind) in [("vxlan", "10.11", "vxlan"), ("hostgw", "10.12", "host-gw")] {
        let text = format!(r#"{{"Network":"{network}.0.0/16","Backend":{{"Type":"{kind}"}}}}"#);
        cluster
            .etcd
            .put(&format!("/{name}/network/config"), &text)
            .unwrap();
    }
    let mut agents = Vec::new();
    let mut address = |number: usize, name: &str| {
        let (agent, env) = second_agent(&cluster.lab, &cluster, number, name);
        agents.push(agent);
        add_dummy(&cluster.lab.node(number).ns, name, env.subnet)
    };
    let [_, vxlan] = [1, 2].map(|number| address(number, "vxlan"));
    let [_, hostgw] = [1, 2].map(|number| address(number, "hostgw"));
    let from = &cluster.lab.node(1).ns;
    assert_stable_rules(from);
    for to in [vxlan, hostgw] {
        let reached = wait_until(NEWS, || ping(from, to, 1, 56, false).is_ok());
        assert!(reached, "{to}");
    }
    // As in a container: the default route leads to a gateway that knows none of the networks.
    from.ip("route add default via 10.99.0.254").unwrap();
    let through = |device: &str, to: Ipv4Addr| {
        let to = to.to_string();
        from.run(&["ping", "-c", "2", "-i", "0.2", "-W", "1", "-I", device, &to])
    };
    assert!(through("flannel.1", hostgw).is_err());
    assert!(through("eth0", vxlan).is_err());
}

#[test]
fn alloc_gives_a_subnet_and_nothing_else() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::configured(2, Regime::R1, &config(r#"{"Type":"alloc"}"#));
    let env = cluster.join_without_pod(1);
    assert_eq!(env.mtu, 1500);
    let ns = &cluster.lab.node(1).ns;
    assert!(ns.ip("link show flannel.1").is_err());
    assert_eq!(ns.ip("route show 10.244.0.0/16").unwrap(), "");
    let key = format!("{PREFIX}/subnets/{}-24", env.subnet.network());
    let value = cluster.etcd.get(&key).unwrap().unwrap();
    assert_eq!(value, r#"{"PublicIP":"10.99.0.1","PublicIPv6":null}"#);
}

#[test]
fn a_backend_that_cannot_be_had_ends_the_agent_with_one_line() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    for (backend, words) in [
        (
            r#"{"Type":"ipsec"}"#,
            ["Backend Type ipsec", "vxlan, udp, host-gw, alloc"],
        ),
        (r#"{"Type":"vxlan","VNI":"one"}"#, ["VNI", "one"]),
        (r#"{"Type":"vxlan","Port":70000}"#, ["Port", "70000"]),
        (
            r#"{"Type":"vxlan","Learning":true}"#,
            ["Learning", "set it to false"],
        ),
    ] {
        cluster
            .etcd
            .put(&format!("{PREFIX}/config"), &config(backend))
            .unwrap();
        let options = AgentOptions::new(crate::cluster::weft(), cluster.etcd.endpoint());
        let mut agent = Agent::start(&cluster.lab, 1, options).unwrap();
        let status = agent.wait(Duration::from_secs(10)).unwrap();
        assert_eq!(status.code(), Some(1), "{backend}");
        let said = lines_with(&agent.log_file(), &words);
        assert_eq!(said.len(), 1, "{said:?}");
    }
    let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
    assert_eq!(keys, [""; 0], "a node that cannot run takes no lease");
}

#[test]
fn vxlan_options_are_kept_to() {
    if skips_test() {
        return;
    }
    let backend = r#"{"Type":"VXLAN","vni":4097,"Port":4789,"MTU":1400}"#;
    let cluster = two_nodes(backend);
    let agent = &cluster.agents[&1];
    assert_eq!(agent.subnet_env().unwrap().mtu, 1350);
    let ns = &cluster.lab.node(1).ns;
    let device = ns.ip("link show flannel.4097").unwrap();
    assert!(device.contains("mtu 1350"), "{device}");
    let sockets = ns.run(&["ss", "-Hlun"]).unwrap();
    assert!(
        sockets.contains(":4789 ") && !sockets.contains(":8472 "),
        "{sockets}"
    );
    let value = cluster.etcd.get(&cluster.lease_key(1)).unwrap().unwrap();
    assert!(value.contains(r#""BackendData":{"VNI":4097,"#), "{value}");
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    ping(&a.ns, b.address, 3, 1_322, true).unwrap();
    assert!(ping(&a.ns, b.address, 1, 1_323, true).is_err());
}

#[test]
fn s85_options_frames_with_a_group_policy_are_taken_with_gbp_only() {
    if skips_test() {
        return;
    }
    for (backend, taken) in [
        (r#"{"Type":"vxlan","GBP":true}"#, true),
        (r#"{"Type":"vxlan"}"#, false),
    ] {
        let mut cluster = Cluster::configured(2, Regime::R1, &config(backend));
        let spec = VxlanSpec {
            gbp: true,
            ..VxlanSpec::flannel(1)
        };
        cluster.join_kernel_as(2, "10.244.200.1/24", spec);
        cluster.join(1);
        cluster.introduce(1, 2);
        cluster.await_path(1, 2);
        // The kernel makes a policy of the mark of what it sends.
        let pod = cluster.pod(1).address.to_string();
        let marked = ["ping", "-c", "3", "-i", "0.2", "-W", "1", "-m", "291", &pod];
        let answered = cluster.lab.node(2).ns.run(&marked).is_ok();
        assert_eq!(answered, taken, "{backend}");
        let dropped = cluster.counter(1, "drop_bad_vxlan");
        assert_eq!(dropped == 0, taken, "{dropped} with {backend}");
    }
}

#[test]
fn s85_directrouting_has_the_tunnel_behind_it() {
    if skips_test() {
        return;
    }
    let mut cluster = two_nodes(r#"{"Type":"vxlan","DirectRouting":true}"#);
    let subnet = cluster.lab.node(2).subnet.unwrap();
    let (ns, pod) = (cluster.lab.node(1).ns.clone(), cluster.pod(1).ns.clone());
    let to = cluster.pod(2).address;
    let shown = || ns.ip(&format!("route show {subnet}")).unwrap();
    let there = || shown().starts_with(&format!("{subnet} via 10.99.0.2 dev eth0"));
    assert!(wait_until(NEWS, there), "{}", shown());
    let before = cluster.counter(1, "sends");
    ping(&pod, to, 5, 56, false).unwrap();
    assert_eq!(cluster.counter(1, "sends"), before, "past the tunnel");

    ns.ip(&format!("route del {subnet}")).unwrap();
    ping(&pod, to, 3, 56, false).unwrap();
    assert!(cluster.counter(1, "sends") > before, "through the tunnel");
    assert!(wait_until(Duration::from_secs(15), there), "restored");

    let key = cluster.lease_key(2);
    cluster.agents.get_mut(&2).unwrap().stop().unwrap();
    cluster.etcd.delete(&key).unwrap();
    let gone = wait_until(NEWS, || shown().is_empty());
    assert!(gone, "{}", shown());
}

#[test]
fn a_kernel_device_is_taken_over_and_given_back() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(2, Regime::R1);
    cluster.join_kernel(1, "10.244.100.1/24");
    cluster.join_kernel(2, "10.244.200.1/24");
    let meet = |cluster: &Cluster, a: usize, b: usize| {
        let peer = cluster.vteps[&b].as_peer();
        cluster.vteps[&a].learn(&peer).unwrap();
        cluster.vteps[&a].route(&peer).unwrap();
    };
    meet(&cluster, 1, 2);
    meet(&cluster, 2, 1);
    cluster.await_path(1, 2);
    let mac = cluster.mac(1);

    // Node 2 is told nothing: it goes on with the MAC and the lease it knows.
    let env = cluster.join_without_pod(1);
    assert_eq!(env.subnet.trunc(), "10.244.100.0/24".parse().unwrap());
    assert_eq!(cluster.mac(1), mac);
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
    let log = cluster.agents[&1].log_file();
    assert_eq!(lines_with(&log, &["taking over", "flannel.1"]).len(), 1);

    // flanneld deletes what is no VXLAN device and makes one of its own.
    cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    let ns = cluster.lab.node(1).ns.clone();
    ns.ip("link del flannel.1").unwrap();
    let subnet = "10.244.100.1/24".parse().unwrap();
    let vtep = Vtep::create(&cluster.lab, 1, VxlanSpec::flannel(1), subnet).unwrap();
    cluster.vteps.insert(1, vtep);
    meet(&cluster, 1, 2);
    meet(&cluster, 2, 1);
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
}

#[test]
fn a_device_that_is_removed_or_set_down_comes_back_with_its_peers() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        device_comes_back(&Cluster::of_weft_with(2, Regime::R1, &[engine]));
    }
}

fn device_comes_back(cluster: &Cluster) {
    let mac = cluster.mac(1);
    let ns = &cluster.lab.node(1).ns;
    for harm in [
        "link del flannel.1",
        "link set flannel.1 down",
        "link del flannel.1",
    ] {
        ns.ip(harm).unwrap();
        cluster.await_path(1, 2);
        cluster.await_path(2, 1);
    }
    assert_eq!(cluster.mac(1), mac);
    ns.ip("address flush dev flannel.1").unwrap();
    let back = wait_until(Duration::from_secs(15), || {
        ns.ip("route show 10.244.0.0/16")
            .is_ok_and(|route| !route.is_empty())
    });
    assert!(back, "address and route are mended");
    cluster.await_path(1, 2);
}
