//! `subnet.env`, and what the container runtime is configured with.

use super::host::seconds;
use crate::doctor::facts::{Conflist, HostFacts};
use crate::host::subnet_env::dotenv;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// Where runtimes look for their configurations.
const CONFIGURATIONS: &str = "etc/cni/net.d";

/// Where they look for plugins.
const PLUGINS: [&str; 2] = ["opt/cni/bin/flannel", "usr/lib/cni/flannel"];

pub(super) fn look(facts: &mut HostFacts, subnet_env: &Path, root: &Path) {
    let text = fs::read_to_string(subnet_env).ok();
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    facts.subnet_env = text.map(|text| dotenv(&text).into_iter().map(owned).collect());
    let written = fs::metadata(subnet_env).and_then(|meta| meta.modified());
    facts.subnet_env_written = written.ok().map(seconds);
    facts.conflists = conflists(&root.join(CONFIGURATIONS));
    facts.cni_plugin = PLUGINS.iter().any(|plugin| root.join(plugin).exists());
}

/// All configurations of a directory, in the order in which a runtime takes the first.
fn conflists(dir: &Path) -> Vec<Conflist> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| {
        let end = path.extension().and_then(|end| end.to_str());
        matches!(end, Some("conf" | "conflist" | "json"))
    });
    paths.sort();
    paths.iter().map(|path| conflist(path)).collect()
}

fn conflist(path: &Path) -> Conflist {
    let read = fs::read_to_string(path).map_err(|error| error.to_string());
    let value = read.and_then(|text| {
        serde_json::from_str::<Value>(&text).map_err(|error| format!("no JSON: {error}"))
    });
    // A file of one plugin has it at the top.
    let plugins = |value: &Value| match value["plugins"].as_array() {
        Some(plugins) => plugins.clone(),
        None => vec![value.clone()],
    };
    let plugins = value.as_ref().map(plugins).map_err(Clone::clone);
    let kind = |plugin: &Value| plugin["type"].as_str().map(str::to_owned);
    let flannel = plugins
        .iter()
        .flatten()
        .find(|plugin| plugin["type"] == "flannel");
    let mtu = flannel.and_then(|plugin| plugin["delegate"]["mtu"].as_u64());
    Conflist {
        path: path.display().to_string(),
        mtu: mtu.and_then(|mtu| u32::try_from(mtu).ok()),
        plugins: plugins.map(|plugins| plugins.iter().filter_map(kind).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_are_read_as_a_runtime_does() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join(CONFIGURATIONS);
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in [
            ("20-b.conf", r#"{"type":"bridge"}"#),
            (
                "10-a.conflist",
                r#"{"plugins":[{"type":"flannel","delegate":{"mtu":1500}},{"type":"portmap"}]}"#,
            ),
            ("30-c.conflist", "{"),
            ("README", "no configuration"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        let env = root.path().join("subnet.env");
        fs::write(&env, "FLANNEL_SUBNET=10.5.1.1/24\nFLANNEL_MTU=1450\n").unwrap();
        let mut facts = HostFacts::default();
        look(&mut facts, &env, root.path());
        assert_eq!(facts.subnet_env.unwrap()["FLANNEL_MTU"], "1450");
        assert!(facts.subnet_env_written.unwrap() > 1_700_000_000);
        let [a, b, c] = &facts.conflists[..] else {
            panic!("{:?}", facts.conflists);
        };
        assert_eq!(a.plugins.as_ref().unwrap(), &["flannel", "portmap"]);
        assert_eq!((a.mtu, b.mtu), (Some(1500), None));
        assert_eq!(b.plugins.as_ref().unwrap(), &["bridge"]);
        assert!(c.plugins.as_ref().unwrap_err().contains("no JSON"));
        assert!(!facts.cni_plugin);
        let mut facts = HostFacts::default();
        look(
            &mut facts,
            Path::new("/nowhere/subnet.env"),
            Path::new("/nowhere"),
        );
        assert_eq!((facts.subnet_env, facts.conflists), (None, Vec::new()));
    }
}
