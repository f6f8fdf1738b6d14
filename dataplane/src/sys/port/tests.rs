use super::*;
use crate::route::admit;
use crate::route::table::{Admission, Overlay, Table};
use crate::wire::vxlan::Vni;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

const VNI: Vni = Vni::MAX;

/// How long the kernel may take over loopback.
const ARRIVAL: Duration = Duration::from_secs(5);

/// Frames of a form, and a header of one.
fn vxlan(gbp: bool) -> (Frames, Vec<u8>) {
    let mut header = vec![8, 0, 0, 0, 0xff, 0xff, 0xff, 0];
    header.extend([2; 14]);
    let wire = Wire::Vxlan;
    (
        Frames {
            wire,
            vni: VNI,
            gbp,
        },
        header,
    )
}

fn plain() -> (Frames, Vec<u8>) {
    let wire = Wire::Ip;
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend([10, 1, 1, 2, 10, 1, 2, 2]);
    let sum = packet
        .chunks(2)
        .map(|p| u32::from(p[0]) << 8 | u32::from(p[1]));
    let sum: u32 = sum.sum();
    packet[10..12].copy_from_slice(&(!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
    packet.extend([0; 8]);
    let frames = Frames {
        wire,
        vni: VNI,
        gbp: false,
    };
    (frames, packet)
}

/// A port, and where it is.
struct Scene {
    port: Port,
    to: SocketAddr,
    wire: Wire,
}

impl Scene {
    fn new(ip: IpAddr, workers: usize, frames: Frames) -> Scene {
        let free = UdpSocket::bind((ip, 0)).unwrap();
        let to = free.local_addr().unwrap();
        drop(free);
        let port = Port::open(ip, to.port(), workers, frames, None).unwrap();
        port.shares
            .iter()
            .for_each(|s| s.set_nonblocking(true).unwrap());
        let wire = frames.wire;
        Scene { port, to, wire }
    }

    fn v4(workers: usize, frames: Frames) -> Scene {
        Scene::new(Ipv4Addr::LOCALHOST.into(), workers, frames)
    }

    fn junk(&self) -> Vec<(DropReason, u32)> {
        let drops = self.port.dropped(self.wire);
        drops
            .filter(|&(reason, _)| reason != DropReason::ReceiveQueueFull)
            .collect()
    }

    /// Send a datagram; the number of the socket that has it, or the reason for which it was dropped.
    fn send(&self, from: &UdpSocket, bytes: &[u8]) -> Result<usize, DropReason> {
        let before = self.junk();
        from.send_to(bytes, self.to).unwrap();
        let start = Instant::now();
        while start.elapsed() < ARRIVAL {
            for (number, socket) in self.port.shares.iter().enumerate() {
                let mut buffer = [std::mem::MaybeUninit::uninit(); 2048];
                if let Ok(len) = socket.recv(&mut buffer) {
                    assert_eq!(len, bytes.len());
                    return Ok(number);
                }
            }
            for (reason, count) in self.junk() {
                if !before.contains(&(reason, count)) {
                    return Err(reason);
                }
            }
        }
        panic!("a datagram of {} bytes went nowhere", bytes.len());
    }
}

fn from(last: u8) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), 0)).unwrap()
}

/// What a worker says to the frame.
fn admitted(frames: Frames, frame: &[u8]) -> Result<(), DropReason> {
    let overlay = Overlay {
        wire: frames.wire,
        vni: frames.vni,
        gbp: frames.gbp,
        admission: Admission::Loose,
        ..Overlay::default()
    };
    let table = Table::build(overlay, &[]).unwrap();
    let sender = admit::sender(&table, Ipv4Addr::LOCALHOST.into()).unwrap();
    sender.frame(&table, frame).map(drop)
}

#[test]
fn the_senders_address_alone_chooses_the_queue_and_neighbours_have_different_ones() {
    let (frames, frame) = vxlan(false);
    let scene = Scene::v4(1, frames);
    let mut used = [0; SHARES];
    for last in 1..=64 {
        let shares = [from(last), from(last)].map(|s| scene.send(&s, &frame).unwrap());
        assert_eq!(shares[0], shares[1]);
        used[shares[0]] += 1;
    }
    assert!(
        used.iter().all(|&peers| (4..=12).contains(&peers)),
        "{used:?}"
    );
}

