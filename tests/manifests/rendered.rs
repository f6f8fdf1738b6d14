//! Overlays and components, as kustomize renders them.

use crate::objects::{agent, containers, folder, of_base, only, parse, pod, texts};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use weft_control::config::NetworkConfig;
use weft_lab::{run, skip, tools};

/// The first minor version of kubectl 1 whose kustomize knows components.
const COMPONENTS: u32 = 21;

fn skips() -> bool {
    let reason = if !tools::in_path("kubectl") {
        "there is no kubectl, which renders the overlays".to_owned()
    } else if kubectl() < COMPONENTS {
        format!("this kubectl is older than 1.{COMPONENTS}, and its kustomize knows no components")
    } else {
        return false;
    };
    skip(&reason);
    true
}

/// The minor version of the kubectl that is there.
fn kubectl() -> u32 {
    let version = ["version", "--client", "--output=json"];
    let told = run(Command::new("kubectl").args(version)).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    let minor = told["clientVersion"]["minor"].as_str().unwrap();
    minor.trim_end_matches('+').parse().unwrap()
}

fn render(folder: &Path) -> Vec<Value> {
    parse(&run(Command::new("kubectl").arg("kustomize").arg(folder)).unwrap())
}

/// A copy of the folder, with `components` over `resource` in a folder of its own.
fn compose(resource: &str, components: &[&str]) -> Vec<Value> {
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("kubernetes");
    run(Command::new("cp").arg("-R").arg(folder()).arg(&copy)).unwrap();
    let own = copy.join("own");
    fs::create_dir(&own).unwrap();
    let fixture = include_str!("kube-flannel.yml");
    fs::write(own.join("kube-flannel.yml"), fixture).unwrap();
    let components = components
        .iter()
        .map(|name| format!("../components/{name}"));
    let components: Vec<String> = components.collect();
    let wanted = json!({ "resources": [resource], "components": components });
    fs::write(own.join("kustomization.yaml"), wanted.to_string()).unwrap();
    render(&own)
}

fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(self::folder().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

fn config(objects: &[Value]) -> NetworkConfig {
    let text = &only(objects, "ConfigMap")["data"]["net-conf.json"];
    NetworkConfig::parse(text.as_str().unwrap()).unwrap()
}

#[test]
fn the_base_is_the_manifest() {
    if skips() {
        return;
    }
    assert_eq!(render(&folder().join("base")), of_base());
    let link = fs::read_link(folder().join("weft.yml")).unwrap();
    assert_eq!(link, Path::new("base/weft.yml"));
}

#[test]
fn overlays_change_the_network_config_alone() {
    if skips() {
        return;
    }
    let overlays = names("overlays");
    assert!(overlays.len() >= 4, "{overlays:?}");
    let base = of_base();
    for overlay in overlays {
        let mut objects = render(&folder().join("overlays").join(&overlay));
        let config = config(&objects);
        assert_eq!(
            config == self::config(&base),
            overlay == "kubeadm",
            "{overlay}"
        );
        for object in &mut objects {
            if object["kind"] == "ConfigMap" {
                let data = &only(&base, "ConfigMap")["data"]["net-conf.json"];
                object["data"]["net-conf.json"] = data.clone();
            }
        }
        assert_eq!(objects, base, "{overlay}");
    }
}

#[test]
fn every_component_goes_with_what_it_is_for() {
    if skips() {
        return;
    }
    for name in names("components") {
        let resource = match name.as_str() {
            "image-only" | "way-back" => "kube-flannel.yml",
            _ => "../base",
        };
        let objects = compose(resource, &[&name]);
        let plain = compose(resource, &[]);
        assert_ne!(objects, plain, "{name} changes nothing");
    }
    compose(
        "../base",
        &["hand-over", "bandwidth", "pod-monitor", "runtime-default"],
    );
}

#[test]
fn with_a_hand_over_both_pods_of_a_node_run_at_a_time() {
    if skips() {
        return;
    }
    let objects = compose("../base", &["hand-over", "pod-monitor"]);
    let update = &only(&objects, "DaemonSet")["spec"]["updateStrategy"]["rollingUpdate"];
    assert_eq!(update, &json!({"maxSurge": 1, "maxUnavailable": 0}));
    let pod = pod(&objects);
    assert_eq!(pod["hostPID"], true);
    assert!(texts(&agent(pod)["args"]).contains(&"--linger"));
    for container in containers(pod) {
        assert!(
            container["ports"].is_null(),
            "a port keeps the other pod out"
        );
    }
    assert!(
        of_base()
            .iter()
            .all(|object| object["kind"] != "PodMonitor")
    );
    only(&objects, "PodMonitor");
}

#[test]
fn bandwidth_is_the_shipped_conflist() {
    if skips() {
        return;
    }
    let objects = compose("../base", &["bandwidth"]);
    let text = &only(&objects, "ConfigMap")["data"]["cni-conf.json"];
    let found: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    let shipped = include_str!("../../deploy/cni/10-flannel-bandwidth.conflist");
    assert_eq!(found, serde_json::from_str::<Value>(shipped).unwrap());
}

#[test]
fn without_the_profile_nothing_of_kubelets_is_mounted() {
    if skips() {
        return;
    }
    let objects = compose("../base", &["runtime-default"]);
    let pod = pod(&objects);
    let profile = &agent(pod)["securityContext"]["seccompProfile"];
    assert_eq!(profile, &json!({"type": "RuntimeDefault"}));
    assert!(!pod.to_string().contains("/var/lib/kubelet"), "{pod}");
}

#[test]
fn in_flannels_manifest_the_images_alone_change() {
    if skips() {
        return;
    }
    let objects = compose("kube-flannel.yml", &["image-only"]);
    let image = format!("weft:{}", env!("CARGO_PKG_VERSION"));
    let mut plain = compose("kube-flannel.yml", &[]);
    let pod = &mut plain[0]["spec"]["template"]["spec"];
    for list in ["initContainers", "containers"] {
        for container in pod[list].as_array_mut().unwrap() {
            container["image"] = json!(image);
        }
    }
    assert_eq!(objects, plain);
}

#[test]
fn on_the_way_back_weft_goes_before_anything_of_flannels_starts() {
    if skips() {
        return;
    }
    let objects = compose("kube-flannel.yml", &["way-back"]);
    let first = &pod(&objects)["initContainers"][0];
    let own = of_base();
    let own = agent(self::pod(&own));
    let mut expected = texts(&own["args"]);
    expected.retain(|arg| !arg.starts_with("--healthz-port"));
    expected.push("--remove");
    assert_eq!(texts(&first["args"]), expected);
    assert_eq!(first["image"], own["image"]);
    let rights = |container: &Value| container["securityContext"]["capabilities"].clone();
    assert_eq!(rights(first), rights(own));
}
