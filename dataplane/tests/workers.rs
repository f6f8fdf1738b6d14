//! Running workers allocate nothing, over either engine.
//!
//! The test counts allocations of the whole process, so it is alone in its file.
#![allow(clippy::unwrap_used)]

#[path = "kernel/namespace.rs"]
#[allow(
    dead_code,
    reason = "shared with the kernel tests, which use more of it"
)]
mod namespace;

use namespace::{enter_fresh, ip, skips_test, sysctl};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use weft_dataplane::offload::vnet_hdr::{self, Layout, VnetHdr};
use weft_dataplane::route::publish::Publisher;
use weft_dataplane::route::table::{Admission, NewPeer, Overlay, Route, Table};
use weft_dataplane::stats::{Count, Drop as Reason, WorkerStats};
use weft_dataplane::sys::tun::{Offloads, Tun, TunQueue, VNET_HDR_LEN};
use weft_dataplane::wire::checksum::pseudo_v4;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::ip::protocol;
use weft_dataplane::wire::ipv4;
use weft_dataplane::worker::tunnel::TunnelGso;
use weft_dataplane::worker::{Config, Dataplane, Engine};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MTU: usize = 1450;

/// Payload of a super-packet: with 43 full segments and a short one, one train.
const SUPER: usize = 43 * 1398 + 500;

/// One of the two nodes, both in the same namespace.
struct Node {
    /// What its pods send and receive.
    pods: TunQueue,
    dataplane: Dataplane,
    _publisher: Publisher,
}

fn mac(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

fn underlay(number: u8) -> SocketAddr {
    let address = Ipv4Addr::new(127, 0, 0, number);
    SocketAddr::from((address, 8470 + u16::from(number)))
}

fn pod(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, 2)
}

fn table(own: u8, other: u8) -> Table {
    let overlay = Overlay {
        wire: Wire::Vxlan,
        vni: 1,
        local_mac: mac(own),
        network_v4: Some("10.244.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        network_v6: None,
        subnet_len_v6: 64,
        admission: Admission::Strict,
        own_v4: None,
        own_v6: None,
        gbp: false,
    };
    let peer = NewPeer {
        addr: underlay(other),
        mac: mac(other),
    };
    let prefix = format!("10.244.{other}.0/24").parse().unwrap();
    Table::build(overlay, &[Route { prefix, peer }]).unwrap()
}

fn tun(name: &str) -> Tun {
    let offloads = Offloads {
        tso: true,
        uso: true,
    };
    let tun = Tun::open(name, 1, offloads).unwrap();
    ip(&format!("link set {name} mtu {MTU} txqueuelen 2000 up"));
    tun
}

impl Node {
    /// Devices, routes and workers of node `own`, whose only peer is `other`. The kernel
    /// routes by the device a packet came from, as if each node had a namespace of its own.
    fn start(own: u8, other: u8, engine: Engine) -> Node {
        let (pods, tunnel) = (format!("pods{own}"), format!("flannel{own}"));
        let pods_tun = tun(&pods);
        let tunnel_tun = tun(&tunnel);
        for (from, to, table) in [(&pods, &tunnel, 100), (&tunnel, &pods, 200)] {
            let table = table + u16::from(own);
            ip(&format!("rule add iif {from} lookup {table} pref {table}"));
            ip(&format!("route add default dev {to} table {table}"));
        }
        let config = Config {
            engine,
            local: underlay(own).ip(),
            port: underlay(own).port(),
            mtu: MTU,
            tx_sockets: 8,
            udp_gso: true,
            udp_gro: true,
            tunnel_gso: TunnelGso::Off,
            spin: Duration::ZERO,
            outer_df: false,
            underlay: 0,
        };
        let publisher = Publisher::new(table(own, other));
        let dataplane = Dataplane::start(tunnel_tun, config, &publisher).unwrap();
        assert_eq!(dataplane.engine(), engine);
        Node {
            pods: pods_tun.into_queues().pop().unwrap(),
            dataplane,
            _publisher: publisher,
        }
    }

    fn count(&self, count: Count) -> u64 {
        self.dataplane.stats().map(|worker| worker.get(count)).sum()
    }

    fn drops(&self, reason: Reason) -> u64 {
        let drops = |worker: &WorkerStats| worker.drops(reason);
        self.dataplane.stats().map(drops).sum()
    }
}

/// What a pod of node `own` writes: `virtio_net_hdr` and a packet to `dst`.
fn packet(own: u8, dst: Ipv4Addr, kind: u8, payload: usize) -> Vec<u8> {
    let (mut l4, csum_offset, gso_type) = match kind {
        protocol::TCP => (tcp_header(), 16, vnet_hdr::GSO_TCPV4),
        _ => (vec![0x9c, 0x40, 0, 9, 0, 0, 0, 0], 6, vnet_hdr::GSO_NONE),
    };
    let len = (l4.len() + payload) as u16;
    if kind == protocol::UDP {
        l4[4..6].copy_from_slice(&len.to_be_bytes());
    }
    let seed = pseudo_v4(pod(own), dst, kind, u32::from(len)).fold();
    l4[csum_offset..csum_offset + 2].copy_from_slice(&seed.to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend((20 + len).to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 64, kind, 0, 0]);
    ip.extend(pod(own).octets());
    ip.extend(dst.octets());
    let mut header = ipv4::Packet::header_only(&mut ip[..]).unwrap();
    header.fill_checksum();
    let offload = VnetHdr {
        flags: vnet_hdr::F_NEEDS_CSUM,
        gso_type,
        hdr_len: 20 + l4.len() as u16,
        gso_size: if gso_type == vnet_hdr::GSO_NONE {
            0
        } else {
            1398
        },
        csum_start: 20,
        csum_offset: csum_offset as u16,
    };
    let mut bytes = vec![0; VNET_HDR_LEN];
    offload.encode(&mut bytes, Layout::Legacy).unwrap();
    bytes.extend(ip);
    bytes.extend(l4);
    bytes.resize(VNET_HDR_LEN + 20 + usize::from(len), 7);
    bytes
}

/// With timestamps, so that a segment of 1,398 bytes fills the MTU.
fn tcp_header() -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1];
    header.extend([0x80, 0x10, 1, 0, 0, 0, 0, 0]);
    header.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
    header
}

