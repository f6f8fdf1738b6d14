//! A TUN device with its workers: what carries the packets of one address family.

use super::dataplane::{self, Dataplane};
use super::losses::LossTeller;
use super::peers::Peer;
use super::recursion::Recursion;
use super::takeover::{self, Takeover};
use super::trouble::Trouble;
use super::tunnel_gso::TunnelGsoLog;
use super::{BackendError, Host, leftovers};
use crate::host::link::{self, Existing};
use crate::host::mac_store::{self, VtepMac};
use crate::host::netlink::Link;
use crate::host::route::{self, default_metric};
use crate::lease::VxlanData;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;
use tracing::{debug, info, warn};
use weft_dataplane::publish::Publisher;
use weft_dataplane::route::table::{self, NewPeer, Overlay, Table};
use weft_dataplane::stats::Count;
use weft_dataplane::sys::tun::{self, Tun};
use weft_dataplane::sys::{ethtool, redirect, tap};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::worker;

/// What a tunnel is to be.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Name of the device.
    pub device: String,
    /// The form of the frames.
    pub wire: Wire,
    /// VXLAN network identifier, of no meaning without VXLAN.
    pub vni: u32,
    /// Whether VXLAN headers may carry a group policy.
    pub gbp: bool,
    /// Underlay address to send from.
    pub local: IpAddr,
    /// UDP port of all nodes.
    pub port: u16,
    /// MTU of the device in bytes.
    pub mtu: u32,
    /// Metric of the route to the network, if not the one that routes have by default.
    pub metric: Option<u32>,
    /// MTU of pods in bytes: the smallest of all families.
    pub pod_mtu: u32,
}

/// A tunnel that needs only a lease.
pub(super) struct Prepared {
    plan: Plan,
    mac: VtepMac,
    device: Device,
}

enum Device {
    Ours(Tun),
    /// flanneld's, which carries traffic up to the last moment.
    Kernel(Link),
}

impl Prepared {
    /// See to device, port and MAC. A kernel VXLAN device of this name gives its MAC, by which
    /// peers know the node, and stays until the tunnel starts.
    pub(super) async fn new(plan: Plan, host: &Host) -> Result<Prepared, BackendError> {
        let state_dir = &host.options.state_dir;
        dataplane::check_local(plan.local, host)?;
        let found = host.netlink.link(&plan.device).await?;
        let existing = found.as_ref().map(link::existing).transpose()?;
        let (mac, device) = match (existing, found) {
            (Some(Existing::KernelVxlan(mac)), Some(kernel)) => {
                tun::check(&plan.device)?;
                takeover::check(host, &kernel, &plan).await?;
                let mac = mac_store::adopt(state_dir, &plan.device, mac);
                (mac, Device::Kernel(kernel))
            }
            _ => {
                if plan.wire == Wire::Vxlan {
                    takeover::clear(host, &plan).await;
                    leftovers::check_vni(host, &plan).await?;
                }
                dataplane::await_port(plan.local, plan.port).await?;
                let tun = dataplane::open_device(&plan.device, &host.options.workers)?;
                // At once: if the config changes before the lease, nobody uses the device.
                claim(host, &plan.device).await?;
                let mac = match plan.wire {
                    Wire::Vxlan => mac_store::load_or_create(state_dir, &plan.device),
                    Wire::Ip => VtepMac::none(),
                };
                (mac, Device::Ours(tun))
            }
        };
        Ok(Prepared { plan, mac, device })
    }

    /// The VtepMAC of this node; zero without VXLAN.
    pub(super) fn mac(&self) -> [u8; 6] {
        self.mac.mac
    }

    /// VNI and VtepMAC, for the lease; none without VXLAN.
    pub(super) fn vxlan_data(&self) -> Option<VxlanData> {
        (self.plan.wire == Wire::Vxlan).then_some(VxlanData {
            vni: self.plan.vni,
            vtep_mac: self.mac.mac,
        })
    }

    /// The device's name.
    pub(super) fn device(&self) -> &str {
        &self.plan.device
    }

    /// The MAC and whether it is kept.
    pub(super) fn kept_mac(&self) -> &VtepMac {
        &self.mac
    }

    /// Have the MAC that peers know this node by, in place of one that could not be kept.
    pub(super) fn take_mac(&mut self, known: [u8; 6]) {
        self.mac.take(known);
    }

