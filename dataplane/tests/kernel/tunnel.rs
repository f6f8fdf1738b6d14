//! Two nodes in namespaces of their own, joined by a veth: the underlay, and over it a tunnel
//! whose ends are weft's dataplane or kernel VXLAN.

use crate::commands::{ip, run};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use weft_dataplane::publish::Publisher;
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::stats;
use weft_dataplane::sys::port::Frames;
use weft_dataplane::sys::tun::{Offloads, Queues, Tun};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::vxlan::Vni;
use weft_dataplane::worker::tunnel_gso::TunnelGso;
use weft_dataplane::worker::{Config, Dataplane, EngineKind, Options, Workers};
use weft_lab::Namespace;

/// VXLAN port of both nodes.
pub(crate) const PORT: u16 = 8472;

/// VXLAN network identifier.
pub(crate) const VNI: u32 = 1;

/// MTU of the underlay.
pub(crate) const UNDERLAY_MTU: usize = 1500;

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Length of an IP header without options.
    pub(crate) fn header_len(self) -> usize {
        match self {
            Family::V4 => 20,
            Family::V6 => 40,
        }
    }
}

/// What holds a node's end of the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vtep {
    Weft(EngineKind),
    /// weft with frames that are packets alone.
    Plain(EngineKind),
    /// Kernel VXLAN as flannel configures it.
    Kernel,
    /// Nothing: tests read and write frames by hand.
    Bare,
}

impl Vtep {
    /// weft's engine and the form of its frames.
    pub(crate) fn weft(self) -> Option<(EngineKind, Wire)> {
        match self {
            Vtep::Weft(engine) => Some((engine, Wire::Vxlan)),
            Vtep::Plain(engine) => Some((engine, Wire::Ip)),
            Vtep::Kernel | Vtep::Bare => None,
        }
    }

    fn wire(self) -> Wire {
        self.weft().map_or(Wire::Vxlan, |(_, wire)| wire)
    }
}

/// What the underlay's devices leave to software.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offload {
    /// veth as it is: super-packets cross whole.
    All,
    /// Segmentation on the way out, GRO on the way in.
    Gro,
    /// Nothing is offloaded, and nothing is merged.
    None,
}

impl Offload {
    pub(crate) const ALL: [Offload; 3] = [Offload::All, Offload::Gro, Offload::None];

    fn apply(self) {
        let (tx, segmentation, gro) = match self {
            Offload::All => ("on", "on", "off"),
            Offload::Gro => ("on", "off", "on"),
            Offload::None => ("off", "off", "off"),
        };
        run(
            "ethtool",
            &format!(
                "-K eth0 tx {tx} gro {gro} tso {segmentation} tx-udp-segmentation {segmentation} \
                 tx-udp_tnl-segmentation {segmentation} tx-udp_tnl-csum-segmentation {segmentation}"
            ),
        );
    }
}

/// Underlay address of node `number`, 1 or 2.
pub(crate) fn underlay(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 99, 0, number).into(),
        Family::V6 => Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into()).into(),
    }
}

/// Overlay address of node `number`.
pub(crate) fn inner(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 244, number, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd44, 0, 0, number.into(), 0, 0, 0, 1).into(),
    }
}

/// VtepMAC of node `number`.
pub(crate) fn mac(number: u8) -> [u8; 6] {
    [0x0a, 0, 0, 0, 0, number]
}

fn mac_text(number: u8) -> String {
    format!("0a:00:00:00:00:{number:02x}")
}

/// One of the two nodes.
pub(crate) struct Node {
    pub(crate) ns: Namespace,
    pub(crate) number: u8,
    pub(crate) vtep: Vtep,
    pub(crate) weft: Option<(Workers, Publisher)>,
}

/// Both nodes and what they are made of.
pub(crate) struct Tunnel {
    pub(crate) family: Family,
    pub(crate) nodes: [Node; 2],
}

