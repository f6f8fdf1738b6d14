//! What is let in while no agent looks.

use super::{await_starts, skips_unpinned};
use crate::cluster::{CONFIG, Cluster, NEWS};
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

/// What nodes run.
struct Form {
    config: String,
    flag: &'static str,
    port: u16,
    /// What a datagram has of a frame.
    payload: fn(&Frame) -> Vec<u8>,
}

impl Form {
    fn vxlan(flag: &'static str) -> Form {
        Form {
            config: CONFIG.to_owned(),
            flag,
            port: 8472,
            payload: Frame::bytes,
        }
    }

    fn udp() -> Form {
        Form {
            config: CONFIG.replace("vxlan", "udp"),
            flag: "-fast-path=auto",
            port: 8285,
            payload: Frame::packet,
        }
    }

    /// The MAC in the lease of a node, if leases have one.
    fn mac(&self, cluster: &Cluster, number: usize) -> [u8; 6] {
        match self.has_ethernet() {
            true => mac(&cluster.mac(number)),
            false => [0; 6],
        }
    }

    fn has_ethernet(&self) -> bool {
        self.config.contains("vxlan")
    }
}

#[test]
fn without_an_agent_a_node_lets_in_what_it_would_with_one() {
    lets_in_what_it_would(&Form::vxlan("-fast-path-hook=tcx"));
}

#[test]
fn without_an_agent_filters_let_in_what_they_would_with_one() {
    lets_in_what_it_would(&Form::vxlan("-fast-path-hook=clsact"));
}

#[test]
fn without_an_agent_a_node_of_the_udp_backend_lets_in_what_it_would_with_one() {
    lets_in_what_it_would(&Form::udp());
}

fn lets_in_what_it_would(form: &Form) {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::configured(3, Regime::R1, &form.config);
    if skips_unpinned(&cluster.lab) {
        return;
    }
    cluster.flags = vec![form.flag.to_owned()];
    for number in [1, 2] {
        cluster.join(number);
    }
    cluster.await_path(1, 2);
    await_starts(&cluster, &[(1, 0)]);
    let (victim, peer) = (cluster.pod(1).clone(), cluster.pod(2).clone());
    let (silent, address) = silent_socket(&victim);
    let right = Frame::new(
        (form.mac(&cluster, 2), peer.address),
        (form.mac(&cluster, 1), victim.address),
        address.port(),
    );
    let [from_peer, from_stranger, marked] = [2, 3, 2].map(|n| sender(&cluster.lab.node(n).ns));
    set_ip_tos(&marked, 3).unwrap();
    cluster.agents.get_mut(&1).unwrap().kill().unwrap();

    let to = SocketAddr::from((cluster.lab.node(1).underlay, form.port));
    let send = |from: &UdpSocket, frame: &Frame| from.send_to(&(form.payload)(frame), to).unwrap();
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
    let ethernet = [
        ("another VNI", &from_peer, with(&|f| f.vni = 2)),
        ("another MAC", &from_peer, with(&|f| f.dst_mac = [2; 6])),
        ("our own MAC", &from_peer, with(&|f| f.src_mac = f.dst_mac)),
        ("other flags", &from_peer, with(&|f| f.flags = 0)),
    ];
    let ethernet = ethernet.into_iter().filter(|_| form.has_ethernet());
    let wrong = [
        ("a sender without a lease", &from_stranger, right.clone()),
        ("our pod's source", &from_peer, with(&|f| f.src = own)),
        (
            "nobody's source",
            &from_peer,
            with(&|f| f.src = Ipv4Addr::new(10, 244, 255, 9)),
        ),
        ("a wrong length", &from_peer, with(&|f| f.excess = 1)),
        ("a mark that it cannot carry", &marked, right.clone()),
    ];
    for (what, from, frame) in wrong.into_iter().chain(ethernet) {
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
