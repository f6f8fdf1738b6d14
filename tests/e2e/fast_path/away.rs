//! What is let in while no agent looks.

use super::{await_starts, skips_unpinned};
use crate::cluster::{Cluster, NEWS};
use crate::frames::{Frame, mac};
use crate::traffic::silent_socket;
use rustix::net::sockopt::set_ip_tos;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use weft_lab::{Namespace, Regime, skips_test, wait_until};

/// Datagrams sent of each kind.
const EACH: usize = 20;

fn sender(ns: &Namespace) -> UdpSocket {
    let socket = ns.enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)));
    socket.unwrap().unwrap()
}

/// Whether a datagram has come to the pod.
fn has_come(socket: &UdpSocket) -> bool {
    let mut buffer = [0; 64];
    socket
        .recv(&mut buffer)
        .is_ok_and(|len| &buffer[..len] == b"weft")
}

#[test]
fn without_an_agent_a_node_lets_in_what_it_would_with_one() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::empty(3, Regime::R1);
    if skips_unpinned(&cluster.lab) {
        return;
    }
    for number in [1, 2] {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    await_starts(&cluster, &[(1, 0)]);
    let (victim, peer) = (cluster.pod(1).clone(), cluster.pod(2).clone());
    let (silent, address) = silent_socket(&victim);
    let right = Frame::new(
        (mac(&cluster.mac(2)), peer.address),
        (mac(&cluster.mac(1)), victim.address),
        address.port(),
    );
    let [from_peer, from_stranger, marked] = [2, 3, 2].map(|n| sender(&cluster.lab.node(n).ns));
    set_ip_tos(&marked, 3).unwrap();
    cluster.agents.get_mut(&1).unwrap().kill().unwrap();

    let to = SocketAddr::from((cluster.lab.node(1).underlay, 8472));
    let send = |from: &UdpSocket, frame: &Frame| from.send_to(&frame.bytes(), to).unwrap();
    let arrives = || {
        send(&from_peer, &right);
        has_come(&silent)
    };
    assert!(wait_until(NEWS, arrives), "what is right arrives");
    while has_come(&silent) {}

    let with = |change: &dyn Fn(&mut Frame)| {
        let mut frame = right.clone();
        change(&mut frame);
        frame
    };
    let own = victim.address;
    for (what, from, frame) in [
        ("a sender without a lease", &from_stranger, right.clone()),
        ("our pod's source", &from_peer, with(&|f| f.src = own)),
        (
            "nobody's source",
            &from_peer,
            with(&|f| f.src = Ipv4Addr::new(10, 244, 255, 9)),
        ),
        ("another VNI", &from_peer, with(&|f| f.vni = 2)),
        ("another MAC", &from_peer, with(&|f| f.dst_mac = [2; 6])),
        ("our own MAC", &from_peer, with(&|f| f.src_mac = f.dst_mac)),
        ("other flags", &from_peer, with(&|f| f.flags = 0)),
        ("a wrong length", &from_peer, with(&|f| f.excess = 1)),
        ("a mark that it cannot carry", &marked, right.clone()),
    ] {
        for _ in 0..EACH {
            send(from, &frame);
        }
        assert!(!has_come(&silent), "a frame with {what} reached the pod");
    }
    // What was sent before it would have been there by now.
    send(&from_peer, &right);
    assert!(
        wait_until(NEWS, || has_come(&silent)),
        "what is right still arrives"
    );
    assert!(
        !has_come(&silent),
        "one of the wrong frames reached the pod"
    );
}
