//! Open vSwitch's userspace datapath as a VXLAN tunnel, where Open vSwitch is installed.
//!
//! Its tunnels leave through bridges of its own, so the two nodes get a second link for it;
//! the one that all others use stays as it is. A bridge with that link has the node's address
//! there, a second one has the tunnel and, as its local port, the device for the pods' traffic.

use super::{Error, Lab, Namespace, Process, Result, wait_until};
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The device on both nodes that leads into the tunnel.
pub const DEVICE: &str = "ovs-pod";

/// The second link between the nodes, and the bridge that has it.
const LINK: &str = "ovs-link";
const OUTER: &str = "ovs-outer";

const VNI: u32 = 4;

/// What VXLAN over IPv4 adds, the inner Ethernet header included.
const OVERHEAD: u32 = 50;

/// Where the package keeps the layout of its database.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// How long a daemon may take to come up.
const PATIENCE: Duration = Duration::from_secs(10);

/// Open vSwitch on two nodes; stopped, and its link removed, when dropped.
#[derive(Debug)]
pub struct Ovs {
    ends: Vec<End>,
    link: Namespace,
}

impl Ovs {
    /// Why it cannot run on this machine, if it cannot.
    pub fn unavailable() -> Option<String> {
        let programs = ["ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl"];
        let missing = programs.iter().find(|name| !super::tools::in_path(name));
        let missing = missing.map(|name| format!("{name} is not in PATH"));
        missing.or_else(|| (!Path::new(SCHEMA).exists()).then(|| format!("there is no {SCHEMA}")))
    }

    /// Start it on nodes `a` and `b` (numbers from 1), between these two alone, for pods whose
    /// MTU is `mtu` bytes.
    pub fn start(lab: &Lab, a: usize, b: usize, mtu: u32) -> Result<Ovs> {
        let (first, second) = (&lab.node(a).ns, &lab.node(b).ns);
        let outer = mtu + OVERHEAD;
        first.ip(&format!(
            "link add {LINK} mtu {outer} type veth peer name {LINK} mtu {outer} netns {}",
            second.name()
        ))?;
        let mut ovs = Ovs {
            ends: Vec::new(),
            link: first.clone(),
        };
        for (own, other) in [(a, b), (b, a)] {
            ovs.ends.push(End::start(lab, own, other, mtu)?);
        }
        Ok(ovs)
    }
}

impl Drop for Ovs {
    fn drop(&mut self) {
        self.ends.clear();
        // If the namespace is gone, so is the link.
        let _ = self.link.ip(&format!("link del {LINK}"));
    }
}

/// The address of node `number` inside the tunnel, which the other node routes through.
pub fn gateway(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, 78, number as u8)
}

/// The address of node `number` on the second link.
fn outer(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(169, 254, 77, number as u8)
}

/// One node's daemons.
#[derive(Debug)]
struct End {
    ns: Namespace,
    switch: Process,
    // Ends after the switch.
    _database: Process,
}

impl Drop for End {
    fn drop(&mut self) {
        // A switch that is asked to end leaves its bridges to the next one.
        let _ = self.switch.stop();
        for device in [DEVICE, OUTER, "ovs-netdev"] {
            let _ = self.ns.ip(&format!("link del {device}"));
        }
    }
}

