//! The `udp` backend beside weft's agents: weft's own, or that of a real flanneld where one is
//! installed.

use super::{Error, Etcd, Lab, Namespace, Process, Result, agent, topology, wait_until};
use ipnet::Ipv4Net;
use std::fs;
use std::path::{Path, PathBuf};

/// The TUN device of the `udp` backend.
pub const DEVICE: &str = "flannel0";

/// Its keys in etcd, away from those of weft's agents.
const PREFIX: &str = "/weft-lab/udp";

/// Seconds that its leases live; flannel's own number.
const LEASE: u32 = 86_400;

/// Whose backend it is.
#[derive(Clone, Copy, Debug)]
pub enum Program<'a> {
    /// flanneld from PATH.
    Flanneld,
    /// This `weft` binary.
    Weft(&'a Path),
}

impl Program<'_> {
    fn name(self) -> &'static str {
        match self {
            Program::Flanneld => "flanneld",
            Program::Weft(_) => "weft",
        }
    }
}

/// The backend on two nodes. When it is dropped it stops, and its devices go.
#[derive(Debug)]
pub struct Udp {
    ends: Vec<(Namespace, Process)>,
}

impl Udp {
    /// Start it on nodes `a` and `b` (numbers from 1) for the pod subnets that they have.
    pub fn start(
        lab: &Lab,
        etcd: &Etcd,
        program: Program<'_>,
        network: Ipv4Net,
        a: usize,
        b: usize,
    ) -> Result<Udp> {
        // One bit wider than weft's: its route then stands behind weft's own.
        let network = network
            .supernet()
            .ok_or_else(|| Error::new(format!("{network} has no wider network")))?;
        etcd.put(&format!("{PREFIX}/config"), &config(network))?;
        // A node takes the lease that names its address, and with it the subnet of its pods.
        for number in [a, b] {
            let node = lab.node(number);
            let none = || Error::new(format!("node {number} has no pods attached"));
            let subnet = node.subnet.ok_or_else(none)?;
            let value = format!(r#"{{"PublicIP":"{}","PublicIPv6":null}}"#, node.underlay);
            etcd.put_leased(&lease_key(subnet), &value, LEASE)?;
        }
        let mut udp = Udp { ends: Vec::new() };
        for number in [a, b] {
            let process = start(lab, etcd, program, number)?;
            udp.ends.push((lab.node(number).ns.clone(), process));
        }
        Ok(udp)
    }
}

impl Drop for Udp {
    fn drop(&mut self) {
        for (ns, process) in &mut self.ends {
            // Whatever is left of it goes with the namespace.
            let _ = process.stop();
            let _ = ns.ip(&format!("link del {DEVICE}"));
        }
    }
}

fn config(network: Ipv4Net) -> String {
    format!(r#"{{"Network":"{network}","SubnetLen":24,"Backend":{{"Type":"udp"}}}}"#)
}

fn lease_key(subnet: Ipv4Net) -> String {
    let (base, len) = (subnet.network(), subnet.prefix_len());
    format!("{PREFIX}/subnets/{base}-{len}")
}

/// Start one node's and wait for its device.
fn start(lab: &Lab, etcd: &Etcd, program: Program<'_>, number: usize) -> Result<Process> {
    let (node, name) = (lab.node(number), program.name());
    let dir: PathBuf = lab.dir().join(format!("{name}-udp{number}"));
    fs::create_dir_all(&dir).map_err(|e| Error::because(dir.display(), e))?;
    let mut command = match program {
        Program::Flanneld => node.ns.command("flanneld"),
        Program::Weft(binary) => {
            let mut command = node.ns.command(binary);
            command.arg("agent");
            command.arg(format!("--state-dir={}", dir.join("state").display()));
            command.arg(format!("-socket-dir={}", dir.join("run").display()));
            if let Some(bpffs) = lab.bpffs() {
                command.arg(format!("-bpffs={}", bpffs.display()));
            }
            command
        }
    };
    command.arg(format!("-etcd-endpoints={}", etcd.endpoint()));
    command.arg(format!("-etcd-prefix={PREFIX}"));
    command.arg(format!("-iface={}", topology::UNDERLAY));
    let env: &Path = &dir.join("subnet.env");
    command.arg(format!("-subnet-file={}", env.display()));
    command.arg("-iptables-forward-rules=false");
    let log = dir.join("log");
    let mut process = node.ns.spawn(command, &log)?;
    let mut ended = None;
    let ready = wait_until(agent::READY_LIMIT, || {
        ended = process.ended().ok().flatten();
        let up = || node.ns.ip(&format!("link show {DEVICE} up"));
        ended.is_some() || (env.exists() && up().is_ok_and(|text| !text.is_empty()))
    });
    let what = match ended {
        Some(status) => format!("{name} on node {number} ended ({status})"),
        None if !ready => format!("{name} on node {number} is not up in time; its log ends"),
        None => return Ok(process),
    };
    Err(Error::because(what, agent::tail(&log, 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_config_are_flannels() {
        let subnet: Ipv4Net = "10.244.7.1/24".parse().unwrap();
        assert_eq!(lease_key(subnet), "/weft-lab/udp/subnets/10.244.7.0-24");
        let network: Ipv4Net = "10.244.0.0/16".parse().unwrap();
        let config: serde_json::Value =
            serde_json::from_str(&config(network.supernet().unwrap())).unwrap();
        assert_eq!(config["Network"], "10.244.0.0/15");
        assert_eq!(config["Backend"]["Type"], "udp");
    }
}
