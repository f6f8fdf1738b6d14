//! Which queue of the TUN device a packet waits in.

use crate::commands::ip;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use weft_dataplane::sys::tun::{Offloads, Queues, Tun, VNET_HDR_LEN};
use weft_lab::isolated;

const NONE: Offloads = Offloads {
    tso: false,
    uso: false,
};

/// Last numbers of the addresses of a node's first pods.
const PODS: Range<u8> = 2..10;

/// A device of two lanes whose queue is chosen by the program.
fn tun() -> Tun {
    let tun = Tun::open("flannel.1", Queues::shared(2), NONE).unwrap();
    tun.steer().unwrap();
    ip("link set lo up");
    ip("link set flannel.1 up");
    ip("route add 10.244.0.0/16 dev flannel.1");
    ip("-6 route add fd44::/48 dev flannel.1");
    for pod in PODS {
        ip(&format!("addr add 10.244.1.{pod}/32 dev lo"));
        ip(&format!("-6 addr add fd44::1:{pod}/128 dev lo nodad"));
    }
    tun
}

/// The queues, by number, in which what `from` sends to `to` waits; each packet has 8 bytes of payload.
fn queues_of(tun: &Tun, from: SocketAddr, to: SocketAddr) -> BTreeSet<usize> {
    let socket = UdpSocket::bind(from).unwrap();
    for _ in 0..3 {
        socket.send_to(&[7; 8], to).unwrap();
    }
    let queues = tun.queues().iter().enumerate();
    let waiting = queues.filter(|(_, queue)| {
        let mut packets = Vec::new();
        rustix::io::ioctl_fionbio(queue, true).unwrap();
        let mut bytes = [0; 2048];
        loop {
            match rustix::io::read(queue, &mut bytes) {
                Ok(len) => packets.push(bytes[VNET_HDR_LEN..len].to_vec()),
                Err(error) => {
                    assert_eq!(error, Errno::AGAIN);
                    break;
                }
            }
        }
        // The kernel says things of its own, as to routers.
        packets.iter().any(|packet| packet.ends_with(&[7; 8]))
    });
    waiting.map(|(number, _)| number).collect()
}

#[test]
fn each_pod_has_a_queue_of_each_worker_and_each_flow_one_worker() {
    isolated(|| {
        let tun = tun();
        for (network, to) in [("10.244.1.", "10.244.2.9"), ("fd44::1:", "fd44::2:9")] {
            let to = SocketAddr::new(to.parse().unwrap(), 5201);
            let mut shares = BTreeMap::new();
            for pod in PODS {
                let from: IpAddr = format!("{network}{pod}").parse().unwrap();
                let mut queues = BTreeSet::new();
                for port in 40_000..40_016 {
                    let of_flow = queues_of(&tun, (from, port).into(), to);
                    assert_eq!(of_flow.len(), 1, "{from}:{port}: {of_flow:?}");
                    queues.extend(of_flow);
                }
                let lanes: BTreeSet<usize> = queues.iter().map(|queue| queue / 8).collect();
                assert_eq!(lanes.len(), 2, "{from}: the workers share no flows");
                let of_pod: BTreeSet<usize> = queues.iter().map(|queue| queue % 8).collect();
                assert_eq!(of_pod.len(), 1, "{from}: {of_pod:?}");
                shares.extend(of_pod.into_iter().map(|share| (share, from)));
            }
            assert_eq!(shares.len(), 8, "pods share queues: {shares:?}");
        }
    });
}
