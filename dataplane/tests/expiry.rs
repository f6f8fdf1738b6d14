//! What the programs know of peers is believed for a time when no agent looks any more, and not
//! for ever: a node that left could send and be sent to otherwise.
#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use weft_dataplane::fastpath::{Config, Entries, FastPath, Policy};
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::stats::Count;
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::vxlan::Vni;
use weft_lab::{Namespace, ip, isolated, skip, skips_test_without, uninterrupted, wait_until};

/// How long the table is believed here.
const LIFETIME: Duration = Duration::from_secs(2);

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a packet may take.
const ARRIVAL: Duration = Duration::from_millis(200);

/// The programs' clock ticks every few milliseconds.
const TICK: Duration = Duration::from_millis(20);

const PORT: u16 = 8472;

/// A node with a TUN device, and its peer, of which there are only sockets.
struct Scene {
    programs: FastPath,
    /// In the overlay.
    inside: UdpSocket,
    /// The peer, on the underlay.
    peer: UdpSocket,
    _far: Namespace,
}

fn socket(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(ARRIVAL)).unwrap();
    socket
}

impl Scene {
    /// `None` where the kernel has no fast path.
    fn new() -> Option<Scene> {
        let far = Namespace::unnamed().unwrap();
        let (own, other) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        for words in [
            &format!(
                "link add eth0 type veth peer name eth0 netns {}",
                far.name()
            ),
            "addr add 10.99.0.1/24 dev eth0",
            "link set eth0 up",
            "tuntap add mode tun name flannel.9",
            "addr add 10.244.1.0/32 dev flannel.9",
            "link set flannel.9 mtu 1450 up",
            "route add 10.244.0.0/16 dev flannel.9 src 10.244.1.0",
        ] {
            ip(words).unwrap();
        }
        far.ip("addr add 10.99.0.2/24 dev eth0").unwrap();
        far.ip("link set eth0 up").unwrap();
        // As programs send; what has a checksum is for workers, of which there are none.
        for rule in [
            "add table ip programs",
            "add chain ip programs out { type filter hook output priority 0; }",
            "add rule ip programs out udp dport 8472 udp checksum set 0",
        ] {
            far.run(&["nft", rule]).unwrap();
        }
        let overlay = Overlay {
            vni: Vni::new(9).unwrap(),
            local_mac: own,
            network_v4: Some("10.244.0.0/16".parse().unwrap()),
            subnet_len_v4: 24,
            own_v4: Some("10.244.1.0/24".parse().unwrap()),
            ..Overlay::default()
        };
        let peer = NewPeer {
            addr: ([10, 99, 0, 2], PORT).into(),
            mac: other,
        };
        let prefix = "10.244.2.0/24".parse().unwrap();
        let table = Table::build(overlay.clone(), &[Route { prefix, peer }]).unwrap();
        let mut programs = match FastPath::load(config(), &overlay) {
            Ok(programs) => programs,
            Err(error) => {
                skip(&format!("no fast path: {error}"));
                return None;
            }
        };
        let policy = Policy {
            all: true,
            mtu: 1500,
            ..Policy::default()
        };
        programs.set_policy(policy).unwrap();
        programs.publish(&Entries::of(&table), |_| None).unwrap();
        programs.attach().unwrap();
        Some(Scene {
            programs,
            inside: socket(([10, 244, 1, 0], 0).into()),
            peer: far.enter(|| socket(([10, 99, 0, 2], PORT).into())).unwrap(),
            _far: far,
        })
    }

    /// The frame that reaches the peer when a packet is sent to its subnet.
    fn sent(&self) -> Option<Vec<u8>> {
        self.inside.send_to(b"weft", ("10.244.2.5", 7)).unwrap();
        received(&self.peer)
    }

    /// Whether the answer to such a frame arrives.
    fn is_answered(&self, frame: &[u8]) -> bool {
        let answer = answer(frame);
        self.peer.send_to(&answer, ("10.99.0.1", PORT)).unwrap();
        received(&self.inside).is_some()
    }
}

fn config() -> Config {
    Config {
        device: "flannel.9".to_owned(),
        underlay: "eth0".to_owned(),
        local: [10, 99, 0, 1].into(),
        port: PORT,
        lifetime: LIFETIME,
        // Nothing is pinned.
        bpffs: "/nonexistent".into(),
        hook: None,
    }
}

fn received(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut bytes = [0; 2048];
    let len = uninterrupted(|| socket.recv(&mut bytes)).ok()?;
    Some(bytes[..len].to_vec())
}

/// The frame on its way back: MACs, addresses and ports change places.
fn answer(frame: &[u8]) -> Vec<u8> {
    let mut answer = frame.to_vec();
    for (at, len) in [(8, 6), (22 + 12, 4), (42, 2)] {
        let (one, other) = answer[at..at + 2 * len].split_at_mut(len);
        one.swap_with_slice(other);
    }
    // No UDP checksum: nobody may have filled it in.
    answer[42 + 6..42 + 8].fill(0);
    answer
}

#[test]
fn a_table_that_nobody_refreshes_expires_both_ways() {
    if skips_test_without(&[("nft", "nftables")]) {
        return;
    }
    isolated(|| {
        let Some(mut scene) = Scene::new() else {
            return;
        };
        let mut frame = Vec::new();
        let mut last = Instant::now();
        let carried = wait_until(PATIENCE, || {
            last = Instant::now();
            scene.programs.beat().unwrap();
            frame = scene.sent().unwrap_or_default();
            !frame.is_empty() && scene.is_answered(&frame)
        });
        assert!(carried, "nothing is carried: {frame:02x?}");
        assert_eq!(scene.programs.stats().get(Count::LeftExpired), 0);

        let expired = wait_until(PATIENCE, || {
            scene.sent().is_none() && !scene.is_answered(&frame)
        });
        assert!(expired, "a table is believed for ever");
        let after = last.elapsed() + TICK;
        assert!(after > LIFETIME, "it expired after {after:?}");
        let left = scene.programs.stats().get(Count::LeftExpired);
        assert!(left >= 2, "{left} packets left alone");

        // An agent that comes back is believed again.
        let carried = wait_until(PATIENCE, || {
            scene.programs.beat().unwrap();
            scene.sent().is_some() && scene.is_answered(&frame)
        });
        assert!(carried, "nothing is carried again");
    });
}
