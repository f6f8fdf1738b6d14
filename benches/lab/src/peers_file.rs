//! A subnets file for weft's agents, in place of etcd.

use super::{Error, Lab, Node, Result};
use ipnet::Ipv4Net;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// Prefix length of the nodes' subnets: flannel's for networks with room for it.
const SUBNET_LEN: u8 = 24;

/// The file that all nodes of a lab share. Node `n` has the network's `n`th /24.
#[derive(Debug)]
pub struct PeersFile {
    path: PathBuf,
    config: Value,
    network: Ipv4Net,
}

impl PeersFile {
    /// A file in the lab's directory with the network configuration `config`, JSON, and
    /// leases for these nodes, numbered from 1.
    pub fn create(
        lab: &Lab,
        config: &str,
        numbers: impl IntoIterator<Item = usize>,
    ) -> Result<PeersFile> {
        let bad = |reason: &str| Error::because("the network configuration", reason);
        let config: Value = serde_json::from_str(config).map_err(|e| bad(&e.to_string()))?;
        let network = config["Network"].as_str().and_then(|net| net.parse().ok());
        let file = PeersFile {
            path: lab.dir().join("peers.json"),
            network: network.ok_or_else(|| bad("it has no Network"))?,
            config,
        };
        file.write(lab, numbers)?;
        Ok(file)
    }

    /// Write the file anew, with leases for these nodes.
    pub fn write(&self, lab: &Lab, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
        let lease = |number| self.lease(lab.node(number));
        let leases: Vec<Value> = numbers.into_iter().map(lease).collect();
        let all = json!({ "config": self.config, "leases": leases });
        std::fs::write(&self.path, format!("{all:#}\n"))
            .map_err(|e| Error::because(self.path.display(), e))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn lease(&self, node: &Node) -> Value {
        let subnet = subnet(self.network, node.number);
        json!({ "Subnet": subnet, "PublicIP": node.underlay })
    }
}

fn subnet(network: Ipv4Net, number: usize) -> String {
    let base = u32::from(network.network()) + ((number as u32) << (32 - SUBNET_LEN));
    format!("{}/{SUBNET_LEN}", Ipv4Addr::from(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_get_subnets_by_their_number() {
        let network = "10.244.0.0/16".parse().unwrap();
        assert_eq!(subnet(network, 1), "10.244.1.0/24");
        assert_eq!(subnet(network, 200), "10.244.200.0/24");
    }
}
