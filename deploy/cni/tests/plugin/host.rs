//! A node and a pod's namespace, with Debian's plugins as delegates.

use crate::call::{Answer, Bench, FLANNEL, Stack, call_with};
use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use weft_lab::{Lab, LabOptions, Namespace, skips_test_without, wait_until};

/// Where Debian puts plugins.
const PLUGINS: &str = "/usr/lib/cni";

pub(crate) fn skips() -> bool {
    skips_test_without(&[("/usr/lib/cni/bridge", "containernetworking-plugins")])
}

/// A container runtime on the first node of a lab.
pub(crate) struct Host {
    pub(crate) bench: Bench,
    pub(crate) node: Namespace,
    pub(crate) pod: Namespace,
    _lab: Lab,
}

impl Host {
    pub(crate) fn new(stack: &Stack) -> Host {
        let lab = Lab::new(LabOptions::default()).unwrap();
        Host {
            bench: Bench::new(stack),
            node: lab.node(1).ns.clone(),
            pod: lab.namespace("pod").unwrap(),
            _lab: lab,
        }
    }

    /// The configuration of a network with a bridge of its own, and the keys of `more`.
    /// Network `b` has another `subnet.env`; directories are the same for all.
    pub(crate) fn conf(&self, network: &str, more: Value) -> Value {
        let mut conf = self.bench.conf(json!({
            "cniVersion": "1.0.0",
            "name": network,
            "delegate": {"bridge": format!("cni-{network}")},
            "ipam": {"dataDir": self.bench.path("ipam")},
        }));
        if network == "b" {
            let file = self.bench.path("b.env");
            let lines = "FLANNEL_NETWORK=10.2.0.0/16\nFLANNEL_SUBNET=10.2.5.1/24\n\
                         FLANNEL_MTU=1400\nFLANNEL_IPMASQ=true\n";
            fs::write(&file, lines).unwrap();
            conf["subnetFile"] = json!(file);
        }
        let more = more.as_object().unwrap().clone();
        conf.as_object_mut().unwrap().extend(more);
        conf
    }

    /// Call the plugin for an interface of a container whose namespace is the pod's.
    pub(crate) fn call(&self, command: &str, interface: (&str, &str), conf: &Value) -> Answer {
        let netns = format!("/run/netns/{}", self.pod.name());
        self.call_in(&netns, command, interface, conf)
    }

    /// The same with another namespace.
    pub(crate) fn call_in(
        &self,
        netns: &str,
        command: &str,
        interface: (&str, &str),
        conf: &Value,
    ) -> Answer {
        let mut call = self.node.command(FLANNEL);
        call.env("CNI_PATH", PLUGINS).env("CNI_NETNS", netns);
        call_with(call, command, interface, conf)
    }

    /// Addresses that `host-local` has given away in a network, sorted.
    pub(crate) fn leases(&self, network: &str) -> Vec<IpAddr> {
        let dir = self.bench.path("ipam").join(network);
        let mut leases: Vec<_> = names(&dir).iter().filter_map(|n| n.parse().ok()).collect();
        leases.sort();
        leases
    }

    /// Files and links in the data directory, those of attachments without `.networks`.
    pub(crate) fn kept(&self) -> Vec<String> {
        let data = self.bench.path("data");
        let networks = data.join(".networks");
        let mut kept = names(&data);
        kept.retain(|name| name != ".networks");
        for network in names(&networks) {
            let attachments = names(&networks.join(&network));
            kept.extend(attachments.iter().map(|name| format!("{network}/{name}")));
        }
        kept.sort();
        kept
    }

    /// Turn what is kept for an attachment into what flannel's plugin would have kept.
    pub(crate) fn as_flannels_plugin_keeps(&self, network: &str, id: &str, ifname: &str) {
        let data = self.bench.path("data");
        let text = fs::read(data.join(id)).unwrap();
        let _ = fs::remove_file(data.join(format!(".networks/{network}/{id}:{ifname}")));
        fs::remove_file(data.join(id)).unwrap();
        fs::write(data.join(id), text).unwrap();
    }

    /// Whether the pod has this interface.
    pub(crate) fn has(&self, ifname: &str) -> bool {
        self.pod.ip(&format!("link show {ifname}")).is_ok()
    }

    /// That nothing of the networks is left on the node and in the pod.
    pub(crate) fn assert_clean(&self, networks: &[&str]) {
        for network in networks {
            assert_eq!(self.leases(network), [] as [IpAddr; 0], "{network}");
        }
        assert_eq!(self.kept(), [] as [&str; 0]);
        let links = self.pod.ip("-o link show type veth").unwrap();
        assert_eq!(links, "");
        let nat = self.node.run(&["iptables-save", "-t", "nat"]).unwrap();
        assert!(!nat.contains("CNI-"), "{nat}");
        // The other end of a veth goes some moments later.
        let ports = || self.node.ip("-o link show type bridge_slave").unwrap();
        let gone = || ports().is_empty();
        assert!(wait_until(Duration::from_secs(10), gone), "{}", ports());
    }
}

/// Names of a directory's entries; none if it is not there.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}
