//! weft's image in Kubernetes' hands: the DaemonSet of `deploy/kubernetes` and pods beside it,
//! run on two nodes by a containerd each, as kubelet has it run them.

mod kubelet;
mod messages;
mod runtime;

use crate::cluster::{CONFIG, NEWS, new_lab, weft};
use ipnet::Ipv4Net;
use kubelet::{Extra, Kubelet, Pod};
use runtime::BUSYBOX;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use weft_lab::{Lab, Namespace, PeersFile, Regime, run, skips_test_without, wait_until};

const MANIFEST: &str = include_str!("../../deploy/kubernetes/base/weft.yml");

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn skips() -> bool {
    skips_test_without(&[
        ("containerd", "containerd"),
        ("mmdebstrap", "mmdebstrap"),
        ("/bin/busybox", "busybox-static"),
        ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ])
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

/// weft's image with the programs under test, by the script that makes it.
fn image() -> PathBuf {
    let mut script = Command::new(format!("{ROOT}/scripts/image.sh"));
    script.env(
        format!("WEFT_BINARIES_{}", arch()),
        weft().parent().unwrap(),
    );
    run(&mut script).unwrap();
    PathBuf::from(format!("{ROOT}/target/image/weft-{}.tar", arch()))
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An image with the machine's busybox, which waits.
fn busybox(dir: &Path) -> PathBuf {
    let root = dir.join("busybox");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("www")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "cat", "ping", "wget", "httpd", "nc", "dd", "sleep", "ls",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("www/page"), page()).unwrap();
    let (layer, archive) = (dir.join("layer.tar"), dir.join("busybox.tar"));
    let tar = |from: &Path, to: &Path, what: &[&str]| {
        let mut tar = Command::new("tar");
        run(tar.arg("-C").arg(from).arg("-cf").arg(to).args(what)).unwrap();
    };
    tar(&root, &layer, &["."]);
    let digest = run(Command::new("sha256sum").arg(&layer)).unwrap();
    let digest = format!("sha256:{}", digest.split(' ').next().unwrap());
    let config = json!({
        "architecture": arch(), "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "100000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest]},
    });
    let manifest = json!([{
        "Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"],
    }]);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    tar(
        dir,
        &archive,
        &["manifest.json", "config.json", "layer.tar"],
    );
    archive
}

fn page() -> String {
    (0..200_000).map(|line| format!("{line}\n")).collect()
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

/// Two nodes whose DaemonSet's pods are ready.
struct Nodes {
    // Dropped first to last.
    kubelets: [Kubelet; 2],
    daemons: [Pod; 2],
    objects: Vec<Value>,
    extra: Extra,
    lab: Lab,
}

impl Nodes {
    /// With the objects of this manifest.
    fn start(manifest: &str) -> Nodes {
        let lab = new_lab(2, Regime::R1);
        let objects = objects(manifest);
        let images = [image(), busybox(lab.dir())];
        let images = [images[0].as_path(), images[1].as_path()];
        let peers = PeersFile::create(&lab, CONFIG, [1, 2]).unwrap();
        let extra = Extra {
            mounts: vec![("/etc/peers.json".to_owned(), peers.path().to_owned())],
            args: vec![(
                "--kube-subnet-mgr",
                ["--subnets-file=/etc/peers.json", "--iface=eth0"]
                    .map(str::to_owned)
                    .to_vec(),
            )],
            ..Extra::default()
        };
        let kubelets = [1, 2].map(|number| Kubelet::start(&lab, number, &images, &objects));
        let set = daemon_set(&objects);
        let daemons = kubelets.each_ref().map(|kubelet| kubelet.run(set, &extra));
        let nodes = Nodes {
            kubelets,
            daemons,
            objects,
            extra,
            lab,
        };
        (1..=2).for_each(|number| nodes.await_ready(number));
        nodes
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
    let mut nodes = Nodes::start(MANIFEST);
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

    update_loses_little(&mut nodes, &b, addresses[0]);
    leaves_nothing(&nodes, &a);
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
