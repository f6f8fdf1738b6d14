//! As much of kubelet as it takes to run a DaemonSet's pod as its manifest has it, and pods that
//! are attached to the network.

use super::messages::*;
use super::rights::{namespaces, security, strings};
use super::runtime::{BUSYBOX, Runtime};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use weft_lab::{Lab, wait_until};

/// The namespace of all pods.
pub(super) const NAMESPACE: &str = "kube-flannel";

/// What pods of a DaemonSet are told to be.
pub(super) const POD: &str = "kube-flannel-ds-x";

/// How long a container may take to end, or to start.
const WHILE: Duration = Duration::from_secs(30);

/// One node's.
pub(super) struct Kubelet {
    pub(super) runtime: Runtime,
    /// Files of the ConfigMaps, by their names.
    config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// The node's name in the cluster.
    node: String,
    pods: std::cell::Cell<u32>,
}

/// A pod with one container that goes on.
pub(super) struct Pod {
    pub(super) id: String,
    pub(super) container: String,
    config: PodConfig,
}

impl Kubelet {
    pub(super) fn start(lab: &Lab, number: usize, images: &[&Path], objects: &[Value]) -> Kubelet {
        let config_maps = objects
            .iter()
            .filter(|object| object["kind"] == "ConfigMap");
        let config_maps = config_maps.map(|map| {
            let name = map["metadata"]["name"].as_str().unwrap().to_owned();
            (name, serde_json::from_value(map["data"].clone()).unwrap())
        });
        Kubelet {
            runtime: Runtime::start(lab, number, images),
            config_maps: config_maps.collect(),
            node: super::node_name(number),
            pods: std::cell::Cell::default(),
        }
    }

    /// Run a DaemonSet's pod: its init containers to their ends, then its container, with these
    /// variables and mounts of `extra` besides.
    pub(super) fn run(&self, daemon_set: &Value, extra: &Extra) -> Pod {
        let spec = &daemon_set["spec"]["template"]["spec"];
        assert_eq!(spec["hostNetwork"], true);
        let config = self.pod_config("kube-flannel", namespaces(spec));
        let id = self.sandbox(&config);
        let volumes = self.volumes(&spec["volumes"]);
        for container in spec["initContainers"].as_array().unwrap() {
            let made = self.container_config(spec, container, &volumes);
            let started = self.launch(&id, &config, made);
            let ended = self.ended(&started);
            assert_eq!(ended.exit_code, 0, "{container}: {ended:?}");
        }
        let mut made = self.container_config(spec, &spec["containers"][0], &volumes);
        extra.add_to(&mut made);
        let container = self.launch(&id, &config, made);
        Pod {
            id,
            container,
            config,
        }
    }

