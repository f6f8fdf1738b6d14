//! What tells this agent from others on the host: its network, and the file of its subnet. No
//! two agents have both in common.

use super::AgentOptions;
use crate::host::link;
use crate::subnets::etcd::normalised;
use std::fmt;
use std::path::Path;

/// The name of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AgentName {
    network: String,
    file: String,
}

impl AgentName {
    /// That of the agent with these settings.
    pub(super) fn of(options: &AgentOptions) -> AgentName {
        AgentName {
            network: match &options.subnets_file {
                Some(file) => whole(file),
                None if options.kube_subnets => without_end(options.kube.network_path()),
                None => without_end(normalised(&options.etcd.prefix)),
            },
            file: whole(&options.subnet_file),
        }
    }

    /// What the names of all agents with this one's `subnet.env` end in.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The mark of the agent's devices; none if it would be too long, and then no device is known
    /// for the agent's own.
    pub(super) fn mark(&self) -> Option<String> {
        link::mark(&self.to_string())
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.network, self.file)
    }
}

/// A path without its slash at the end.
fn without_end(mut path: String) -> String {
    if path.len() > 1 {
        path.pop();
    }
    path
}

/// A path that is the same from wherever the agent is started.
fn whole(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_names_network_and_file_and_is_an_alias() {
        let mut options = AgentOptions {
            subnet_file: "/run/flannel/subnet.env".into(),
            ..AgentOptions::default()
        };
        let mark = |options: &AgentOptions| AgentName::of(options).mark();
        for (spelt, name) in [
            ("/coreos.com/network", "/coreos.com/network"),
            ("/coreos.com/network/", "/coreos.com/network"),
            ("//coreos.com//network", "/coreos.com/network"),
            ("/", "/"),
            ("", ""),
            ("network/", "network"),
        ] {
            options.etcd.prefix = spelt.into();
            let named = format!("weft {name} /run/flannel/subnet.env");
            assert_eq!(mark(&options), Some(named), "{spelt}");
        }
        options.kube_subnets = true;
        let of_cluster = "weft kubernetes:flannel.alpha.coreos.com /run/flannel/subnet.env";
        assert_eq!(mark(&options).as_deref(), Some(of_cluster));
        options.kube_subnets = false;
        options.subnets_file = Some("/etc/peers.toml".into());
        let of_file = "weft /etc/peers.toml /run/flannel/subnet.env";
        assert_eq!(mark(&options).as_deref(), Some(of_file));
        // As typed from where it is.
        options.subnets_file = Some("peers.toml".into());
        let here = std::env::current_dir().unwrap().join("peers.toml");
        let of_file = format!("weft {} /run/flannel/subnet.env", here.display());
        assert_eq!(mark(&options), Some(of_file));
        options.subnet_file = "x".repeat(300).into();
        assert_eq!(mark(&options), None);
    }
}