impl Tunnel {
    /// Underlay and both ends.
    pub(crate) fn new(family: Family, vteps: [Vtep; 2], offload: Offload) -> Tunnel {
        let [a, b] = [(); 2].map(|()| Namespace::unnamed().unwrap());
        let other = b.name();
        a.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {other}"
        ))
        .unwrap();
        let node = |ns: Namespace, number: u8, vtep: Vtep| {
            let weft = ns.enter(|| {
                set_up_underlay(number, offload);
                if vtep == Vtep::Kernel {
                    make_kernel_vxlan(family, number);
                }
                let weft = vtep.weft();
                weft.map(|(engine, wire)| start_weft(family, number, engine, wire))
            });
            Node {
                ns,
                number,
                vtep,
                weft: weft.unwrap(),
            }
        };
        let nodes = [node(a, 1, vteps[0]), node(b, 2, vteps[1])];
        // Neighbours are found, so that nothing waits for them.
        let peer = underlay(family, 2);
        let ping = format!("-c 1 -w 10 {peer}");
        nodes[0].ns.enter(|| run("ping", &ping)).unwrap();
        Tunnel { family, nodes }
    }

    /// MTU of the overlay.
    pub(crate) fn mtu(&self) -> usize {
        overlay_mtu(self.family, self.nodes[0].vtep.wire())
    }

    /// Expect that no node has dropped or found fault with a packet.
    pub(crate) fn assert_no_errors(&self) {
        for node in &self.nodes {
            let mut errors = node.ns.enter(kernel_errors).unwrap();
            errors.extend(node.drops());
            assert!(errors.is_empty(), "node {}: {errors:?}", node.number);
        }
    }
}

impl Node {
    /// What weft on this node dropped, by reason. Only what the kernel itself sends to all
    /// routers and neighbours is left out.
    pub(crate) fn drops(&self) -> Vec<(String, u64)> {
        let mut drops = self.counters();
        let harmless = ["drop_not_unicast", "drop_not_ipv4"];
        drops.retain(|(name, _)| name.starts_with("drop_") && !harmless.contains(&&**name));
        drops
    }

    /// One of weft's counters.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters = self.counters();
        counters
            .iter()
            .find(|(n, _)| n == name)
            .map_or(0, |(_, count)| *count)
    }

    /// weft's counters that are not zero.
    fn counters(&self) -> Vec<(String, u64)> {
        let Some((dataplane, _)) = &self.weft else {
            assert_eq!(self.vtep.weft(), None);
            return Vec::new();
        };
        assert_eq!(dataplane.failure(), None);
        stats::summary(dataplane.stats())
    }
}

/// MTU of an overlay over `family`: with VXLAN 50 bytes less than the underlay's over IPv4, 70
/// over IPv6, and without VXLAN 28 and 48.
pub(crate) fn overlay_mtu(family: Family, wire: Wire) -> usize {
    let udp = 8;
    UNDERLAY_MTU - family.header_len() - udp - wire.header_len()
}

fn set_up_underlay(number: u8, offload: Offload) {
    ip("link set lo up");
    ip(&format!(
        "addr add {}/24 dev eth0",
        underlay(Family::V4, number)
    ));
    ip(&format!(
        "-6 addr add {}/64 dev eth0 nodad",
        underlay(Family::V6, number)
    ));
    ip(&format!("link set eth0 mtu {UNDERLAY_MTU} up"));
    offload.apply();
}

/// The addresses of the tunnel device, the same whatever it is.
fn add_addresses(number: u8) {
    ip(&format!(
        "addr add {}/32 dev flannel.1",
        inner(Family::V4, number)
    ));
    ip(&format!(
        "-6 addr add {}/128 dev flannel.1 nodad",
        inner(Family::V6, number)
    ));
}

fn start_weft(family: Family, number: u8, engine: EngineKind, wire: Wire) -> (Workers, Publisher) {
    let all = Offloads {
        tso: true,
        uso: true,
    };
    let tun = Tun::open("flannel.1", Queues::shared(1), all).unwrap();
    let mtu = overlay_mtu(family, wire);
    ip(&format!("link set flannel.1 mtu {mtu} txqueuelen 1000 up"));
    add_addresses(number);
    ip("route add 10.244.0.0/16 dev flannel.1");
    ip("-6 route add fd44::/48 dev flannel.1");
    let publisher = Publisher::new(table(family, number, wire));
    let config = config(family, number, wire);
    let dataplane = dataplane(engine, Duration::ZERO);
    let holdings = dataplane.open(tun, None, &config).unwrap();
    let workers = dataplane.start(holdings, config, &publisher).unwrap();
    workers.go();
    (workers, publisher)
}

/// How the workers of a node run.
pub(crate) fn config(family: Family, number: u8, wire: Wire) -> Config {
    let mtu = overlay_mtu(family, wire);
    Config {
        local: underlay(family, number),
        port: PORT,
        frames: Frames {
            wire,
            vni: Vni::new(VNI).unwrap(),
            gbp: false,
        },
        mtu,
        pod_mtu: mtu,
        tx_sockets: 8,
        outer_df: false,
        tunnel_gso: TunnelGso::Off,
        underlay: 0,
    }
}