    /// Have a new MAC; the device's name.
    pub(super) fn renew_mac(&mut self, host: &Host) -> String {
        let device = &self.plan.device;
        self.mac = mac_store::renew(&host.options.state_dir, device);
        device.clone()
    }

    /// The device beside it through which encapsulated super-packets will be forwarded, if any.
    pub(super) fn tap(&self, host: &Host) -> Option<String> {
        worker::tap_name(&self.plan.device, &dataplane::config(host, &self.plan))
    }

    /// Give the device its address and route, and start the workers; no peer is known yet.
    /// `overlay` lacks only the wire format.
    pub(super) async fn start(
        self,
        host: &Host,
        overlay: Overlay,
        place: Place,
    ) -> Result<Tunnel, BackendError> {
        let plan = self.plan;
        let kernel = match self.device {
            Device::Ours(tun) => {
                return Tunnel::start(tun, host, plan, self.mac, overlay, place).await;
            }
            Device::Kernel(kernel) => as_it_is_now(host, &kernel).await?,
        };
        let takeover = Takeover::begin(host, &kernel, &plan).await?;
        let started = async {
            dataplane::await_port(plan.local, plan.port).await?;
            let tun = dataplane::open_device(&plan.device, &host.options.workers)?;
            Tunnel::start(tun, host, plan, self.mac, overlay, place).await
        };
        match started.await {
            Ok(tunnel) => Ok(Tunnel {
                takeover: Some(takeover),
                ..tunnel
            }),
            Err(error) => {
                takeover.undo(host).await;
                Err(error)
            }
        }
    }
}

/// The kernel device as it is after the wait for the lease. If it is another one, or has
/// another MAC, the lease tells peers the wrong one.
async fn as_it_is_now(host: &Host, kernel: &Link) -> Result<Link, BackendError> {
    let now = host.netlink.link(&kernel.name).await?;
    now.filter(|now| (now.index, now.mac) == (kernel.index, kernel.mac))
        .ok_or_else(|| BackendError::Changed(kernel.name.clone()))
}

/// Where in the network this node is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The network, and that of the last start.
    pub networks: [IpNet; 2],
    /// This node's subnet.
    pub subnet: IpNet,
}

/// A running tunnel.
pub(super) struct Tunnel {
    plan: Plan,
    mac: VtepMac,
    overlay: Overlay,
    place: Place,
    /// Interface index of the device.
    index: u32,
    publisher: Publisher,
    /// Missing only while the device is made anew.
    dataplane: Option<Dataplane>,
    trouble: Trouble,
    downgrades: u64,
    losses: LossTeller,
    merges_refused: u64,
    /// It has been said that somebody turned off checksum offload.
    offload_restored: bool,
    tunnel_gso: TunnelGsoLog,
    /// From a kernel device, until all tunnels have started.
    takeover: Option<Takeover>,
}

impl Tunnel {
    async fn start(
        tun: Tun,
        host: &Host,
        plan: Plan,
        mac: VtepMac,
        overlay: Overlay,
        place: Place,
    ) -> Result<Tunnel, BackendError> {
        let overlay = Overlay {
            wire: plan.wire,
            vni: plan.vni,
            gbp: plan.gbp,
            ..overlay
        };
        let index = configure(host, &plan, &place).await?;
        let publisher = Publisher::new(Table::build(overlay.clone(), &[])?);
        let dataplane = Dataplane::start(tun, host, &plan, &publisher).await?;
        info!("{}", dataplane.capabilities(&plan.device));
        Ok(Tunnel {
            tunnel_gso: TunnelGsoLog::new(dataplane.tunnel_gso()),
            plan,
            mac,
            overlay,
            place,
            index,
            publisher,
            dataplane: Some(dataplane),
            trouble: Trouble::default(),
            downgrades: 0,
            losses: LossTeller::default(),
            merges_refused: 0,
            offload_restored: false,
            takeover: None,
        })
    }

    /// All tunnels have started: a kernel device that this one has the place of can go.
    pub(super) async fn confirm(&mut self, host: &Host) {
        if let Some(takeover) = self.takeover.take() {
            takeover.complete(host).await;
        }
    }

    /// Another tunnel did not start: a kernel device that this one has the place of comes back.
    pub(super) async fn withdraw(self, host: &Host) {
        drop(self.dataplane);
        if let Some(takeover) = self.takeover {
            takeover.undo(host).await;
        }
    }

