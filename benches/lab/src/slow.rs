//! A link of its own between two nodes, for when one peer is to be slow and the others not.

use super::{Lab, Pod, Result};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The device of that link, on both nodes.
pub const SLOW: &str = "slow0";

/// Datagrams that a paced flood sends between two rests.
const BURST: u64 = 32;

/// How long it rests: at full speed it would keep its core from all others.
const REST: Duration = Duration::from_micros(500);

/// Join node `near` to node `far` by another link, by which `near` reaches `far` from now on.
/// It has no limit yet.
pub fn join(lab: &Lab, near: usize, far: usize, mtu: u32) -> Result<()> {
    let (near, far) = (lab.node(near), lab.node(far));
    let other = far.ns.name();
    near.ns.ip(&format!(
        "link add {SLOW} mtu {mtu} type veth peer name {SLOW} netns {other}"
    ))?;
    for node in [near, far] {
        node.ns.ip(&format!("link set {SLOW} up"))?;
    }
    let to = far.underlay;
    near.ns.ip(&format!("route add {to}/32 dev {SLOW}"))?;
    Ok(())
}

/// Let node `near` send no faster than `rate` on that link, and keep `queue` bytes; both as tc
/// takes them.
pub fn limit(lab: &Lab, near: usize, rate: &str, queue: &str) -> Result<()> {
    let qdisc = [
        "tc", "qdisc", "add", "dev", SLOW, "root", "tbf", "rate", rate,
    ];
    let limits = ["burst", "32k", "limit", queue];
    lab.node(near).ns.run(&[&qdisc[..], &limits].concat())?;
    Ok(())
}

/// Send numbered datagrams of `len` bytes (8 at least) from a pod to `to`, several hundred
/// Mbit/s of them, until `done`. The number is the first 8 bytes, the highest first.
pub fn flood(from: &Pod, to: SocketAddr, len: usize, done: &AtomicBool) -> Result<()> {
    send(from, to, len, (BURST, REST), done)
}

/// The same, some 10 Mbit/s of them: for floods of many flows.
pub fn trickle(from: &Pod, to: SocketAddr, len: usize, done: &AtomicBool) -> Result<()> {
    send(from, to, len, (8, 16 * REST), done)
}

fn send(
    from: &Pod,
    to: SocketAddr,
    len: usize,
    (burst, rest): (u64, Duration),
    done: &AtomicBool,
) -> Result<()> {
    let open = || UdpSocket::bind((from.address, 0)).and_then(|s| s.connect(to).map(|()| s));
    let socket = from.ns.enter(open)?;
    let socket = socket.map_err(|e| super::Error::because("cannot open a UDP socket", e))?;
    let mut bytes = vec![0; len];
    for number in 0u64.. {
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        // Lost datagrams, and ICMP errors about earlier ones, are part of it.
        let _ = socket.send(&bytes);
        if number % burst == 0 {
            std::thread::sleep(rest);
            if done.load(Ordering::SeqCst) {
                break;
            }
        }
    }
    Ok(())
}
