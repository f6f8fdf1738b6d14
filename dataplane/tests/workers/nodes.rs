//! Two nodes, each in a namespace of its own, with a pod on a device and weft.

use std::net::Ipv4Addr;
use std::sync::Arc;
use weft_dataplane::publish::Publisher;
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::stats::{Count, DropReason, WorkerStats};
use weft_dataplane::sys::port::Frames;
use weft_dataplane::sys::tap::Tap;
use weft_dataplane::sys::tun::{Offloads, Queues, Tun, TunQueue};
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::vxlan::Vni;
use weft_dataplane::worker::tunnel_gso::TunnelGso;
use weft_dataplane::worker::{Config, Dataplane, EngineKind, Holdings, Options, Workers};
use weft_lab::Namespace;

/// MTU of the overlay, whatever the underlay's.
const MTU: usize = 1450;

/// Index of the underlay device.
const ETH0: u32 = 77;

const PORT: u16 = 8472;

/// How both nodes run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) engine: EngineKind,
    pub(crate) wire: Wire,
    /// MTU of the underlay.
    pub(crate) underlay: usize,
    pub(crate) outer_df: bool,
    pub(crate) tunnel_gso: TunnelGso,
}

/// One of the two.
pub(crate) struct Node {
    /// What its pods send and receive.
    pub(crate) pods: Arc<TunQueue>,
    pub(crate) dataplane: Workers,
    publisher: Publisher,
    pub(crate) ns: Namespace,
    own: u8,
    setup: Setup,
}

/// Both nodes, each the other's only peer.
pub(crate) fn start(setup: Setup) -> [Node; 2] {
    let [a, b] = [(); 2].map(|()| Namespace::unnamed().unwrap());
    for ns in [&a, &b] {
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/all/disable_ipv6", "1"),
            ("net/ipv6/conf/default/disable_ipv6", "1"),
        ] {
            ns.sysctl(key, value).unwrap();
        }
    }
    let peer = format!("peer name eth0 index {ETH0} netns {}", b.name());
    a.ip(&format!("link add eth0 index {ETH0} type veth {peer}"))
        .unwrap();
    for (ns, number) in [(&a, 1), (&b, 2)] {
        let address = underlay(number);
        ns.ip(&format!("addr add {address}/24 dev eth0")).unwrap();
        let mtu = setup.underlay;
        ns.ip(&format!("link set eth0 mtu {mtu} up")).unwrap();
    }
    // Neighbours are found, so that nothing waits for them.
    let other = underlay(2).to_string();
    a.run(&["ping", "-c", "1", "-w", "10", &other]).unwrap();
    [(a, 1, 2), (b, 2, 1)].map(|(ns, own, other)| Node::start(ns, own, other, setup))
}

/// Underlay address of a node.
fn underlay(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// A pod's address.
pub(crate) fn pod(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, 2)
}

fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

fn table(own: u8, other: u8, wire: Wire) -> Table {
    let overlay = Overlay {
        wire,
        vni: Vni::new(1).unwrap(),
        local_mac: mac(own),
        network_v4: Some("10.244.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        ..Overlay::default()
    };
    let peer = NewPeer {
        addr: (underlay(other), PORT).into(),
        mac: mac(other),
    };
    let prefix = format!("10.244.{other}.0/24").parse().unwrap();
    Table::build(overlay, &[Route { prefix, peer }]).unwrap()
}

/// A device that `subnet` is behind.
fn tun(name: &str, subnet: &str) -> Tun {
    let offloads = Offloads {
        tso: true,
        uso: true,
    };
    let tun = Tun::open(name, Queues::single(1), offloads).unwrap();
    for words in [
        format!("link set {name} mtu {MTU} txqueuelen 2000 up"),
        format!("route add {subnet} dev {name}"),
    ] {
        weft_lab::ip(&words).unwrap();
    }
    tun
}

/// What tunnel GSO needs.
fn tap(ns: &Namespace) -> Tap {
    let tap = Tap::open("weft.1").unwrap();
    for (key, value) in [
        ("forwarding", "1"),
        ("accept_local", "1"),
        ("rp_filter", "0"),
    ] {
        ns.sysctl(&format!("net/ipv4/conf/weft.1/{key}"), value)
            .unwrap();
    }
    weft_lab::ip("link set weft.1 arp off up").unwrap();
    tap
}

/// How the workers of node `own` run.
fn config(own: u8, setup: Setup) -> Config {
    Config {
        local: underlay(own).into(),
        port: PORT,
        frames: Frames {
            wire: setup.wire,
            vni: Vni::new(1).unwrap(),
            gbp: false,
        },
        mtu: MTU,
        pod_mtu: MTU,
        tx_sockets: 8,
        tunnel_gso: setup.tunnel_gso,
        outer_df: setup.outer_df,
        underlay: ETH0,
    }
}

fn dataplane(setup: Setup) -> Dataplane {
    let options = Options {
        engine: setup.engine,
        queues: Some(1),
        ..Options::default()
    };
    let dataplane = Dataplane::new(&options).unwrap();
    assert_eq!(dataplane.engine(), setup.engine);
    dataplane
}

impl Node {
    fn start(ns: Namespace, own: u8, other: u8, setup: Setup) -> Node {
        let publisher = Publisher::new(table(own, other, setup.wire));
        let inside = ns.enter(|| {
            let pods = tun("pods", &format!("10.244.{own}.0/24"));
            let tunnel = tun("flannel.1", "10.244.0.0/16");
            let (dataplane, config) = (dataplane(setup), config(own, setup));
            let tap = (setup.tunnel_gso != TunnelGso::Off).then(|| tap(&ns));
            let holdings = dataplane.open(tunnel, tap, &config).unwrap();
            let workers = dataplane.start(holdings, config, &publisher).unwrap();
            workers.go();
            (pods, workers)
        });
        let (pods, dataplane) = inside.unwrap();
        Node {
            pods: pods.into_queues().pop().unwrap(),
            dataplane,
            publisher,
            ns,
            own,
            setup,
        }
    }

    /// Let workers that have adopted what those of the node hold, as a successor's, have their
    /// place.
    pub(crate) fn hand_over(&mut self) {
        let holdings = self.dataplane.holdings();
        let duplicates = holdings.descriptors().into_iter();
        let duplicates = duplicates.map(|fd| fd.try_clone_to_owned().unwrap());
        let (told, duplicates) = (holdings.describe(), duplicates.collect());
        let config = config(self.own, self.setup);
        let start = || {
            let adopted = Holdings::adopt(&told, duplicates).unwrap();
            dataplane(self.setup).start(adopted, config, &self.publisher)
        };
        let next = self.ns.enter(start).unwrap().unwrap();
        drop(std::mem::replace(&mut self.dataplane, next).stop());
        self.dataplane.go();
    }

    pub(crate) fn count(&self, count: Count) -> u64 {
        self.dataplane.stats().map(|worker| worker.get(count)).sum()
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        let drops = |worker: &WorkerStats| worker.drops(reason);
        self.dataplane.stats().map(drops).sum()
    }
}
