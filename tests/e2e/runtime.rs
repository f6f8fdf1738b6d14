//! A container runtime as far as CNI goes: it runs the plugins of a conflist the way
//! containerd's library does.

use crate::cluster::{Cluster, weft};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use weft_lab::{Namespace, Pod};

/// Where Debian puts plugins.
const DEBIANS: &str = "/usr/lib/cni";

/// The runtime of one node. Its state is in the node agent's directory.
pub(crate) struct Runtime {
    node: Namespace,
    conflist: Value,
    dir: PathBuf,
}

impl Runtime {
    /// With a conflist, changed only in the paths of files.
    pub(crate) fn new(cluster: &Cluster, number: usize, conflist: &str) -> Runtime {
        let mut conflist: Value = serde_json::from_str(conflist).unwrap();
        let dir = cluster.lab.dir().join(format!("cni{number}"));
        fs::create_dir_all(&dir).unwrap();
        let flannel = &mut conflist["plugins"][0];
        assert_eq!(flannel["type"], "flannel");
        flannel["subnetFile"] = json!(cluster.agents[&number].subnet_file());
        flannel["dataDir"] = json!(dir.join("flannel"));
        flannel["ipam"] = json!({ "dataDir": dir.join("networks") });
        Runtime {
            node: cluster.lab.node(number).ns.clone(),
            conflist,
            dir,
        }
    }

    /// Another network of the same node: `name`, with a bridge of that name, as `subnet_env`
    /// has it.
    pub(crate) fn beside(&self, name: &str, subnet_env: &str) -> Runtime {
        let mut conflist = self.conflist.clone();
        let file = self.dir.join(name);
        fs::write(&file, subnet_env).unwrap();
        conflist["name"] = json!(name);
        conflist["plugins"][0]["subnetFile"] = json!(file);
        conflist["plugins"][0]["delegate"] = json!({ "bridge": name });
        Runtime {
            node: self.node.clone(),
            conflist,
            dir: self.dir.clone(),
        }
    }

    /// Attach a namespace as container `id`, with `arguments` for capabilities; its address.
    pub(crate) fn add(&self, pod: &Namespace, id: &str, arguments: &Value) -> Pod {
        self.add_interface(pod, (id, "eth0"), arguments)
    }

    /// The same with an interface of another name.
    pub(crate) fn add_interface(
        &self,
        pod: &Namespace,
        interface: (&str, &str),
        arguments: &Value,
    ) -> Pod {
        let mut result = Value::Null;
        for plugin in self.plugins() {
            let conf = self.conf(plugin, arguments, &result);
            let output = self.exec("ADD", pod, interface, plugin, &conf);
            result = serde_json::from_str(&output).unwrap();
        }
        let address = result["ips"][0]["address"].as_str().unwrap();
        let address: Ipv4Addr = address.split('/').next().unwrap().parse().unwrap();
        let ns = pod.clone();
        Pod { ns, address }
    }

    /// Detach container `id`.
    pub(crate) fn del(&self, pod: &Namespace, id: &str, arguments: &Value) {
        self.del_interface(pod, (id, "eth0"), arguments);
    }

    /// The same with an interface of another name.
    pub(crate) fn del_interface(
        &self,
        pod: &Namespace,
        interface: (&str, &str),
        arguments: &Value,
    ) {
        for plugin in self.plugins().iter().rev() {
            let conf = self.conf(plugin, arguments, &Value::Null);
            assert_eq!(self.exec("DEL", pod, interface, plugin, &conf), "");
        }
    }

    /// Interfaces of containers that the plugin `flannel` keeps something for in this network.
    pub(crate) fn attachments(&self) -> Vec<String> {
        names_in(&self.dir.join("flannel/.networks").join(self.name()))
    }

    /// Addresses that `host-local` has given away in this network.
    pub(crate) fn leases(&self) -> Vec<String> {
        let mut names = names_in(&self.dir.join("networks").join(self.name()));
        names.retain(|name| name.parse::<Ipv4Addr>().is_ok());
        names
    }

    fn name(&self) -> &str {
        self.conflist["name"].as_str().unwrap()
    }

    fn plugins(&self) -> &[Value] {
        self.conflist["plugins"].as_array().unwrap()
    }

    /// An entry of the conflist as its plugin gets it: with the network's name and version,
    /// the arguments it has capabilities for, and the result of the plugin before it.
    fn conf(&self, plugin: &Value, arguments: &Value, previous: &Value) -> Value {
        let mut conf = plugin.clone();
        conf["name"] = self.conflist["name"].clone();
        conf["cniVersion"] = self.conflist["cniVersion"].clone();
        let arguments = arguments.as_object().cloned().unwrap_or_default();
        let able = |name: &str| plugin["capabilities"][name] == true;
        let wanted: Map<_, _> = arguments.into_iter().filter(|(n, _)| able(n)).collect();
        if !wanted.is_empty() {
            conf["runtimeConfig"] = wanted.into();
        }
        if !previous.is_null() {
            conf["prevResult"] = previous.clone();
        }
        conf
    }

    fn exec(
        &self,
        command: &str,
        pod: &Namespace,
        (id, ifname): (&str, &str),
        plugin: &Value,
        conf: &Value,
    ) -> String {
        let kind = plugin["type"].as_str().unwrap();
        let dirs = [plugin_dir(), Path::new(DEBIANS)];
        let file = dirs.iter().map(|dir| dir.join(kind)).find(|f| f.is_file());
        let file = file.unwrap_or_else(|| panic!("there is no plugin {kind}"));
        let mut child = self
            .node
            .command(file)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", id)
            .env("CNI_NETNS", Path::new("/run/netns").join(pod.name()))
            .env("CNI_IFNAME", ifname)
            .env("CNI_PATH", std::env::join_paths(dirs).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(conf.to_string().as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{command} of {kind}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// The directory of the plugin under test, which is beside weft. Cargo builds a package's
/// binaries for its own tests only, so it is asked to where nobody has named one.
fn plugin_dir() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = weft().parent().unwrap().to_owned();
        if std::env::var_os("WEFT_BINARY").is_some() {
            assert!(dir.join("flannel").exists(), "no plugin in {dir:?}");
            return dir;
        }
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "weft-cni"]);
        cargo.args(["--manifest-path", manifest, "--target-dir"]);
        cargo.arg(dir.parent().unwrap());
        if dir.ends_with("release") {
            cargo.arg("--release");
        }
        let status = cargo.status().unwrap();
        assert!(status.success(), "the plugin cannot be built ({status})");
        dir
    })
}