#[test]
fn several_workers_share_the_flows_of_a_peer_each_of_which_stays_with_one() {
    let (frames, frame) = vxlan(false);
    let scene = Scene::v4(3, frames);
    let mut flows = [0; 3];
    let mut shares = Vec::new();
    for flow in (0..48).map(|_| from(7)) {
        let number = scene.send(&flow, &frame).unwrap();
        assert_eq!(scene.send(&flow, &frame), Ok(number));
        flows[number / SHARES] += 1;
        shares.push(number % SHARES);
    }
    assert!(flows.iter().all(|&flows| flows >= 4), "{flows:?}");
    shares.dedup();
    assert_eq!(shares.len(), 1, "of one peer");
}

#[test]
fn a_peer_that_floods_fills_no_queue_but_its_own() {
    let (frames, frame) = vxlan(false);
    let scene = Scene::v4(1, frames);
    let (flooding, other) = (from(1), from(2));
    let [full, free] = [&flooding, &other].map(|s| scene.send(s, &frame).unwrap());
    assert_ne!(full, free);
    let overflowed = || {
        let mut drops = scene.port.dropped(scene.wire);
        drops.any(|dropped| dropped == (DropReason::ReceiveQueueFull, 1_000))
    };
    for _ in 0..1_000_000 {
        flooding.send_to(&frame, scene.to).unwrap();
        if overflowed() {
            break;
        }
    }
    assert!(overflowed(), "each datagram is counted");
    other.send_to(&frame, scene.to).unwrap();
    let start = Instant::now();
    let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    while scene.port.shares[free].recv(&mut buffer).is_err() {
        assert!(start.elapsed() < ARRIVAL, "the other peer's is lost");
    }
}

#[test]
fn over_ipv6_frames_arrive_and_junk_does_not() {
    let (frames, frame) = vxlan(false);
    let scene = Scene::new(Ipv6Addr::LOCALHOST.into(), 2, frames);
    let flows = (0..32).map(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap());
    let mut workers: Vec<usize> = flows
        .map(|flow| {
            assert_eq!(scene.send(&flow, &frame[1..]), Err(DropReason::BadVxlan));
            scene.send(&flow, &frame).unwrap() / SHARES
        })
        .collect();
    workers.sort_unstable();
    workers.dedup();
    assert_eq!(workers, [0, 1]);
}

/// Changes of some bytes, and the length that is left.
fn changes() -> impl Strategy<Value = (Vec<(usize, u8)>, usize)> {
    let change = (0..32usize, any::<u8>());
    let len = prop_oneof![Just(usize::MAX), 0..40usize];
    (proptest::collection::vec(change, 0..3), len)
}

fn changed(mut frame: Vec<u8>, (changes, len): (Vec<(usize, u8)>, usize)) -> Vec<u8> {
    for (at, bits) in changes {
        if let Some(byte) = frame.get_mut(at) {
            *byte ^= bits;
        }
    }
    frame.truncate(len);
    frame
}

proptest! {
    #[test]
    fn what_is_refused_is_what_a_worker_refuses_for_its_headers(
        all in proptest::collection::vec(changes(), 64),
        gbp: bool,
    ) {
        let (frames, right) = vxlan(gbp);
        let (scene, sender) = (Scene::v4(1, frames), from(1));
        for changes in all {
            let frame = changed(right.clone(), changes);
            let worker = admitted(frames, &frame).err();
            let of_header = [DropReason::BadVxlan, DropReason::WrongVni];
            let expected = worker.filter(|reason| of_header.contains(reason));
            prop_assert_eq!(scene.send(&sender, &frame).err(), expected, "{:02x?}", frame);
        }
    }

    #[test]
    fn no_packet_without_headers_is_refused_that_a_worker_takes(
        all in proptest::collection::vec(changes(), 64),
    ) {
        let (frames, right) = plain();
        prop_assert_eq!(admitted(frames, &right), Ok(()));
        let (scene, sender) = (Scene::v4(1, frames), from(1));
        for changes in all {
            let frame = changed(right.clone(), changes);
            if let Err(reason) = scene.send(&sender, &frame) {
                prop_assert_eq!(admitted(frames, &frame), Err(reason), "{:02x?}", frame);
            }
        }
    }
}

#[test]
fn noise_is_no_packet_without_headers() {
    let (frames, right) = plain();
    let (scene, sender) = (Scene::v4(1, frames), from(1));
    for noise in [
        &[][..],
        &right[..19],
        &[0x65; 40],
        &[0x40; 40],
        &right[..27],
    ] {
        let refused = scene.send(&sender, noise);
        assert_eq!(refused, Err(DropReason::BadInnerIp), "{noise:02x?}");
    }
    // The first packet of a train is shorter than the train.
    let train = [&right[..], &right].concat();
    assert!(scene.send(&sender, &train).is_ok());
}