impl End {
    fn start(lab: &Lab, own: usize, other: usize, mtu: u32) -> Result<End> {
        let ns = &lab.node(own).ns;
        let dir = lab.dir().join(format!("ovs{own}"));
        fs::create_dir_all(&dir).map_err(|e| Error::because(dir.display(), e))?;
        let files = Files { dir };
        super::run(
            std::process::Command::new("ovsdb-tool")
                .arg("create")
                .args([files.at("conf.db"), SCHEMA.into()]),
        )?;
        let mut database = ns.command("ovsdb-server");
        database.arg(files.at("conf.db"));
        database.arg(format!("--remote=punix:{}", files.shown("db.sock")));
        let database = files.spawn(ns, database, "ovsdb-server")?;
        files.await_socket("db.sock")?;
        files.vsctl(ns, &["--no-wait", "init"])?;
        let mut switch = ns.command("ovs-vswitchd");
        switch.arg(format!("unix:{}", files.shown("db.sock")));
        let switch = files.spawn(ns, switch, "ovs-vswitchd")?;
        let end = End {
            ns: ns.clone(),
            switch,
            _database: database,
        };
        let remote = format!("options:remote_ip={}", outer(other));
        let key = format!("options:key={VNI}");
        let bridge = |name| {
            [
                "--",
                "add-br",
                name,
                "--",
                "set",
                "bridge",
                name,
                "datapath_type=netdev",
            ]
        };
        let ports = [
            "--",
            "add-port",
            OUTER,
            LINK,
            "--",
            "add-port",
            DEVICE,
            "ovs-vxlan",
        ];
        let tunnel = [
            "--",
            "set",
            "interface",
            "ovs-vxlan",
            "type=vxlan",
            &remote,
            &key,
        ];
        let words: Vec<&str> = [&bridge(OUTER)[..], &bridge(DEVICE), &ports, &tunnel].concat();
        ns.ip(&format!("link set {LINK} up"))?;
        files.vsctl(ns, &words)?;
        ns.ip(&format!("addr add {}/24 dev {OUTER}", outer(own)))?;
        ns.ip(&format!("link set {OUTER} up"))?;
        ns.ip(&format!("addr add {}/24 dev {DEVICE}", gateway(own)))?;
        ns.ip(&format!("link set {DEVICE} mtu {mtu} up"))?;
        Ok(end)
    }
}

/// Where one node's daemons keep what is theirs.
struct Files {
    dir: PathBuf,
}

impl Files {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.at(name).display().to_string()
    }

    /// Start a daemon whose control socket and log are here, too.
    fn spawn(
        &self,
        ns: &Namespace,
        mut command: std::process::Command,
        name: &str,
    ) -> Result<Process> {
        command.env("OVS_RUNDIR", &self.dir);
        command.arg(format!("--unixctl={}", self.shown(&format!("{name}.ctl"))));
        ns.spawn(command, &self.at(&format!("{name}.log")))
    }

    fn await_socket(&self, name: &str) -> Result<()> {
        let socket = self.at(name);
        if wait_until(PATIENCE, || socket.exists()) {
            return Ok(());
        }
        Err(Error::new(format!(
            "there is no {} in time",
            socket.display()
        )))
    }

    /// Change the switch's settings, and wait until it has taken them in.
    fn vsctl(&self, ns: &Namespace, words: &[&str]) -> Result<()> {
        let mut command = ns.command("ovs-vsctl");
        command.env("OVS_RUNDIR", &self.dir);
        command.arg(format!("--timeout={}", PATIENCE.as_secs()));
        command.arg(format!("--db=unix:{}", self.shown("db.sock")));
        super::run(command.args(words)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_do_not_meet() {
        assert_ne!(outer(1), outer(2));
        assert_ne!(gateway(1), gateway(2));
        assert_ne!(
            outer(1).octets()[2],
            gateway(1).octets()[2],
            "networks of their own"
        );
    }

    #[test]
    fn pods_reach_each_other_through_it() {
        use crate::{LabOptions, Path, Switch, skips_test, topology};
        if skips_test() {
            return;
        }
        if Ovs::unavailable().is_some() {
            // Not a package that the tests install: `weft bench` says the same and goes on.
            return;
        }
        let mut lab = Lab::new(LabOptions::default()).unwrap();
        for (number, subnet) in [(1, "10.244.1.1/24"), (2, "10.244.2.1/24")] {
            lab.attach_pod(number, subnet.parse().unwrap(), 1450)
                .unwrap();
        }
        let ovs = Ovs::start(&lab, 1, 2, 1450).unwrap();
        let switch = Switch::new(&lab, 1, 2, 1450).unwrap();
        switch.choose(Path::Ovs).unwrap();
        let (from, to) = (lab.node(1).pod().unwrap(), lab.node(2).pod().unwrap());
        let mut last = Ok(());
        let reached = wait_until(PATIENCE, || {
            last = topology::ping(&from.ns, to.address, 1, 1400, true);
            last.is_ok()
        });
        assert!(reached, "{last:?}");
        drop(ovs);
        let links = lab.node(1).ns.ip("link show").unwrap();
        assert!(!links.contains("ovs-"), "{links}");
    }
}
