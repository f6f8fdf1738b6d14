//! The baseline without any offload: VXLAN, one packet at a time.
//!
//! What most first userspace tunnels look like. A thread reads one packet from a device of the
//! `tun-tap` crate and sends it in one datagram; another receives one datagram and writes one
//! packet. No batches, no segmentation, no pinning, default buffers. Its frames are those of
//! any VXLAN, so what weft gains over it is gained by offload and batching alone.

use super::{Error, Lab, Namespace, Result};
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tun_tap::{Iface, Mode};

/// Name of its device on both nodes.
pub const DEVICE: &str = "tt-lab";

/// Not weft's nor the lab's kernel VXLAN's: all of them live on the same nodes.
const PORT: u16 = 4790;
const VNI: u32 = 3;

/// The first word of a VXLAN header with a valid VNI, and no other flag (RFC 7348, section 5).
const VALID_VNI: [u8; 4] = [0x08, 0, 0, 0];
const IPV4: [u8; 2] = [0x08, 0x00];

/// What comes before the inner IP packet: a VXLAN and an Ethernet header.
const PREFIX_LEN: usize = 8 + 14;

type MacAddr = [u8; 6];

/// How long a stopping thread may take to see that it is to stop.
const STOP_LIMIT: Duration = Duration::from_millis(200);

/// Forwarders on two nodes; they stop, and their devices go, when dropped.
#[derive(Debug)]
pub struct TunTap {
    ends: Vec<End>,
}

impl TunTap {
    /// Start one on node `a` and one on node `b` (numbers from 1), between these two alone.
    pub fn start(lab: &Lab, a: usize, b: usize, mtu: u32) -> Result<TunTap> {
        let ends = [End::start(lab, a, b, mtu)?, End::start(lab, b, a, mtu)?];
        Ok(TunTap { ends: ends.into() })
    }

    /// Whether all its threads still run.
    pub fn is_alive(&self) -> bool {
        let mut threads = self.ends.iter().flat_map(|end| &end.threads);
        !threads.any(JoinHandle::is_finished)
    }
}

