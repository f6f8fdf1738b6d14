//! One node: takes a lease, sets the host up, runs the workers and keeps their table up to
//! date until it is told to stop.
//!
//! # Order
//! Signal handlers, network config (waited for), underlay interface, device, MAC, lease
//! (waited for), the device's address and route, workers, `subnet.env`, then lease renewal
//! and the watch on the other nodes. The first table comes with the watch.
//!
//! At the end the workers stop; the device with its address and route, `subnet.env`, the MAC
//! and the lease stay, so that the next start finds the same subnet and peers keep their
//! entries.

mod dataplane;
mod mtu;
mod signals;

use crate::backend::vxlan::Vxlan;
use crate::config::{ConfigError, NetworkConfig, VxlanOptions};
use crate::flags::{Admit, AgentOptions};
use crate::host::iface::{self, IfaceError};
use crate::host::link::{self, DeviceConflict, Existing};
use crate::host::mac_store::{self, MacStoreError};
use crate::host::netlink::{Netlink, NetlinkError};
use crate::host::route;
use crate::host::subnet_env::{Previous, SubnetEnv};
use crate::lease::{Lease, LeaseAttrs, LeaseEnd, VxlanData};
use crate::subnets::etcd::{EtcdSubnets, Timing};
use crate::subnets::fixed::FixedSubnets;
use crate::subnets::{self, LeaseEvent, SubnetError, SubnetManager};
use dataplane::Dataplane;
use ipnet::{IpNet, Ipv4Net};
use signals::{Request, Signals};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};
use weft_dataplane::route::publish::Publisher;
use weft_dataplane::route::table::{Admission, BuildError, Overlay};
use weft_dataplane::sys::tun::OpenError;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::worker::StartError;
use weft_dataplane::worker::tunnel::TunnelState;

/// Lease events that may wait for the agent, and the most that go into one table build.
const EVENT_QUEUE: usize = 1024;

/// Pause between two looks whether all workers are alive.
const HEALTH_CHECK: Duration = Duration::from_secs(1);

/// Why the agent cannot start or go on. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The runtime or the signal handlers.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
    /// The subnet manager refuses.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// The network config asks for what cannot be done.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The config has no IPv4 network.
    #[error("the network config has no IPv4 Network")]
    NoIpv4Network,
    /// No underlay interface.
    #[error(transparent)]
    Iface(#[from] IfaceError),
    /// No place for the MAC.
    #[error(transparent)]
    MacStore(#[from] MacStoreError),
    /// The MTU leaves no room for packets.
    #[error(transparent)]
    Mtu(#[from] mtu::MtuError),
    /// Something else is called like the device.
    #[error(transparent)]
    Conflict(#[from] DeviceConflict),
    /// A kernel VXLAN device has the device's name and port.
    #[error(
        "{0} is a kernel VXLAN device left by flanneld, which also holds the VXLAN port; stop flanneld and remove it: ip link del {0}"
    )]
    KernelVxlan(String),
    /// The device cannot be had.
    #[error(transparent)]
    Device(#[from] OpenError),
    /// The device vanished while it was set up.
    #[error("{0} was removed while it was being set up; start again")]
    DeviceGone(String),
    /// The kernel refuses a change.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The overlay's settings make no table.
    #[error(transparent)]
    Table(#[from] BuildError),
    /// The workers cannot be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The subnet manager no longer reports leases.
    #[error("the watch on the other nodes' leases ended by itself; start again")]
    WatchEnded,
    /// A worker ended by itself.
    #[error("a packet worker failed: {0}")]
    Worker(String),
    /// The lease is over.
    #[error("{end}: {subnets} is no longer this node's; start again to take a new lease")]
    LeaseOver {
        /// How it ended.
        end: LeaseEnd,
        /// The subnets it was for.
        subnets: String,
    },
}

/// Run the agent until SIGINT or SIGTERM.
pub fn run(options: &AgentOptions) -> Result<(), AgentError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        if let Some(file) = &options.subnets_file {
            return agent(options, &FixedSubnets::new(file.clone())?).await;
        }
        let (endpoints, prefix) = (&options.etcd.endpoints, &options.etcd.prefix);
        let manager = EtcdSubnets::new(endpoints, prefix, Timing::default()).await?;
        agent(options, &manager).await
    })
}

