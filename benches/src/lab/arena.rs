//! Two nodes with a pod each, and every contestant between them.

use super::flannel::FlannelUdp;
use super::ovs::Ovs;
use super::tuntap::TunTap;
use super::{Cluster, Contestant, Error, Path, Pod, Result, Switch, netns, topology::ping};
use std::time::Duration;

/// How long a contestant may take until the pods reach each other.
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// The place where contestants take turns. Whatever one needs beside weft's agents is started
/// when it is first chosen, and then stays, idle, while others have their turn.
#[derive(Debug)]
pub struct Arena {
    switch: Switch,
    tuntap: Option<TunTap>,
    flannel: Option<FlannelUdp>,
    ovs: Option<Ovs>,
    /// The nodes and weft's agents.
    pub cluster: Cluster,
}

impl Arena {
    /// Of a cluster's first two nodes, whose pods are attached.
    pub fn new(cluster: Cluster) -> Result<Arena> {
        let switch = Switch::new(&cluster.lab, 1, 2, cluster.mtu())?;
        Ok(Arena {
            switch,
            tuntap: None,
            flannel: None,
            ovs: None,
            cluster,
        })
    }

    /// Let `contestant` carry the pods' traffic from now on, and make sure that it does: with
    /// small packets and with the largest.
    pub fn choose(&mut self, contestant: &Contestant) -> Result<()> {
        match contestant.path {
            Path::Direct | Path::Kernel => {}
            Path::Weft => self.cluster.set_flags(contestant.flags)?,
            Path::TunTap => self.start_tuntap()?,
            Path::FlannelUdp => self.start_flannel()?,
            Path::Ovs => self.start_ovs()?,
        }
        self.switch.choose(contestant.path)?;
        let (from, to) = self.pods()?;
        let mut last = None;
        netns::wait_until(REACH_LIMIT, || {
            last = ping(&from.ns, to.address, 1, 56, false).err();
            last.is_none()
        });
        last.map_or(Ok(()), Err)?;
        // IPv4 and ICMP headers.
        ping(&from.ns, to.address, 2, self.cluster.mtu() - 28, true)
    }

    fn start_tuntap(&mut self) -> Result<()> {
        if self.tuntap.as_ref().is_some_and(TunTap::is_alive) {
            return Ok(());
        }
        self.tuntap = None;
        let (lab, mtu) = (&self.cluster.lab, self.cluster.mtu());
        self.tuntap = Some(TunTap::start(lab, 1, 2, mtu)?);
        Ok(())
    }

    fn start_flannel(&mut self) -> Result<()> {
        if self.flannel.is_some() {
            return Ok(());
        }
        let none = || Error::new("flanneld needs the network of weft's agents");
        let network = self.cluster.envs.first().ok_or_else(none)?.network;
        let none = || Error::new("flanneld needs etcd");
        let etcd = self.cluster.etcd.as_ref().ok_or_else(none)?;
        let lab = &self.cluster.lab;
        self.flannel = Some(FlannelUdp::start(lab, etcd, network, 1, 2)?);
        Ok(())
    }

    fn start_ovs(&mut self) -> Result<()> {
        if self.ovs.is_none() {
            let (lab, mtu) = (&self.cluster.lab, self.cluster.mtu());
            self.ovs = Some(Ovs::start(lab, 1, 2, mtu)?);
        }
        Ok(())
    }

    /// Let nodes, pods and agents outlive this process; other contestants end with it.
    pub fn keep(self) -> Result<()> {
        self.cluster.keep()
    }

    /// The two pods.
    pub fn pods(&self) -> Result<(Pod, Pod)> {
        let pod = |number| self.cluster.lab.node(number).pod().cloned();
        Ok((pod(1)?, pod(2)?))
    }
}