    /// Run a pod of its own, attached to the network.
    pub(super) fn attach(
        &self,
        name: &str,
        annotations: &[(&str, &str)],
        ports: &[[i32; 2]],
    ) -> Pod {
        let mut config = self.pod_config(name, Namespaces::default());
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        config.annotations = annotations.iter().map(owned).collect();
        let mapping = |&[host_port, container_port]: &[i32; 2]| PortMapping {
            host_port,
            container_port,
        };
        config.port_mappings = ports.iter().map(mapping).collect();
        let id = self.sandbox(&config);
        let made = ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: "busybox".to_owned(),
                attempt: 0,
            }),
            image: Some(Id {
                id: BUSYBOX.to_owned(),
            }),
            command: ["httpd", "-f", "-h", "/www"].map(str::to_owned).to_vec(),
            log_path: "busybox".to_owned(),
            ..ContainerConfig::default()
        };
        let container = self.launch(&id, &config, made);
        Pod {
            id,
            container,
            config,
        }
    }

    /// The address that the runtime tells of a pod.
    pub(super) fn address(&self, pod: &Pod) -> Ipv4Addr {
        let asked = Id { id: pod.id.clone() };
        let answer: PodStatusAnswer = self.runtime.call("PodSandboxStatus", asked).unwrap();
        let network = answer.status.unwrap().network.unwrap();
        network.ip.parse().unwrap()
    }

    /// Run a command in a pod's container to its end; what it writes.
    pub(super) fn exec(&self, pod: &Pod, words: &[&str]) -> Result<String, String> {
        let asked = Exec {
            container: pod.container.clone(),
            command: words.iter().map(|&word| word.to_owned()).collect(),
            timeout: 30,
        };
        let answer: ExecAnswer = self.runtime.call("ExecSync", asked)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        match answer.exit_code {
            0 => Ok(text(answer.stdout)),
            code => Err(format!(
                "{words:?} ends with {code}: {}{}",
                text(answer.stdout),
                text(answer.stderr)
            )),
        }
    }

    /// End a pod as when it is deleted: its container has ten seconds.
    pub(super) fn delete(&self, pod: &Pod) {
        let stop = StopContainer {
            id: pod.container.clone(),
            timeout: 10,
        };
        let _: Nothing = self.runtime.call("StopContainer", stop).unwrap();
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let pod = Id { id: pod.id.clone() };
            let _: Nothing = self.runtime.call(method, pod).unwrap();
        }
    }

    /// What a pod's container has written so far.
    pub(super) fn said(&self, pod: &Pod) -> String {
        let files = std::fs::read_dir(&pod.config.log_directory)
            .unwrap()
            .flatten();
        let texts = files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
        texts.collect()
    }

    fn pod_config(&self, name: &str, namespaces: Namespaces) -> PodConfig {
        let number = self.pods.get();
        self.pods.set(number + 1);
        let uid = format!("{name}-{number}");
        let log_directory = self.runtime.dir.join("logs").join(&uid);
        std::fs::create_dir_all(&log_directory).unwrap();
        PodConfig {
            metadata: Some(PodMetadata {
                name: name.to_owned(),
                uid,
                namespace: NAMESPACE.to_owned(),
                attempt: 0,
            }),
            // In the node's network it is the node's.
            hostname: match namespaces.network {
                NODE => String::new(),
                _ => name.to_owned(),
            },
            log_directory: log_directory.to_str().unwrap().to_owned(),
            linux: Some(PodLinux {
                security_context: Some(PodSecurity {
                    namespace_options: Some(namespaces),
                }),
            }),
            ..PodConfig::default()
        }
    }

    fn sandbox(&self, config: &PodConfig) -> String {
        let config = Some(config.clone());
        let made: Id = self
            .runtime
            .call("RunPodSandbox", RunPodSandbox { config })
            .unwrap();
        made.id
    }

    fn launch(&self, pod: &str, pod_config: &PodConfig, config: ContainerConfig) -> String {
        let create = CreateContainer {
            pod: pod.to_owned(),
            config: Some(config),
            pod_config: Some(pod_config.clone()),
        };
        let made: Id = self.runtime.call("CreateContainer", create).unwrap();
        let started = Id {
            id: made.id.clone(),
        };
        let _: Nothing = self.runtime.call("StartContainer", started).unwrap();
        made.id
    }

    fn status(&self, container: &str) -> ContainerStatus {
        let asked = Id {
            id: container.to_owned(),
        };
        let answer: ContainerStatusAnswer = self.runtime.call("ContainerStatus", asked).unwrap();
        answer.status.unwrap()
    }

    fn ended(&self, container: &str) -> ContainerStatus {
        let ended = wait_until(WHILE, || self.status(container).state == EXITED);
        assert!(ended, "{container} does not end");
        self.status(container)
    }

    /// Where the volumes of a pod are on the node, made as their types ask for it.
    fn volumes(&self, volumes: &Value) -> HashMap<String, PathBuf> {
        let place = |volume: &Value| {
            let name = volume["name"].as_str().unwrap().to_owned();
            let path = match volume["hostPath"]["path"].as_str() {
                Some(path) => {
                    self.prepare(path, volume["hostPath"]["type"].as_str().unwrap_or(""));
                    PathBuf::from(path)
                }
                None => self.own_volume(&name, volume),
            };
            (name, path)
        };
        volumes.as_array().unwrap().iter().map(place).collect()
    }

    fn prepare(&self, path: &str, kind: &str) {
        let words: &[&str] = match kind {
            "DirectoryOrCreate" => &["mkdir", "-p", path],
            "FileOrCreate" => &["touch", path],
            "Directory" => &["test", "-d", path],
            "CharDevice" => &["test", "-c", path],
            "" => return,
            other => panic!("there is no type {other} of {path} here"),
        };
        self.runtime.inside(words).unwrap();
    }

    fn own_volume(&self, name: &str, volume: &Value) -> PathBuf {
        let dir = self.runtime.dir.join("volumes").join(name);
        std::fs::create_dir_all(&dir).unwrap();
        match volume["configMap"]["name"].as_str() {
            Some(map) => {
                for (file, text) in &self.config_maps[map] {
                    std::fs::write(dir.join(file), text).unwrap();
                }
            }
            None => assert!(volume["emptyDir"].is_object(), "{volume}"),
        }
        dir
    }

    /// The variables of a container.
    fn envs(&self, container: &Value) -> Vec<KeyValue> {
        let list = container["env"].as_array().map(Vec::as_slice);
        let variable = |one: &Value| KeyValue {
            key: one["name"].as_str().unwrap().to_owned(),
            value: match one["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => self.node.clone(),
                Some("metadata.name") => POD.to_owned(),
                Some("metadata.namespace") => NAMESPACE.to_owned(),
                Some(other) => panic!("no value of {other} is known here"),
                None => one["value"].as_str().unwrap().to_owned(),
            },
        };
        list.unwrap_or_default().iter().map(variable).collect()
    }

    fn container_config(
        &self,
        spec: &Value,
        container: &Value,
        volumes: &HashMap<String, PathBuf>,
    ) -> ContainerConfig {
        let name = container["name"].as_str().unwrap().to_owned();
        let mount = |mount: &Value| Mount {
            container_path: mount["mountPath"].as_str().unwrap().to_owned(),
            host_path: path_text(&volumes[mount["name"].as_str().unwrap()]),
            readonly: mount["readOnly"] == true,
        };
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        ContainerConfig {
            metadata: Some(ContainerMetadata {
                name: name.clone(),
                attempt: 0,
            }),
            image: Some(Id {
                id: container["image"].as_str().unwrap().to_owned(),
            }),
            command: strings(&container["command"]),
            args: strings(&container["args"]),
            envs: self.envs(container),
            mounts: mounts.map(mount).collect(),
            log_path: name,
            linux: Some(ContainerLinux {
                security_context: Some(security(spec, &container["securityContext"])),
            }),
        }
    }
}

/// What a test gives a DaemonSet's container besides: variables, mounts and flags.
#[derive(Default)]
pub(super) struct Extra {
    pub(super) envs: Vec<(String, String)>,
    /// Paths in the container and on the node.
    pub(super) mounts: Vec<(String, PathBuf)>,
    pub(super) args: Vec<String>,
}

impl Extra {
    fn add_to(&self, config: &mut ContainerConfig) {
        for (key, value) in self.envs.iter().cloned() {
            config.envs.push(KeyValue { key, value });
        }
        for (container_path, host_path) in &self.mounts {
            config.mounts.push(Mount {
                container_path: container_path.clone(),
                host_path: path_text(host_path),
                readonly: true,
            });
        }
        config.args.extend(self.args.iter().cloned());
    }
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
