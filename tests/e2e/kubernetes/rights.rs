//! What a manifest lets a container do, as kubelet tells the runtime.

use super::messages::*;
use serde_json::Value;

/// What kubelet hides from containers, and what it lets them read alone.
const MASKED: [&str; 6] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// A container's rights, with Kubernetes' defaults.
pub(super) fn security(spec: &Value, context: &Value) -> Security {
    let profile = &context["seccompProfile"];
    let seccomp = match profile["type"].as_str() {
        None | Some("Unconfined") => (1, String::new()),
        Some("RuntimeDefault") => (0, String::new()),
        Some("Localhost") => {
            let file = profile["localhostProfile"].as_str().unwrap();
            (2, format!("/var/lib/kubelet/seccomp/{file}"))
        }
        Some(other) => panic!("there is no seccomp profile of type {other}"),
    };
    Security {
        capabilities: Some(Capabilities {
            add: strings(&context["capabilities"]["add"]),
            drop: strings(&context["capabilities"]["drop"]),
        }),
        privileged: context["privileged"] == true,
        namespace_options: Some(namespaces(spec)),
        readonly_rootfs: context["readOnlyRootFilesystem"] == true,
        no_new_privs: context["allowPrivilegeEscalation"] == false,
        masked_paths: MASKED.map(str::to_owned).to_vec(),
        readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
        seccomp: Some(SeccompProfile {
            kind: seccomp.0,
            localhost_ref: seccomp.1,
        }),
    }
}

pub(super) fn namespaces(spec: &Value) -> Namespaces {
    let mode = |key: &str, other| if spec[key] == true { NODE } else { other };
    Namespaces {
        network: mode("hostNetwork", 0),
        // 1: one for each container.
        pid: mode("hostPID", 1),
    }
}

pub(super) fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list.iter().map(text).collect()
}