/// Let a pod of `from` send `packet` `times` times, and the pods of `to` receive it as often.
/// Allocates nothing.
fn carry(from: &Node, to: &Node, packet: &[u8], times: usize, space: &mut [u8]) {
    for _ in 0..times {
        let written = rustix::io::write(&from.pods, packet).unwrap();
        assert_eq!(written, packet.len());
    }
    for _ in 0..times {
        let patience = Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&to.pods, PollFlags::IN)];
        assert_eq!(poll(&mut ready, Some(&patience)), Ok(1), "nothing arrives");
        let len = rustix::io::read(&to.pods, &mut *space).unwrap();
        // A hop less to live, and so another checksum: the payload tells enough.
        assert_eq!(len, packet.len());
        assert_eq!(space[len - 8..len], packet[len - 8..]);
    }
}

/// Every kind of packet, both ways.
fn exchange(nodes: &[Node; 2], packets: &[[Vec<u8>; 4]; 2], space: &mut [u8]) {
    for (from, to) in [(0, 1), (1, 0)] {
        let [large, full, small, strays] = &packets[from];
        let (from, to) = (&nodes[from], &nodes[to]);
        for packet in [large, full, small] {
            carry(from, to, packet, 1, space);
        }
        carry(from, to, large, 4, space);
        let written = rustix::io::write(&from.pods, strays).unwrap();
        assert_eq!(written, strays.len());
    }
}

fn workers_allocate_nothing(engine: Engine) {
    enter_fresh();
    for (key, value) in [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/default/rp_filter", "0"),
        ("net/ipv6/conf/default/disable_ipv6", "1"),
    ] {
        sysctl(key, value);
    }
    ip("link set lo up");
    let nodes = [Node::start(1, 2, engine), Node::start(2, 1, engine)];
    let packets = [(1, 2), (2, 1)].map(|(own, other)| {
        [
            packet(own, pod(other), protocol::TCP, SUPER),
            packet(own, pod(other), protocol::UDP, 1400),
            packet(own, pod(other), protocol::UDP, 18),
            packet(own, pod(9), protocol::UDP, 18),
        ]
    });
    let mut space = vec![0; VNET_HDR_LEN + 65_535];

    const WARM_UP: u64 = 20;
    const ROUNDS: u64 = 200;
    for _ in 0..WARM_UP {
        exchange(&nodes, &packets, &mut space);
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..ROUNDS {
        exchange(&nodes, &packets, &mut space);
    }
    let change = region.change();
    assert_eq!(
        (
            change.allocations,
            change.reallocations,
            change.deallocations
        ),
        (0, 0, 0),
        "{engine:?}"
    );
    for node in &nodes {
        assert_eq!(node.dataplane.failure(), None);
        // `carry` has seen every packet arrive; the workers may not have counted the last yet.
        assert!(node.count(Count::TrainsReceived) >= 5 * ROUNDS);
        assert!(node.count(Count::TunWrites) >= 7 * ROUNDS);
        assert!(node.drops(Reason::NoPeer) >= ROUNDS);
    }
}

#[test]
fn workers_of_both_engines_allocate_nothing() {
    if skips_test() {
        return;
    }
    for engine in [Engine::Ring, Engine::Poll] {
        // A thread of its own, so that the namespace ends with it.
        let done = std::thread::spawn(move || workers_allocate_nothing(engine));
        assert!(done.join().is_ok());
    }
}
