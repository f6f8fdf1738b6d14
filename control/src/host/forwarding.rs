//! Whether the kernel passes on what pods send to other nodes.

use crate::family::PerFamily;
use std::fs;
use std::path::Path;
use tracing::warn;

/// Say so if the kernel forwards no packets. As in flannel, turning it on is left to whoever
/// runs the host: it makes a router of every interface.
pub fn warn_without(families: PerFamily<bool>) {
    for name in off_in(Path::new("/proc/sys"), families) {
        warn!(
            code = "W0419",
            "{name} is 0: packets between pods and other nodes are not forwarded until it is 1; Docker and the CNI plugin bridge set it when they start, else run: sysctl -w {name}=1"
        );
    }
}

/// Names of the switches that are off.
fn off_in(sysctls: &Path, families: PerFamily<bool>) -> Vec<&'static str> {
    let mut switches = vec![
        (families.v4, "net.ipv4.ip_forward"),
        (families.v6, "net.ipv6.conf.all.forwarding"),
    ];
    let is_off = |name: &str| {
        let value = fs::read_to_string(sysctls.join(name.replace('.', "/")));
        value.is_ok_and(|value| value.trim() == "0")
    };
    switches.retain(|(wanted, name)| *wanted && is_off(name));
    switches.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wanted_family_has_its_switch() {
        let root = tempfile::tempdir().unwrap();
        let off = |v4, v6| off_in(root.path(), PerFamily { v4, v6 });
        assert!(off(true, true).is_empty(), "without sysctls");
        let [v4, v6] = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"];
        let set = |name: &str, value| {
            let path = root.path().join(name.replace('.', "/"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, value).unwrap();
        };
        set(v4, "0\n");
        set(v6, "0\n");
        assert_eq!(off(true, true), [v4, v6]);
        assert_eq!(off(true, false), [v4]);
        assert_eq!(off(false, true), [v6]);
        set(v4, "1\n");
        assert_eq!(off(true, true), [v6]);
        // 2 accepts router advertisements, and forwards all the same.
        set(v6, "2\n");
        assert!(off(true, true).is_empty());
    }
}
