//! Whether the firewall sees what pods on one bridge send to each other.

use crate::family::PerFamily;
use std::path::Path;
use tracing::warn;

/// Say so if the switches of the kernel module br_netfilter are missing.
///
/// flanneld refuses to start without them (main.go), even where nothing needs them.
pub fn warn_without_netfilter(families: PerFamily<bool>) {
    for path in missing_in(Path::new("/"), families) {
        warn!(
            code = "W0420",
            "/{path} is missing: without the kernel module br_netfilter (modprobe br_netfilter) the firewall does not see what pods on one bridge send to each other"
        );
    }
}

fn missing_in(root: &Path, families: PerFamily<bool>) -> Vec<&'static str> {
    let mut switches = vec![
        (families.v4, "proc/sys/net/bridge/bridge-nf-call-iptables"),
        (families.v6, "proc/sys/net/bridge/bridge-nf-call-ip6tables"),
    ];
    switches.retain(|(wanted, path)| *wanted && !root.join(path).exists());
    switches.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn each_wanted_family_has_its_switch() {
        let root = tempfile::tempdir().unwrap();
        let missing = |v4, v6| missing_in(root.path(), PerFamily { v4, v6 });
        let [v4, v6] = ["iptables", "ip6tables"]
            .map(|name| format!("proc/sys/net/bridge/bridge-nf-call-{name}"));
        assert_eq!(missing(true, false), [&v4]);
        assert_eq!(missing(true, true), [&v4, &v6]);
        fs::create_dir_all(root.path().join("proc/sys/net/bridge")).unwrap();
        fs::write(root.path().join(&v4), "1\n").unwrap();
        assert_eq!(missing(true, true), [&v6]);
        assert!(missing(true, false).is_empty());
    }
}