/// One node's half.
#[derive(Debug)]
struct End {
    ns: Namespace,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl End {
    fn start(lab: &Lab, own: usize, other: usize, mtu: u32) -> Result<End> {
        let ns = lab.node(own).ns.clone();
        let local = SocketAddrV4::new(lab.node(own).underlay, PORT);
        let peer = SocketAddrV4::new(lab.node(other).underlay, PORT);
        let failed = |e: io::Error| Error::because("tun-tap forwarder", e);
        let opened = ns.enter(|| -> io::Result<(Iface, UdpSocket)> {
            let device = Iface::without_packet_info(DEVICE, Mode::Tun)?;
            let socket = UdpSocket::bind(local)?;
            socket.set_read_timeout(Some(STOP_LIMIT))?;
            Ok((device, socket))
        })?;
        let (device, socket) = opened.map_err(failed)?;
        ns.ip(&format!("link set {DEVICE} mtu {mtu} up"))?;
        let (device, socket) = (Arc::new(device), Arc::new(socket));
        let stop = Arc::new(AtomicBool::new(false));
        let prefix = prefix(mac(other), mac(own));
        let longest = PREFIX_LEN + mtu as usize;
        let out = {
            let (device, socket) = (device.clone(), socket.clone());
            move || send_out(&device, &socket, peer, prefix, longest)
        };
        let back = {
            let stop = stop.clone();
            move || take_in(&device, &socket, &stop, mac(own), longest)
        };
        Ok(End {
            ns,
            stop,
            threads: vec![std::thread::spawn(out), std::thread::spawn(back)],
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A reader of a device that goes away wakes up with an error. If the device cannot be
        // deleted, its namespace is gone and so is the reader's last packet: do not wait.
        if self.ns.ip(&format!("link del {DEVICE}")).is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

/// The MAC of node `number`'s end; nobody but the other end ever sees it.
fn mac(number: usize) -> MacAddr {
    [0x0a, 0x58, 0, 0, 0, number as u8]
}

/// The headers of every frame from `src` to `dst`.
fn prefix(dst: MacAddr, src: MacAddr) -> [u8; PREFIX_LEN] {
    let mut bytes = [0; PREFIX_LEN];
    bytes[..4].copy_from_slice(&VALID_VNI);
    bytes[4..8].copy_from_slice(&(VNI << 8).to_be_bytes());
    bytes[8..14].copy_from_slice(&dst);
    bytes[14..20].copy_from_slice(&src);
    bytes[20..].copy_from_slice(&IPV4);
    bytes
}

/// The IPv4 packet in a frame for `own`, if it is one.
fn packet(frame: &[u8], own: MacAddr) -> Option<&[u8]> {
    let (prefix, packet) = frame.split_at_checked(PREFIX_LEN)?;
    let ours = prefix[..4] == VALID_VNI
        && prefix[4..7] == VNI.to_be_bytes()[1..]
        && prefix[8..14] == own
        && prefix[20..] == IPV4;
    ours.then_some(packet)
}

fn is_ipv4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|byte| byte >> 4 == 4)
}

/// Device to socket until the device is gone.
fn send_out(
    device: &Iface,
    socket: &UdpSocket,
    peer: SocketAddrV4,
    prefix: [u8; PREFIX_LEN],
    longest: usize,
) {
    let mut frame = vec![0; longest];
    frame[..PREFIX_LEN].copy_from_slice(&prefix);
    while let Ok(len) = device.recv(&mut frame[PREFIX_LEN..]) {
        let frame = &frame[..PREFIX_LEN + len];
        if is_ipv4(&frame[PREFIX_LEN..]) {
            // What the kernel does not take is lost, as on any wire.
            let _ = socket.send_to(frame, peer);
        }
    }
}

/// Socket to device until told to stop.
fn take_in(device: &Iface, socket: &UdpSocket, stop: &AtomicBool, own: MacAddr, longest: usize) {
    let mut frame = vec![0; longest];
    while !stop.load(Ordering::Relaxed) {
        // Errors are the time-out and ICMP errors of earlier sends.
        let Ok((len, _)) = socket.recv_from(&mut frame) else {
            continue;
        };
        if let Some(packet) = packet(&frame[..len], own) {
            let _ = device.send(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(inner: &[u8]) -> Vec<u8> {
        [&prefix(mac(2), mac(1))[..], inner].concat()
    }

    #[test]
    fn frames_are_vxlan() {
        let bytes = frame(&[0x45, 1, 2, 3]);
        let vxlan = [0x08, 0, 0, 0, 0, 0, 3, 0];
        let ethernet = [10, 0x58, 0, 0, 0, 2, 10, 0x58, 0, 0, 0, 1, 0x08, 0];
        assert_eq!(bytes[..8], vxlan);
        assert_eq!(bytes[8..22], ethernet);
        assert_eq!(packet(&bytes, mac(2)), Some(&[0x45, 1, 2, 3][..]));
    }

    #[test]
    fn other_frames_are_not_taken() {
        let bytes = frame(&[0x45; 20]);
        assert_eq!(packet(&bytes, mac(1)), None, "another's MAC");
        for (at, why) in [(0, "flags"), (6, "VNI"), (20, "EtherType")] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x40;
            assert_eq!(packet(&bytes, mac(2)), None, "{why}");
        }
        for len in 0..PREFIX_LEN {
            assert_eq!(packet(&bytes[..len], mac(2)), None, "{len} bytes");
        }
    }

    #[test]
    fn only_ipv4_goes_out() {
        assert!(is_ipv4(&[0x45, 0]));
        assert!(!is_ipv4(&[0x60, 0]) && !is_ipv4(&[]));
    }
}