async fn agent(options: &AgentOptions, manager: &impl SubnetManager) -> Result<(), AgentError> {
    let mut signals = Signals::install()?;
    let mut node = tokio::select! {
        biased;
        name = signals.stop() => {
            info!("{name}: stopped before the node was up");
            return Ok(());
        }
        node = Node::start(options, manager) => node?,
    };
    let result = node.serve(options, manager, &mut signals).await;
    node.stop();
    result
}

/// A node whose workers run.
struct Node {
    lease: Lease,
    device: String,
    vxlan: Vxlan,
    publisher: Publisher,
    dataplane: Dataplane,
}

impl Node {
    async fn start(
        options: &AgentOptions,
        manager: &impl SubnetManager,
    ) -> Result<Node, AgentError> {
        let config = subnets::wait_for_config(manager).await;
        let vxlan = VxlanOptions::parse(&config.backend)?;
        let network = config.network.ok_or(AgentError::NoIpv4Network)?;
        let device = format!("flannel.{}", vxlan.vni);

        let netlink = Netlink::connect()?;
        let underlay = iface::choose(
            &netlink,
            &options.interface.iface,
            options.interface.public_ip,
        )
        .await?;
        let public_ip = options.interface.public_ip.unwrap_or(underlay.addr);
        let mtu = mtu::of_device(&underlay, vxlan.mtu)?;
        info!(
            "packets leave through {} ({}, MTU {}), advertised address {public_ip}",
            underlay.name, underlay.addr, underlay.mtu
        );
        if network.contains(&underlay.addr) {
            warn!(
                "{} of {} lies inside Network {network}: packets to other nodes may be routed into the tunnel",
                underlay.addr, underlay.name
            );
        }
        // All that can fail here comes before the lease: a node that cannot run takes none.
        if let Some(found) = netlink.link(&device).await?
            && let Existing::KernelVxlan(_) = link::existing(&found)?
        {
            return Err(AgentError::KernelVxlan(device));
        }
        let port = vxlan.port;
        dataplane::await_port(port).await?;
        let tun = dataplane::open_device(&device, options)?;
        let mac = mac_store::load_or_create(&options.state_dir, &device)?;

        let data = VxlanData {
            vni: vxlan.vni,
            vtep_mac: mac,
        };
        let attrs = LeaseAttrs::vxlan(Some((public_ip, data)), None);
        let previous = Previous::read(&options.subnet_file);
        let lease = manager.acquire(&config, &attrs, &previous).await?;
        let subnet = lease.subnet.ok_or(AgentError::NoIpv4Network)?;
        info!("this node's subnet is {lease}");
        // A subnets file may state another MAC, and then peers send to that.
        let data = VxlanData {
            vtep_mac: lease.attrs.vxlan_data().map_or(mac, |data| data.vtep_mac),
            ..data
        };

        let overlay = overlay(&config, options, data, subnet);
        let vxlan = Vxlan::new(overlay, port);
        let earlier = previous.network.unwrap_or(network);
        set_up_device(&netlink, &device, mtu, subnet, [network, earlier]).await?;
        let publisher = Publisher::new(vxlan.table()?);
        let dataplane = Dataplane::start(tun, options, &underlay, port, mtu, &publisher)?;
        info!("{}", dataplane.capabilities());
        // No await from here on: the workers must be stopped by `Node::stop`.
        let env = SubnetEnv {
            v4: Some((network, subnet)),
            v6: None,
            mtu,
            ip_masq: false,
        };
        write_subnet_env(&options.subnet_file, &env);
        Ok(Node {
            lease,
            device,
            vxlan,
            publisher,
            dataplane,
        })
    }

