//! The programs a lab runs.

/// Programs and the Debian packages that hold them.
const TOOLS: [(&str, &str); 8] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("ethtool", "ethtool"),
    ("ping", "iputils-ping"),
    ("timeout", "coreutils"),
    ("iperf3", "iperf3"),
    ("etcd", "etcd-server"),
    ("etcdctl", "etcd-client"),
];

/// Programs that are not in `PATH` and the packages to install for them.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing {
    /// Names of programs.
    pub programs: Vec<&'static str>,
    /// Names of Debian packages.
    pub packages: Vec<&'static str>,
}

/// The programs of [`TOOLS`] that a subnets file can stand in for.
const ETCD: [&str; 2] = ["etcd", "etcdctl"];

/// What is missing on this machine, if anything.
pub fn missing() -> Option<Missing> {
    missing_if(in_path)
}

/// What is missing on this machine for a lab that may do without etcd.
pub fn missing_beside_etcd() -> Option<Missing> {
    missing_if(|program| ETCD.contains(&program) || in_path(program))
}

/// Whether there is an etcd to start.
pub fn has_etcd() -> bool {
    ETCD.into_iter().all(in_path)
}

/// Whether a program of this name is in `PATH`.
pub fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn missing_if(has: impl Fn(&str) -> bool) -> Option<Missing> {
    let absent: Vec<_> = TOOLS.iter().filter(|(program, _)| !has(program)).collect();
    let mut packages: Vec<_> = absent.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    let programs = absent.iter().map(|(program, _)| *program).collect();
    (!absent.is_empty()).then_some(Missing { programs, packages })
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (programs, packages) = (self.programs.join(", "), self.packages.join(" "));
        write!(
            f,
            "not installed: {programs}; try `apt-get install {packages}`"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once() {
        assert_eq!(missing_if(|_| true), None);
        let missing = missing_if(|p| p != "ip" && p != "bridge" && p != "etcd").unwrap();
        assert_eq!(
            missing.to_string(),
            "not installed: ip, bridge, etcd; try `apt-get install iproute2 etcd-server`"
        );
    }
}
