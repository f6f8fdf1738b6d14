//! Two nodes with a pod each, and every contestant between them.

use super::flannel::{Program, Udp};
use super::ovs::Ovs;
use super::proxy::Proxy;
use super::tuntap::TunTap;
use super::{Cluster, Contestant, Error, Path, Pod, Result, Switch, topology::ping, wait_until};
use std::time::Duration;

/// How long a contestant may take until the pods reach each other.
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// The place where contestants take turns. Whatever one needs beside weft's agents is started
/// when it is first chosen, and then stays, idle, while others have their turn.
#[derive(Debug)]
pub struct Arena {
    switch: Switch,
    tuntap: Option<TunTap>,
    proxies: Option<[Proxy; 2]>,
    /// The udp backend and whose it is: there is one at a time, for they have the same device.
    udp: Option<(Path, Udp)>,
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
            proxies: None,
            udp: None,
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
            Path::UdpProxy => self.start_proxies()?,
            Path::WeftUdp | Path::FlannelUdp => self.start_udp(contestant.path)?,
            Path::Ovs => self.start_ovs()?,
        }
        self.switch.choose(contestant.path)?;
        let (from, to) = self.pods()?;
        let mut last = None;
        wait_until(REACH_LIMIT, || {
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

    fn start_proxies(&mut self) -> Result<()> {
        let alive = |proxies: &[Proxy; 2]| proxies.iter().all(Proxy::is_alive);
        if self.proxies.as_ref().is_some_and(alive) {
            return Ok(());
        }
        self.proxies = None;
        let (lab, mtu) = (&self.cluster.lab, self.cluster.mtu());
        self.proxies = Some(Proxy::beside(lab, 1, 2, mtu)?);
        Ok(())
    }

    fn start_udp(&mut self, path: Path) -> Result<()> {
        if self
            .udp
            .as_ref()
            .is_some_and(|(running, _)| *running == path)
        {
            return Ok(());
        }
        self.udp = None;
        let none = || Error::new("the udp backend needs the network of weft's agents");
        let network = self.cluster.envs.first().ok_or_else(none)?.network;
        let program = match (path, self.cluster.agents.first()) {
            (Path::WeftUdp, Some(agent)) => Program::Weft(agent.binary()),
            _ => Program::Flanneld,
        };
        let none = || Error::new("the udp backend needs etcd");
        let etcd = self.cluster.etcd.as_ref().ok_or_else(none)?;
        let lab = &self.cluster.lab;
        self.udp = Some((path, Udp::start(lab, etcd, program, network, 1, 2)?));
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