/// What starts workers of this engine, which look for packets for as long as `spin`.
pub(crate) fn dataplane(engine: EngineKind, spin: Duration) -> Dataplane {
    let options = Options {
        engine,
        spin,
        queues: Some(1),
        ..Options::default()
    };
    let dataplane = Dataplane::new(&options).unwrap();
    assert_eq!(dataplane.engine(), engine);
    dataplane
}

fn table(family: Family, number: u8, wire: Wire) -> Table {
    let other = 3 - number;
    let overlay = Overlay {
        wire,
        vni: Vni::new(VNI).unwrap(),
        local_mac: mac(number).into(),
        network_v4: Some("10.244.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: Some("fd44::/48".parse().unwrap()),
        subnet_len_v6: 64,
        own_v4: Some(format!("10.244.{number}.0/24").parse().unwrap()),
        own_v6: Some(format!("fd44:0:0:{number}::/64").parse().unwrap()),
        ..Overlay::default()
    };
    let peer = NewPeer {
        addr: (underlay(family, other), PORT).into(),
        mac: mac(other).into(),
    };
    let prefixes = [
        format!("10.244.{other}.0/24"),
        format!("fd44:0:0:{other}::/64"),
    ];
    let routes = prefixes.map(|prefix| Route {
        prefix: prefix.parse().unwrap(),
        peer,
    });
    Table::build(overlay, &routes).unwrap()
}

/// As flannel does for the one other lease: static neighbours, forwarding entry, routes.
fn make_kernel_vxlan(family: Family, number: u8) {
    let other = 3 - number;
    let (local, peer) = (underlay(family, number), underlay(family, other));
    let (own_mac, mac, mtu) = (
        mac_text(number),
        mac_text(other),
        overlay_mtu(family, Wire::Vxlan),
    );
    ip(&format!(
        "link add flannel.1 address {own_mac} mtu {mtu} type vxlan id {VNI} local {local} dev eth0 \
         dstport {PORT} nolearning"
    ));
    ip("link set flannel.1 up");
    add_addresses(number);
    let (v4, v6) = (format!("10.244.{other}.0"), format!("fd44:0:0:{other}::"));
    ip(&format!(
        "neigh add {v4} lladdr {mac} dev flannel.1 nud permanent"
    ));
    ip(&format!(
        "-6 neigh add {v6} lladdr {mac} dev flannel.1 nud permanent"
    ));
    run(
        "bridge",
        &format!("fdb add {mac} dev flannel.1 dst {peer} self permanent"),
    );
    ip(&format!("route add {v4}/24 via {v4} dev flannel.1 onlink"));
    ip(&format!(
        "-6 route add {v6}/64 via {v6} dev flannel.1 onlink"
    ));
}

/// The kernel's counters of bad packets in the thread's namespace that are not zero.
fn kernel_errors() -> Vec<(String, u64)> {
    let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
    // The files for IPv4 have lines of names before lines of values.
    let text = read("snmp") + &read("netstat");
    let mut lines = text.lines();
    let mut counters = Vec::new();
    while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
        let (names, values) = (names.split_whitespace(), values.split_whitespace());
        let protocol = names.clone().next().unwrap().trim_end_matches(':');
        let pairs = names.zip(values).skip(1);
        counters.extend(pairs.map(|(name, value)| (format!("{protocol}{name}"), value.to_owned())));
    }
    for line in read("snmp6").lines() {
        let (name, value) = line.split_once(char::is_whitespace).unwrap();
        counters.push((name.to_owned(), value.trim().to_owned()));
    }
    let known = counters.iter().filter(|(name, _)| is_error(name)).count();
    assert_eq!(
        known,
        ERRORS.len(),
        "the kernel does not have all of {ERRORS:?}"
    );
    counters.retain(|(name, value)| is_error(name) && value != "0");
    let parse = |(name, value): (String, String)| (name, value.parse().unwrap());
    counters.into_iter().map(parse).collect()
}

const ERRORS: [&str; 9] = [
    "IpInHdrErrors",
    "IcmpInCsumErrors",
    "TcpInErrs",
    "TcpInCsumErrors",
    "UdpInCsumErrors",
    "IpExtInCsumErrors",
    "Ip6InHdrErrors",
    "Icmp6InCsumErrors",
    "Udp6InCsumErrors",
];

fn is_error(name: &str) -> bool {
    ERRORS.contains(&name)
}
