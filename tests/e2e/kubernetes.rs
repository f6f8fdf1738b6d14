//! weft's image in Kubernetes' hands: the DaemonSet of `deploy/kubernetes` and pods beside it,
//! run on two nodes by a containerd each, as kubelet has it run them.

mod images;
mod kubelet;
mod messages;
mod rights;
mod runtime;

use crate::cluster::{NEWS, new_lab};
use images::{busybox, image, page};
use ipnet::Ipv4Net;
use kubelet::{Extra, Kubelet, Pod};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;
use weft_lab::kube::{ApiOptions, ApiServer, StreamingLists, USER, nodes};
use weft_lab::{Lab, Namespace, Regime, skips_test_without, wait_until};

const MANIFEST: &str = include_str!("../../deploy/kubernetes/base/weft.yml");

const FLANNELS: &str = include_str!("../manifests/kube-flannel.yml");

fn skips() -> bool {
    skips_test_without(&[
        ("containerd", "containerd"),
        ("mmdebstrap", "mmdebstrap"),
        ("/bin/busybox", "busybox-static"),
        ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ])
}

/// An API server with both nodes, as the controller manager has given them subnets, and with what
/// the manifest has for the agents' account.
fn api_server(lab: &Lab, objects: &[Value]) -> ApiServer {
    let options = ApiOptions {
        address: SocketAddr::from((lab.node(1).underlay, 6443)),
        namespace: Some(lab.node(1).ns.clone()),
        // Others are asked for no lists.
        streaming_lists: StreamingLists::TurnedOff,
        ..ApiOptions::default()
    };
    let api = ApiServer::start(options).unwrap();
    for object in objects {
        let kind = match object["kind"].as_str().unwrap() {
            "ClusterRole" => "clusterroles.rbac.authorization.k8s.io",
            "ClusterRoleBinding" => "clusterrolebindings.rbac.authorization.k8s.io",
            _ => continue,
        };
        api.put(kind, object.clone());
    }
    for number in 1..=2 {
        let subnet = format!("10.244.{number}.0/24");
        api.put_node(nodes::realistic(&node_name(number), &[&subnet]));
    }
    api
}

/// What a node is called in the cluster.
fn node_name(number: usize) -> String {
    format!("n{number}")
}

/// The objects of a manifest.
fn objects(manifest: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(manifest);
    let values = documents.map(|one| serde::Deserialize::deserialize(one).unwrap());
    values.collect()
}

fn daemon_set(objects: &[Value]) -> &Value {
    objects
        .iter()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap()
}

