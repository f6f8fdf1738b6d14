//! Pods whose links take less than the TUN does, behind an underlay that super-packets cross
//! whole: they do not say in which segments they were sent.

use crate::cluster::{Cluster, ENGINES, NEWS, WORKERS};
use crate::dual_stack::{self, BOTH};
use crate::errors;
use crate::traffic::tcp;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr};
use weft_lab::topology::ping;
use weft_lab::{Node, Pod, Regime, skips_test, wait_until};

/// Packets that node `number` has not forwarded because a link was too small for them.
fn refused(cluster: &Cluster, number: usize) -> u64 {
    errors::count(&cluster.lab.node(number).ns, "Ip", "FragFails")
}

/// Make the link of the pod on node `number` smaller.
fn shrink(cluster: &Cluster, number: usize, mtu: u32) {
    cluster
        .lab
        .node(number)
        .ns
        .ip(&format!("link set cni0 mtu {mtu}"))
        .unwrap();
    cluster
        .pod(number)
        .ns
        .ip(&format!("link set eth0 mtu {mtu}"))
        .unwrap();
}

/// Send until the node of `to` has learned what its pod takes. Only super-packets teach that,
/// which leave whole once the way is known to be open.
fn learn(cluster: &Cluster, from: &Pod, to: &Pod) {
    let nodes = cluster.lab.nodes();
    let at = |node: &&Node| node.pods.iter().any(|pod| pod.address == to.address);
    let number = nodes.iter().find(at).unwrap().number;
    let learned = wait_until(NEWS, || {
        tcp(from, to, 1, 1 << 20);
        cluster.counter(number, "pod_mtus_learned") == 1
    });
    assert!(learned, "node {number} has learned nothing");
}

#[test]
fn a_smaller_pod_is_learned_of_once() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS, engine]);
        shrink(&cluster, 2, 1_400);
        let (a, b) = (cluster.pod(1), cluster.pod(2));
        learn(&cluster, a, b);
        let before = refused(&cluster, 2);
        tcp(a, b, 4, 4 << 20);
        tcp(b, a, 4, 4 << 20);
        assert_eq!(refused(&cluster, 2), before, "{engine}");
        assert_eq!(cluster.counter(2, "pod_mtus_learned"), 1, "{engine}");
        assert_eq!(cluster.counter(1, "pod_mtus_learned"), 0, "{engine}");
    }
}

#[test]
fn a_smaller_pod_of_a_kernel_peers_node_is_learned_of_too() {
    if skips_test() {
        return;
    }
    // weft on node 1, the kernel on node 2.
    let cluster = Cluster::weft_and_kernel_with(Regime::R1, &[WORKERS]);
    shrink(&cluster, 1, 1_300);
    let (a, b) = (cluster.pod(1), cluster.pod(2));
    learn(&cluster, b, a);
    let before = refused(&cluster, 1);
    tcp(b, a, 4, 4 << 20);
    assert_eq!(refused(&cluster, 1), before);
    assert_eq!(cluster.counter(1, "pod_mtus_learned"), 1);
}

#[test]
fn pods_of_both_families_take_the_smaller_mtu_from_the_start() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let config = dual_stack::config(BOTH, "vxlan");
        let mut cluster = dual_stack::empty(&config, &[engine]);
        let [a, b] = [1, 2].map(|number| dual_stack::join(&mut cluster, number));
        dual_stack::exchange4(&a, &b);
        tcp(&a.pod, &b.pod, 2, 4 << 20);
        tcp(&b.pod, &a.pod, 2, 4 << 20);
        for number in [1, 2] {
            assert_eq!(refused(&cluster, number), 0, "{engine}");
            assert_eq!(cluster.counter(number, "pod_mtus_learned"), 0, "{engine}");
        }
    }
}

/// A "fragmentation needed" from `source`: packets from pod `far` to pod `near` may have 600
/// bytes. `flaw` is added to its checksum.
fn error(source: Ipv4Addr, far: Ipv4Addr, near: Ipv4Addr, flaw: u16) -> Vec<u8> {
    let header = |protocol: u8, len: u16, src: Ipv4Addr, dst: Ipv4Addr| {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes.extend(src.octets());
        bytes.extend(dst.octets());
        bytes
    };
    let mut message = vec![3, 4, 0, 0, 0, 0, 2, 88];
    message.extend(header(6, 1_450, far, near));
    message.extend([20, 0x51, 0x9c, 0x40, 0, 0, 0, 1]);
    let words = message
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    message[2..4].copy_from_slice(&sum.wrapping_add(flaw).to_be_bytes());
    let mut packet = header(1, 20 + message.len() as u16, source, far);
    packet.extend(message);
    packet
}

#[test]
fn pods_cannot_say_that_others_are_smaller() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let mut cluster = Cluster::of_weft_with(2, Regime::R1, &[WORKERS, engine]);
        let subnet = cluster.lab.node(2).subnet.unwrap();
        let mtu = 1_450;
        let forger = cluster.lab.attach_pod(2, subnet, mtu).unwrap();
        let (far, near) = (cluster.pod(1).address, cluster.pod(2).address);
        let forged = [
            error(forger.address, far, near, 0),
            error(near, far, near, 0),
            error(near, far, forger.address, 1),
            // The kernel itself takes that from no pod.
            error(subnet.network(), far, near, 0),
        ];
        let before = cluster.counter(2, "tun_reads");
        let sent = forger.ns.enter(|| {
            let raw = Protocol::from(255);
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw)).unwrap();
            let to = SocketAddr::from((far, 0)).into();
            for packet in forged.iter().cycle().take(5 * forged.len()) {
                socket.send_to(packet, &to).unwrap();
            }
        });
        sent.unwrap();
        let passed = wait_until(NEWS, || cluster.counter(2, "tun_reads") >= before + 15);
        assert!(passed, "{engine}: the forged errors do not reach the TUN");
        ping(&forger.ns, far, 3, 56, false).unwrap();
        assert_eq!(cluster.counter(2, "pod_mtus_learned"), 0, "{engine}");
    }
}