    /// Follow leases and signals until one of them ends the node.
    async fn serve(
        &mut self,
        options: &AgentOptions,
        manager: &impl SubnetManager,
        signals: &mut Signals,
    ) -> Result<(), AgentError> {
        let (sender, mut events) = mpsc::channel(EVENT_QUEUE);
        let own = self.lease.clone();
        let mut watch = pin!(manager.watch(&own, sender));
        let mut keep = pin!(manager.keep(own.clone(), options.renew_margin));
        let mut health = tokio::time::interval(HEALTH_CHECK);
        let mut batch = Vec::with_capacity(EVENT_QUEUE);
        let mut ready = false;
        let mut downgrades = 0;
        let mut tunnel_gso = self.dataplane.tunnel_gso();
        loop {
            tokio::select! {
                request = signals.next() => match request {
                    Request::Counters => {
                        info!("{}", self.dataplane.capabilities());
                        info!("{}", self.dataplane.counters());
                    }
                    Request::Stop(name) => {
                        info!("{name}: stopping");
                        return Ok(());
                    }
                },
                end = &mut keep => {
                    let subnets = self.lease.to_string();
                    return Err(AgentError::LeaseOver { end, subnets });
                }
                () = &mut watch => return Err(AgentError::WatchEnded),
                _ = events.recv_many(&mut batch, EVENT_QUEUE) => {
                    self.apply(&mut batch)?;
                    if !ready {
                        self.log_ready();
                        ready = true;
                    }
                }
                _ = health.tick() => {
                    if let Some(reason) = self.dataplane.failed() {
                        return Err(AgentError::Worker(reason));
                    }
                    let refused = self.dataplane.downgrades();
                    if refused > downgrades {
                        downgrades = refused;
                        warn!("the kernel refuses long UDP trains: sending shorter ones or single datagrams");
                    }
                    let state = self.dataplane.tunnel_gso();
                    if state != tunnel_gso {
                        tunnel_gso = state;
                        log_tunnel_gso(state);
                    }
                    self.publisher.reclaim();
                }
            }
        }
    }

    /// Take in a batch of events with at most one table build.
    fn apply(&mut self, batch: &mut Vec<LeaseEvent>) -> Result<(), AgentError> {
        let mut changed = false;
        for event in batch.drain(..) {
            changed |= self.vxlan.apply(event);
        }
        if changed {
            self.publisher.publish(self.vxlan.table()?);
            debug!("peers: {}", self.vxlan.peers());
        }
        Ok(())
    }

    fn log_ready(&self) {
        info!(
            "ready: {} on {}, peers: {}",
            self.lease,
            self.device,
            self.vxlan.peers()
        );
    }

    fn stop(self) {
        info!("{}", self.dataplane.counters());
        self.dataplane.stop();
        info!("stopped; {} keeps its address and route", self.device);
    }
}

fn overlay(
    config: &NetworkConfig,
    options: &AgentOptions,
    own: VxlanData,
    subnet: Ipv4Net,
) -> Overlay {
    Overlay {
        wire: Wire::Vxlan,
        vni: own.vni,
        local_mac: own.vtep_mac,
        network_v4: config.network,
        subnet_len_v4: config.subnet_len,
        network_v6: None,
        subnet_len_v6: config.ipv6_subnet_len,
        own_v4: Some(subnet),
        own_v6: None,
        admission: match options.admit {
            Admit::Strict => Admission::Strict,
            Admit::Loose => Admission::Loose,
        },
    }
}

fn log_tunnel_gso(state: TunnelState) {
    match state {
        TunnelState::Off | TunnelState::Untried => {}
        TunnelState::InUse => info!("TCP super-packets leave whole"),
        TunnelState::Segmented => {
            info!(
                "the underlay device does not take super-packets: they are cut before they leave"
            );
        }
        TunnelState::Lost => warn!("a super-packet did not get out whole: they are cut before"),
        TunnelState::GivenUp => warn!(
            "super-packets do not get out whole (a FORWARD chain of the firewall, or net.ipv4.conf.all.rp_filter=1?): they are cut before they leave"
        ),
        TunnelState::Refused => {
            warn!(
                "the kernel refuses whole super-packets, or the packet socket that watches them leave (CAP_NET_RAW): they are cut before they leave"
            )
        }
    }
}

/// Give the device its MTU, address and route. `networks` are the one of the network config
/// and the one of the last start.
async fn set_up_device(
    netlink: &Netlink,
    name: &str,
    mtu: u32,
    subnet: Ipv4Net,
    networks: [Ipv4Net; 2],
) -> Result<(), AgentError> {
    let device = netlink.link(name).await?;
    let device = device.ok_or_else(|| AgentError::DeviceGone(name.to_owned()))?;
    let addr = subnet.network().into();
    let networks = networks.map(IpNet::from);
    link::ensure_up(netlink, &device, mtu).await?;
    link::ensure_address(netlink, &device, addr, &networks).await?;
    route::ensure(netlink, &device, networks[0], addr).await?;
    Ok(())
}

/// A failure only costs the readers: packets flow without the file.
fn write_subnet_env(path: &Path, env: &SubnetEnv) {
    match env.write(path) {
        Ok(()) => info!("wrote {}", path.display()),
        Err(error) => warn!(
            "cannot write {}: {error}; container runtimes will not learn the subnet",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests;