    /// The device's name.
    pub(super) fn device(&self) -> &str {
        &self.plan.device
    }

    /// Address that packets to peers leave from.
    pub(super) fn local(&self) -> IpAddr {
        self.plan.local
    }

    /// Send to `peers` from the workers' next batch on, but for those to whom the way leads
    /// back, says `ways`.
    pub(super) fn publish<'a>(
        &self,
        peers: impl Iterator<Item = &'a Peer>,
        ways: &Recursion,
    ) -> Result<(), BackendError> {
        let route = |peer: &Peer| {
            let port = match ways.leads_back(peer.addr) {
                true => table::CUT_OFF,
                false => self.plan.port,
            };
            table::Route {
                prefix: peer.subnet,
                peer: NewPeer {
                    addr: SocketAddr::new(peer.addr, port),
                    mac: peer.mac,
                },
            }
        };
        let routes: Vec<table::Route> = peers.map(route).collect();
        let table = Table::build(self.overlay.clone(), &routes)?;
        let table = table.with_exits(|addr| ways.exit(addr));
        self.publisher.publish(table);
        Ok(())
    }

    /// Look whether device and workers are alive. A device that somebody removed is made anew
    /// and one that was set down is brought up, with address, route and the same MAC. What
    /// fails is tried again at the next look; an error is one that does not pass by itself.
    pub(super) async fn watch(&mut self, host: &Host) -> Result<(), BackendError> {
        self.publisher.reclaim();
        let outcome = self.look_after(host).await;
        let device = &self.plan.device;
        self.trouble.judge(device, outcome, Instant::now())
    }

    async fn look_after(&mut self, host: &Host) -> Result<(), BackendError> {
        if self.dataplane.is_none() {
            return self.make_anew(host).await;
        }
        // Before the look-up: the workers of a device that is removed fail, too.
        let failed = self.dataplane.as_ref().and_then(Dataplane::failed);
        let link = host.netlink.link(self.device()).await?;
        match (link, failed) {
            (Some(link), None) if link.index == self.index => {
                if !link.up {
                    warn!("{} was set down: bringing it up again", link.name);
                    configure(host, &self.plan, &self.place).await?;
                }
                self.look_after_offloads();
                self.look_after_tap(host).await?;
                self.note_changes();
                Ok(())
            }
            (Some(link), Some(reason)) if link.index == self.index => {
                Err(BackendError::Worker(reason))
            }
            _ => {
                warn!("{} was removed: making it anew", self.device());
                self.make_anew(host).await
            }
        }
    }

    /// Turn checksum offload on again where a rule for kernel VXLAN turned it off: this device
    /// has none of that one's faults, and gives no super-packets without it.
    fn look_after_offloads(&mut self) {
        let device = &self.plan.device;
        match ethtool::restore_checksum_offload(device) {
            Ok(true) if !std::mem::replace(&mut self.offload_restored, true) => warn!(
                "checksum offload of {device} was turned off, and super-packets with it (tx-checksum-ip-generic, as by a udev rule for kernel VXLAN): turning it on, now and whenever it is turned off again; -tso=false -uso=false keeps super-packets off"
            ),
            Ok(_) => {}
            Err(error) => debug!("cannot look at the offloads of {device}: {error}"),
        }
    }

    /// Look whether the TAP for whole super-packets is there and up. One that was removed is
    /// made anew with the workers, which hold it.
    async fn look_after_tap(&mut self, host: &Host) -> Result<(), BackendError> {
        let Some(name) = self.dataplane.as_ref().and_then(Dataplane::tap) else {
            return Ok(());
        };
        match host.netlink.link(name).await? {
            Some(tap) if tap.up => {
                match tap::restore(name) {
                    Ok(true) => info!(
                        "{name} had lost its address or settings (rp_filter, accept_local, forwarding): it has them again"
                    ),
                    Ok(false) => {}
                    Err(error) => debug!("cannot look at the settings of {name}: {error}"),
                }
                Ok(())
            }
            Some(tap) => {
                warn!("{name} was set down: bringing it up again");
                Ok(host.netlink.set_link_up(&tap).await?)
            }
            None => {
                warn!("{name} was removed: making it anew");
                self.make_anew(host).await
            }
        }
    }

    /// Keep the MAC for the next start, as far as that could not be done yet.
    pub(super) fn keep_mac(&mut self) {
        self.mac.ensure();
    }

    /// Mend address and route of the device.
    pub(super) async fn mend(&self, host: &Host) -> Result<(), BackendError> {
        if self.dataplane.is_none() {
            return Ok(());
        }
        configure(host, &self.plan, &self.place).await.map(drop)
    }

    async fn make_anew(&mut self, host: &Host) -> Result<(), BackendError> {
        let Plan {
            device,
            local,
            port,
            ..
        } = &self.plan;
        // The old workers hold the port, and the new ones must not share it with them.
        if let Some(old) = self.dataplane.take() {
            info!("{}", old.counters(device));
            old.stop();
        }
        if let Some(found) = host.netlink.link(device).await?
            && let Existing::KernelVxlan(_) = link::existing(&found)?
        {
            return Err(BackendError::Displaced(device.clone()));
        }
        dataplane::await_port(*local, *port).await?;
        let tun = dataplane::open_device(device, &host.options.workers)?;
        self.index = configure(host, &self.plan, &self.place).await?;
        let dataplane = Dataplane::start(tun, host, &self.plan, &self.publisher).await?;
        self.dataplane = Some(dataplane);
        // Counts begin anew.
        self.losses = LossTeller::default();
        Ok(())
    }

    /// Log what the workers have found out about the kernel since the last look.
    fn note_changes(&mut self) {
        let Some(dataplane) = &self.dataplane else {
            return;
        };
        let downgrades = dataplane.count(Count::Downgrades);
        if downgrades > self.downgrades {
            warn!(
                "the kernel refused a UDP train: where it did, shorter ones or single datagrams are sent for a minute or for good"
            );
        }
        if let Some(peers) = self.losses.take(dataplane.losses(), Instant::now()) {
            warn!(
                "frames to these nodes (number lost so far) could not leave, as the queue of the device towards them is full (see `tc -s qdisc`) or the kernel refuses them: {peers}"
            );
        }
        let merges_refused = dataplane.count(Count::MergesRefused);
        if merges_refused > self.merges_refused {
            warn!(
                "the kernel refuses a super-packet on {}: writing single packets, or shorter ones, for a while",
                self.plan.device
            );
        }
        (self.downgrades, self.merges_refused) = (downgrades, merges_refused);
        let peers = dataplane.tunnel_gso_peers();
        let strictness = || {
            let rp_filter = dataplane.tap().and_then(redirect::rp_filter);
            (rp_filter, dataplane.tunnel_gso_redirect())
        };
        self.tunnel_gso
            .note(dataplane.tunnel_gso(), peers, strictness);
    }

    /// Log what of the kernel is in use, and the counters.
    pub(super) fn report(&self) {
        if let Some(dataplane) = &self.dataplane {
            info!("{}", dataplane.capabilities(self.device()));
            info!("{}", dataplane.counters(self.device()));
        }
    }

    /// Stop the workers. The device stays, with its address and route.
    pub(super) fn stop(self) {
        let device = &self.plan.device;
        if let Some(dataplane) = self.dataplane {
            info!("{}", dataplane.counters(device));
            dataplane.stop();
            dataplane::release_port(self.plan.local, self.plan.port);
        }
        info!("stopped; {device} keeps its address and route");
    }
}

/// Give the device its MTU, address and route; its interface index.
async fn configure(host: &Host, plan: &Plan, place: &Place) -> Result<u32, BackendError> {
    let netlink = &host.netlink;
    let device = claim(host, &plan.device).await?;
    let addr = place.subnet.network();
    let network = place.networks[0];
    let metric = plan.metric.unwrap_or_else(|| default_metric(network));
    link::ensure_up(netlink, &device, plan.mtu).await?;
    link::ensure_address(netlink, &device, addr, &place.networks).await?;
    route::ensure(netlink, &device, network, metric, addr).await?;
    Ok(device.index)
}

/// Mark the device of this name as this agent's.
async fn claim(host: &Host, name: &str) -> Result<Link, BackendError> {
    let device = host.netlink.link(name).await?;
    let device = device.ok_or_else(|| BackendError::DeviceGone(name.to_owned()))?;
    if let Some(mark) = &host.mark {
        leftovers::claim(&host.netlink, &device, mark).await;
    }
    Ok(device)
}