/// The answer to a request for `path` at an address.
fn get(from: &Namespace, to: SocketAddr, path: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(5);
    from.enter(|| {
        let mut stream = TcpStream::connect_timeout(&to, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
    .unwrap()
}

/// Where kubelets put what a pod is known by.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Two nodes of a cluster, whose DaemonSet's pods are ready.
struct Nodes {
    // Dropped first to last.
    kubelets: [Kubelet; 2],
    daemons: [Pod; 2],
    objects: Vec<Value>,
    extra: Extra,
    api: ApiServer,
    lab: Lab,
}

impl Nodes {
    /// With these objects, and no right that they do not give.
    fn start(objects: Vec<Value>) -> Nodes {
        let lab = new_lab(2, Regime::R1);
        let api = api_server(&lab, &objects);
        let account = lab.dir().join("account");
        std::fs::create_dir(&account).unwrap();
        api.write_service_account(&account).unwrap();
        let (host, port) = (api.address().ip(), api.address().port());
        let extra = Extra {
            mounts: vec![(ACCOUNT.to_owned(), account)],
            envs: vec![
                ("KUBERNETES_SERVICE_HOST".to_owned(), host.to_string()),
                ("KUBERNETES_SERVICE_PORT".to_owned(), port.to_string()),
            ],
            args: vec!["--iface=eth0".to_owned()],
        };
        let busybox = busybox(lab.dir());
        let images = [image(), busybox.as_path()];
        let kubelets = [1, 2].map(|number| Kubelet::start(&lab, number, &images, &objects));
        let set = daemon_set(&objects);
        let daemons = kubelets.each_ref().map(|kubelet| kubelet.run(set, &extra));
        let nodes = Nodes {
            kubelets,
            daemons,
            objects,
            extra,
            api,
            lab,
        };
        (1..=2).for_each(|number| nodes.await_ready(number));
        nodes
    }

    /// The right to look at pods, and with it at a node's own, which names the node.
    fn give_what_flannels_manifest_gives(&self, number: usize) {
        let role = self
            .objects
            .iter()
            .find(|object| object["kind"] == "ClusterRole");
        let mut role = role.unwrap().clone();
        let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        role["rules"].as_array_mut().unwrap().push(pods);
        self.api.put("clusterroles.rbac.authorization.k8s.io", role);
        let metadata = json!({"name": kubelet::POD, "namespace": kubelet::NAMESPACE});
        let spec = json!({ "nodeName": node_name(number) });
        self.api
            .put("pods", json!({"metadata": metadata, "spec": spec}));
    }

    fn ns(&self, number: usize) -> &Namespace {
        &self.lab.node(number).ns
    }

    fn await_ready(&self, number: usize) {
        let at = SocketAddr::from((self.lab.node(number).underlay, 8081));
        let is_ready = || {
            let answer = get(self.ns(number), at, "/readyz");
            answer.is_ok_and(|answer| answer.contains(" 200 "))
        };
        let said = || self.kubelets[number - 1].said(&self.daemons[number - 1]);
        assert!(wait_until(NEWS, is_ready), "node {number}: {}", said());
    }

    /// A value of the `subnet.env` that the node's plugin reads.
    fn env(&self, number: usize, key: &str) -> String {
        let cat = ["cat", "/run/flannel/subnet.env"];
        let text = self.kubelets[number - 1].runtime.inside(&cat).unwrap();
        let mut values = text
            .lines()
            .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        values.next().unwrap().to_owned()
    }
}

#[test]
fn the_daemon_set_gives_pods_of_a_real_runtime_their_network() {
    if skips() {
        return;
    }
    let mut nodes = Nodes::start(objects(MANIFEST));
    for (kubelet, daemon) in nodes.kubelets.iter().zip(&nodes.daemons) {
        let said = kubelet.said(daemon);
        for line in [
            "engine=ring",
            "fast path on flannel.1: eBPF programs",
            "ready: ",
        ] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!said.contains(" WARN "), "{said}");
    }
    let [one, two] = [&nodes.kubelets[0], &nodes.kubelets[1]];
    let a = one.attach("a", &[], &[[8080, 80]]);
    let b = two.attach("b", &[], &[]);
    let addresses = [one.address(&a), two.address(&b)];
    for (number, (kubelet, pod)) in [(one, &a), (two, &b)].into_iter().enumerate() {
        let subnet: Ipv4Net = nodes.env(number + 1, "FLANNEL_SUBNET").parse().unwrap();
        assert!(subnet.contains(&addresses[number]), "{addresses:?}");
        let mtu = kubelet
            .exec(pod, &["cat", "/sys/class/net/eth0/mtu"])
            .unwrap();
        assert_eq!(mtu.trim(), nodes.env(number + 1, "FLANNEL_MTU"));
        let other = addresses[1 - number].to_string();
        let pinged = kubelet
            .exec(pod, &["ping", "-c", "3", "-W", "5", &other])
            .unwrap();
        assert!(pinged.contains(" 0% packet loss"), "{pinged}");
        let url = format!("http://{other}/page");
        let got = kubelet.exec(pod, &["wget", "-q", "-O", "-", &url]).unwrap();
        assert!(got == page(), "{} bytes", got.len());
    }
    // hostPort of one node, from the other one and from a pod there.
    let port = SocketAddr::from((nodes.lab.node(1).underlay, 8080));
    assert!(get(nodes.ns(2), port, "/page").unwrap().ends_with(&page()));
    let url = format!("http://{port}/page");
    assert!(two.exec(&b, &["wget", "-q", "-O", "-", &url]).unwrap() == page());

    the_agents_ask_for_what_they_may(&nodes);
    update_loses_little(&mut nodes, &b, addresses[0]);
    leaves_nothing(&nodes, &a);
    the_image_alone_does(&mut nodes, &b);
}

/// The role is what the agents ask for, no more and no less.
fn the_agents_ask_for_what_they_may(nodes: &Nodes) {
    let role = nodes
        .objects
        .iter()
        .find(|object| object["kind"] == "ClusterRole");
    let mut may = BTreeSet::new();
    for rule in role.unwrap()["rules"].as_array().unwrap() {
        for resource in rule["resources"].as_array().unwrap() {
            for verb in rule["verbs"].as_array().unwrap() {
                may.insert(format!(
                    "{} {}",
                    verb.as_str().unwrap(),
                    resource.as_str().unwrap()
                ));
            }
        }
    }
    let asked = nodes.api.asked();
    let asked = asked.iter().filter(|asked| asked.user == USER);
    let asked: BTreeSet<_> = asked
        .map(|a| format!("{} {}", a.verb, a.resource))
        .collect();
    assert_eq!(asked, may);
}

/// The node's agent is replaced as by a rolling update: pods go on by the fast path meanwhile, and
/// with the new one.
fn update_loses_little(nodes: &mut Nodes, from: &Pod, to: Ipv4Addr) {
    let before = nodes.env(1, "FLANNEL_SUBNET");
    nodes.kubelets[0].delete(&nodes.daemons[0]);
    let to = to.to_string();
    let ping = ["ping", "-c", "2", "-W", "5", &to];
    let pinged = nodes.kubelets[1].exec(from, &ping).unwrap();
    assert!(
        pinged.contains(" 0% packet loss"),
        "without an agent: {pinged}"
    );
    nodes.daemons[0] = nodes.kubelets[0].run(daemon_set(&nodes.objects), &nodes.extra);
    nodes.await_ready(1);
    assert_eq!(nodes.env(1, "FLANNEL_SUBNET"), before);
    let pinged = nodes.kubelets[1].exec(from, &ping).unwrap();
    assert!(
        pinged.contains(" 0% packet loss"),
        "with the new one: {pinged}"
    );
}

/// A pod that is deleted after the agent was replaced takes all of its own along.
fn leaves_nothing(nodes: &Nodes, pod: &Pod) {
    let kubelet = &nodes.kubelets[0];
    let left = || {
        let script = "ls /var/lib/cni/flannel/.networks/cbr0 /var/lib/cni/networks/cbr0; \
                      ip -o link show type veth master cni0; iptables-save -t nat | grep 8080";
        let left = kubelet
            .runtime
            .inside(&["sh", "-c", &format!("{script}; true")]);
        let left = left.unwrap();
        // Of host-local's own, and the heads of lists.
        let mine = |line: &&str| !line.ends_with(':') && !line.starts_with("l") && !line.is_empty();
        left.lines()
            .filter(mine)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(left().len() > 3, "{:?}", left());
    kubelet.delete(pod);
    assert_eq!(left(), [""; 0]);
}

/// In flannel's own manifest: without the TUN device, programs in the kernel, and all that weft
/// has on a node.
fn the_image_alone_does(nodes: &mut Nodes, pod: &Pod) {
    let image = format!("weft:{}", env!("CARGO_PKG_VERSION"));
    let mut flannels = objects(FLANNELS);
    let spec = &mut flannels[0]["spec"]["template"]["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().unwrap() {
            container["image"] = json!(image);
        }
    }
    let args = spec["containers"][0]["args"].as_array_mut().unwrap();
    args.push(json!("--healthz-port=8081"));
    nodes.give_what_flannels_manifest_gives(2);
    nodes.kubelets[1].delete(&nodes.daemons[1]);
    nodes.daemons[1] = nodes.kubelets[1].run(&flannels[0], &nodes.extra);
    nodes.await_ready(2);
    let again = nodes.kubelets[0].attach("again", &[], &[]);
    let to = nodes.kubelets[0].address(&again).to_string();
    let ping = ["ping", "-c", "3", "-W", "5", &to];
    let pinged = nodes.kubelets[1].exec(pod, &ping).unwrap();
    assert!(pinged.contains(" 0% packet loss"), "{pinged}");
    let said = nodes.kubelets[1].said(&nodes.daemons[1]);
    assert!(said.contains("the workers carry all packets"), "{said}");
}

/// What a pod's annotations hold it to, in bits per second.
const RATE: f64 = 200e6;

/// As `components/hand-over` and `components/bandwidth` change the manifest, under a profile that
/// forbids io_uring.
fn with_components() -> Vec<Value> {
    let mut objects = objects(MANIFEST);
    for object in &mut objects {
        if object["kind"] == "DaemonSet" {
            let pod = &mut object["spec"]["template"]["spec"];
            pod["hostPID"] = json!(true);
            let args = pod["containers"][0]["args"].as_array_mut().unwrap();
            args.push(json!("--linger"));
        }
        if object["kind"] == "ConfigMap" {
            let shaping = include_str!("../../deploy/cni/10-flannel-bandwidth.conflist");
            object["data"]["cni-conf.json"] = json!(shaping);
            let profile = object["data"]["seccomp.json"].as_str().unwrap();
            object["data"]["seccomp.json"] = json!(profile.replace("io_uring", "io_other"));
        }
    }
    objects
}

#[test]
fn the_next_pod_takes_over_beside_the_one_that_runs_and_pods_keep_to_their_rates() {
    if skips_test_without(&[("nsenter", "util-linux"), ("iperf3", "iperf3")]) || skips() {
        return;
    }
    let mut nodes = Nodes::start(with_components());
    let [one, two] = [&nodes.kubelets[0], &nodes.kubelets[1]];
    let limits = ["ingress", "egress"].map(|way| format!("kubernetes.io/{way}-bandwidth"));
    let limits = limits.each_ref().map(|name| (name.as_str(), "200M"));
    let shaped = one.attach("shaped", &limits, &[]);
    let free = two.attach("free", &[], &[]);
    let to = two.address(&free);
    for direction in ["", "--reverse"] {
        let rate = steady_rate(&nodes, to, direction);
        // Headers count for the shaper and not for iperf3.
        let band = 0.8 * RATE..1.05 * RATE;
        assert!(band.contains(&rate), "{:.1} Mbit/s {direction}", rate / 1e6);
    }

    let next = one.run(daemon_set(&nodes.objects), &nodes.extra);
    let said = |pod: &Pod| nodes.kubelets[0].said(pod);
    let both = || format!("{}{}", said(&nodes.daemons[0]), said(&next));
    let stays = || said(&nodes.daemons[0]).contains("staying, as -linger says");
    assert!(wait_until(NEWS, stays), "{}", both());
    one.delete(&nodes.daemons[0]);
    assert!(both().contains("SIGTERM: stopped"), "{}", both());
    assert!(both().contains("engine=poll"), "{}", both());
    nodes.daemons[0] = next;
    nodes.await_ready(1);
    let to = to.to_string();
    let ping = ["ping", "-c", "3", "-W", "5", &to];
    let pinged = nodes.kubelets[0].exec(&shaped, &ping).unwrap();
    assert!(pinged.contains(" 0% packet loss"), "{pinged}");
}

/// What a stream between the pods of both nodes comes to when the burst is over, in bits per
/// second. The runtime asks for a burst of 512 MiB, whatever the rate.
fn steady_rate(nodes: &Nodes, to: Ipv4Addr, direction: &str) -> f64 {
    let inside = |number: usize, script: &str| {
        let enter = "nsenter --net=$(ls /run/netns/cni-*)";
        let script = format!("{enter} {script}");
        nodes.kubelets[number - 1]
            .runtime
            .inside(&["sh", "-c", &script])
    };
    inside(2, "iperf3 --server --one-off --daemon").unwrap();
    let client = format!("iperf3 --json --time 6 --client {to} {direction}");
    let mut measured = Err(String::new());
    wait_until(NEWS, || {
        measured = inside(1, &client).map_err(|error| error.to_string());
        measured.is_ok()
    });
    let measured: Value = serde_json::from_str(&measured.unwrap()).unwrap();
    let last = measured["intervals"].as_array().unwrap().last().unwrap();
    last["sum"]["bits_per_second"].as_f64().unwrap()
}
