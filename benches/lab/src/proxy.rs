//! flannel's udp proxy as its peers see it: packets as they are in UDP datagrams, one system
//! call for each.
//!
//! It follows `proxy_amd64.c` of flannel from the outside and shares no code with weft, so that
//! it can tell whether both speak the same format: nothing before the packet, one port for
//! sending and receiving, a TTL taken off on both sides, silence where it runs out.

use super::{Error, Lab, Namespace, Result};
use ipnet::Ipv4Net;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tun_tap::{Iface, Mode};

/// The port of all nodes where the config names none.
pub const PORT: u16 = 8285;

/// Name of its device and its port where it lives beside weft and flanneld.
pub const DEVICE: &str = "udp-lab";
const PORT_BESIDE: u16 = 8286;

/// Length in bytes of an IPv4 header without options.
const HEADER_LEN: usize = 20;

/// How long a stopping thread may take to see that it is to stop.
const STOP_LIMIT: Duration = Duration::from_millis(200);

/// Where one node's proxy stands.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// Name of its device; flannel's own asks for `flannel%d`, the first number that is free.
    pub device: String,
    /// UDP port of all nodes.
    pub port: u16,
    /// MTU of the device in bytes.
    pub mtu: u32,
    /// What the device is the way to; `None` leaves the routes alone.
    pub network: Option<Ipv4Net>,
    /// This node's subnet.
    pub subnet: Ipv4Net,
    /// The other nodes' subnets and underlay addresses.
    pub peers: Vec<(Ipv4Net, Ipv4Addr)>,
}

/// A running proxy. Its device goes when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    ns: Namespace,
    device: String,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Proxy {
    /// Start one on node `number` (from 1).
    pub fn start(lab: &Lab, number: usize, options: ProxyOptions) -> Result<Proxy> {
        let node = lab.node(number);
        let (ns, local) = (
            node.ns.clone(),
            SocketAddrV4::new(node.underlay, options.port),
        );
        let failed = |e: io::Error| Error::because("udp proxy", e);
        let opened = ns.enter(|| -> io::Result<(Iface, UdpSocket)> {
            let device = Iface::without_packet_info(&options.device, Mode::Tun)?;
            let socket = UdpSocket::bind(local)?;
            socket.set_read_timeout(Some(STOP_LIMIT))?;
            Ok((device, socket))
        })?;
        let (tun, socket) = opened.map_err(failed)?;
        let device = tun.name().to_owned();
        let (mtu, base) = (options.mtu, options.subnet.network());
        ns.ip(&format!("addr add {base}/32 dev {device}"))?;
        ns.ip(&format!("link set {device} mtu {mtu} up"))?;
        if let Some(network) = options.network {
            ns.ip(&format!("route add {network} dev {device} src {base}"))?;
        }
        let (tun, socket) = (Arc::new(tun), Arc::new(socket));
        let stop = Arc::new(AtomicBool::new(false));
        let (port, peers) = (options.port, options.peers);
        let out = {
            let (tun, socket) = (tun.clone(), socket.clone());
            move || send_out(&tun, &socket, port, &peers, mtu as usize)
        };
        let back = {
            let stop = stop.clone();
            move || take_in(&tun, &socket, &stop, mtu as usize)
        };
        Ok(Proxy {
            ns,
            device,
            stop,
            threads: vec![std::thread::spawn(out), std::thread::spawn(back)],
        })
    }

    /// Start one on node `a` and one on node `b`, between the pods of these two alone, and leave
    /// the routes as they are.
    pub fn beside(lab: &Lab, a: usize, b: usize, mtu: u32) -> Result<[Proxy; 2]> {
        let start = |own: usize, other: usize| {
            let subnet = |number: usize| {
                let none = || Error::new(format!("node {number} has no pods attached"));
                lab.node(number).subnet.ok_or_else(none)
            };
            let options = ProxyOptions {
                device: DEVICE.to_owned(),
                port: PORT_BESIDE,
                mtu,
                network: None,
                subnet: subnet(own)?,
                peers: vec![(subnet(other)?.trunc(), lab.node(other).underlay)],
            };
            Proxy::start(lab, own, options)
        };
        Ok([start(a, b)?, start(b, a)?])
    }

    /// Name of its device.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether all its threads still run.
    pub fn is_alive(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // A reader of a device that goes away wakes up with an error. If the device cannot be
        // deleted, its namespace is gone and so is the reader's last packet: do not wait.
        if self.ns.ip(&format!("link del {}", self.device)).is_ok() {
            for thread in self.threads.drain(..) {
                let _ = thread.join();
            }
        }
    }
}

/// Device to socket until the device is gone.
fn send_out(tun: &Iface, socket: &UdpSocket, port: u16, peers: &[(Ipv4Net, Ipv4Addr)], mtu: usize) {
    let mut buffer = vec![0; mtu];
    while let Ok(len) = tun.recv(&mut buffer) {
        let packet = &mut buffer[..len];
        let Some(to) = destination(packet) else {
            continue;
        };
        let peer = peers.iter().find(|(subnet, _)| subnet.contains(&to));
        if let Some((_, addr)) = peer
            && take_off_hop(packet)
        {
            // What the kernel does not take is lost, as on any wire.
            let _ = socket.send_to(packet, (*addr, port));
        }
    }
}

/// Socket to device until told to stop. What is longer than the MTU is cut off.
fn take_in(tun: &Iface, socket: &UdpSocket, stop: &AtomicBool, mtu: usize) {
    let mut buffer = vec![0; mtu];
    while !stop.load(Ordering::Relaxed) {
        // Errors are the time-out and ICMP errors of earlier sends.
        let Ok((len, _)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let packet = &mut buffer[..len];
        if len >= HEADER_LEN && take_off_hop(packet) {
            let _ = tun.send(packet);
        }
    }
}

/// Where an IPv4 packet goes.
fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let version_4 = packet.first()? >> 4 == 4;
    let octets: [u8; 4] = packet.get(16..HEADER_LEN)?.try_into().ok()?;
    version_4.then(|| octets.into())
}

/// Take one off the TTL and mend the header checksum by it (RFC 1141); `false` if none is left.
fn take_off_hop(packet: &mut [u8]) -> bool {
    packet[8] = packet[8].wrapping_sub(1);
    if packet[8] == 0 {
        return false;
    }
    let sum = u32::from(u16::from_be_bytes([packet[10], packet[11]])) + 0x100;
    let folded = (sum + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&folded.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From RFC 1071's favourite example: a header whose checksum is known to be right.
    const PACKET: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00,
        0x01, 0xc0, 0xa8, 0x00, 0xc7,
    ];

    fn is_right(packet: &[u8]) -> bool {
        let words = packet
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]));
        let sum: u32 = words.sum();
        (sum & 0xffff) + (sum >> 16) == 0xffff
    }

    #[test]
    fn each_hop_keeps_the_checksum_right_until_none_is_left() {
        let mut packet = PACKET;
        assert!(is_right(&packet));
        for left in (1..0x40).rev() {
            assert!(take_off_hop(&mut packet));
            assert_eq!(packet[8], left);
            assert!(is_right(&packet), "at {left}");
        }
        assert!(!take_off_hop(&mut packet));
    }

    #[test]
    fn only_ipv4_has_a_destination() {
        assert_eq!(destination(&PACKET), Some([192, 168, 0, 199].into()));
        assert_eq!(destination(&PACKET[..19]), None);
        assert_eq!(destination(&[0x60; 40]), None);
        assert_eq!(destination(&[]), None);
    }
}
