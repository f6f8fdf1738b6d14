//! The DaemonSet against what it runs.

use crate::objects::{agent, containers, of_base, only, pod, texts};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");

#[test]
fn its_arguments_are_flags_that_the_agent_knows() {
    let dir = tempfile::tempdir().unwrap();
    let flanneld = dir.path().join("flanneld");
    symlink(env!("CARGO_BIN_EXE_weft"), &flanneld).unwrap();
    let objects = of_base();
    let agent = agent(pod(&objects));
    assert_eq!(texts(&agent["command"]), ["/opt/bin/flanneld"]);
    let args = texts(&agent["args"]);
    let taken = |args: &[&str]| {
        let output = Command::new(&flanneld).args(args).arg("-version").output();
        output.unwrap().status.success()
    };
    assert!(taken(&args), "{args:?}");
    assert!(taken(&[&args[..], &["--linger"]].concat()));
    assert!(!taken(&["--kube-subnet-manager"]), "any is taken");
}

#[test]
fn its_image_is_of_this_version_everywhere() {
    let objects = of_base();
    for container in containers(pod(&objects)) {
        assert_eq!(container["image"], format!("weft:{VERSION}"));
    }
}

#[test]
fn everything_that_is_mounted_is_a_volume_and_the_reverse() {
    let objects = of_base();
    let pod = pod(&objects);
    let names = |list: &Value| -> BTreeSet<String> {
        let names = list.as_array().unwrap().iter();
        names
            .map(|one| one["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let mounts = containers(pod).into_iter();
    let mounted = mounts.flat_map(|one| names(&one["volumeMounts"])).collect();
    assert_eq!(names(&pod["volumes"]), mounted);
}

#[test]
fn probes_ask_where_the_agent_answers() {
    let objects = of_base();
    let agent = agent(pod(&objects));
    for (probe, path) in [("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        let asked = &agent[probe]["httpGet"];
        assert_eq!(asked["path"], path);
        let flag = format!("--healthz-port={}", asked["port"]);
        assert!(texts(&agent["args"]).contains(&flag.as_str()), "{flag}");
    }
}

#[test]
fn the_selector_and_the_binding_name_what_is_there() {
    let objects = of_base();
    let set = only(&objects, "DaemonSet");
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    for (key, value) in set["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[key], value);
    }
    let account = &only(&objects, "ServiceAccount")["metadata"]["name"];
    assert_eq!(&pod(&objects)["serviceAccountName"], account);
    let binding = only(&objects, "ClusterRoleBinding");
    assert_eq!(&binding["subjects"][0]["name"], account);
    let role = &only(&objects, "ClusterRole")["metadata"]["name"];
    assert_eq!(&binding["roleRef"]["name"], role);
    let map = &only(&objects, "ConfigMap")["metadata"]["name"];
    let volumes = pod(&objects)["volumes"].as_array().unwrap();
    assert!(
        volumes
            .iter()
            .any(|volume| &volume["configMap"]["name"] == map)
    );
}

/// No container can do more than it is there for.
#[test]
fn no_container_is_privileged_or_gains_rights() {
    let objects = of_base();
    for container in containers(pod(&objects)) {
        let context = &container["securityContext"];
        assert_ne!(context["privileged"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(texts(&context["capabilities"]["drop"]), ["ALL"]);
        let added = !context["capabilities"]["add"].is_null();
        assert_eq!(added, container["name"] == "kube-flannel");
    }
}
