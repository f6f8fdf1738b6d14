//! Floods.

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use weft_lab::kernel::mac_of;
use weft_lab::{Error, Lab, Namespace, Node, Result};

/// Datagrams of one `sendmmsg`.
const BATCH: usize = 32;

/// Threads that flood: a single one does not outrun a worker, as both have the same cores.
const THREADS: usize = 3;

/// What floods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// Nothing.
    None,
    /// Datagrams between the nodes that no tunnel sees: what the machine loses anyway.
    Uninvolved(usize),
    /// Datagrams from a pod of node 1 to the second pod of node 3.
    Pod(usize),
    /// Right frames from node 1 to the port, faster than a pod there could send them by weft.
    Peer(usize),
    /// A right header but for the VNI, from node 1 to the port.
    WrongVni(usize),
    /// Bytes that are no VXLAN.
    Noise(usize),
    /// Right frames from an address that is no peer's.
    Stranger(usize),
    /// Datagrams from a pod of node 1 to a pod of node 2, beside the loads of another pod of node 1.
    Out(usize),
}

impl Flood {
    pub(crate) const ALL: [Flood; 11] = [
        Flood::None,
        Flood::Uninvolved(64),
        Flood::Uninvolved(1400),
        Flood::Pod(64),
        Flood::Pod(1400),
        Flood::Peer(64),
        Flood::WrongVni(64),
        Flood::Noise(64),
        Flood::Stranger(64),
        Flood::Out(64),
        Flood::Out(1400),
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Flood::None => "none".to_owned(),
            Flood::Uninvolved(len) => format!("uninvolved-{len}"),
            Flood::Pod(len) => format!("pod-{len}"),
            Flood::Peer(len) => format!("peer-{len}"),
            Flood::WrongVni(len) => format!("vni-{len}"),
            Flood::Noise(len) => format!("noise-{len}"),
            Flood::Stranger(len) => format!("stranger-{len}"),
            Flood::Out(len) => format!("out-{len}"),
        }
    }

    pub(crate) fn is_outbound(self) -> bool {
        matches!(self, Flood::Out(_))
    }

    /// Open what it sends from and to.
    pub(crate) fn prepare(self, lab: &Lab) -> Result<Prepared> {
        let node = lab.node(1);
        let port = SocketAddr::from((lab.node(3).underlay, 8472));
        let any = Ipv4Addr::UNSPECIFIED;
        let (from, to, sink, bytes) = match self {
            Flood::None => {
                return Ok(Prepared {
                    sender: None,
                    _sink: None,
                    bytes: Vec::new(),
                });
            }
            Flood::Uninvolved(len) => {
                let sink = deaf(&lab.node(3).ns, any)?;
                let to = (lab.node(3).underlay, port_of(&sink)?).into();
                (open(&node.ns, any)?, to, Some(sink), vec![0x77; len])
            }
            Flood::Pod(len) => {
                let (from, pod) = (node.pod()?, &lab.node(3).pods[1]);
                let sink = deaf(&pod.ns, any)?;
                let to = (pod.address, port_of(&sink)?).into();
                (open(&from.ns, any)?, to, Some(sink), vec![0x77; len])
            }
            Flood::Out(len) => {
                let (from, pod) = (node.pod()?, lab.node(2).pod()?);
                let sink = deaf(&pod.ns, any)?;
                let to = (pod.address, port_of(&sink)?).into();
                (open(&from.ns, any)?, to, Some(sink), vec![0x77; len])
            }
            Flood::Peer(len) => (open(&node.ns, any)?, port, None, frame(lab, len)?),
            Flood::WrongVni(len) => {
                let mut bytes = frame(lab, len)?;
                bytes[6] ^= 1;
                (open(&node.ns, any)?, port, None, bytes)
            }
            Flood::Noise(len) => (open(&node.ns, any)?, port, None, vec![0x77; len]),
            Flood::Stranger(len) => {
                let address = Ipv4Addr::new(10, 99, 0, 77);
                // It may be there from before.
                let _ = node.ns.ip(&format!("addr add {address}/24 dev eth0"));
                (open(&node.ns, address)?, port, None, frame(lab, len)?)
            }
        };
        from.connect(to).map_err(|e| Error::because("connect", e))?;
        Ok(Prepared {
            sender: Some(from),
            _sink: sink,
            bytes,
        })
    }
}

/// A frame of node 1's pod for node 3's second pod, `len` bytes of UDP payload in it.
fn frame(lab: &Lab, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![8, 0, 0, 0, 0, 0, 1, 0];
    bytes.extend(mac(lab.node(3))?);
    bytes.extend(mac(lab.node(1))?);
    bytes.extend([8, 0]);
    let total = (28 + len) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    bytes.extend(ip);
    bytes.extend(lab.node(1).pod()?.address.octets());
    bytes.extend(lab.node(3).pods[1].address.octets());
    bytes.extend(9u16.to_be_bytes());
    bytes.extend(9u16.to_be_bytes());
    bytes.extend((8 + len as u16).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.resize(bytes.len() + len, 0x77);
    Ok(bytes)
}

/// The MAC that a node's tunnel has.
fn mac(node: &Node) -> Result<[u8; 6]> {
    let [a, b, c, d] = node.underlay.octets();
    let Ok(text) = mac_of(&node.ns, "flannel.1") else {
        // What the subnets file gives a node whose entry says none.
        return Ok([0x0e, 0, a, b, c, d]);
    };
    let mut mac = [0; 6];
    for (byte, hex) in mac.iter_mut().zip(text.split(':')) {
        *byte = u8::from_str_radix(hex, 16).map_err(|e| Error::because("MAC", e))?;
    }
    Ok(mac)
}

fn open(ns: &Namespace, address: Ipv4Addr) -> Result<UdpSocket> {
    ns.enter(|| UdpSocket::bind((address, 0)))?
        .map_err(|e| Error::because("cannot open a UDP socket", e))
}

/// A socket that nobody reads from, and that is full at once.
fn deaf(ns: &Namespace, address: Ipv4Addr) -> Result<UdpSocket> {
    let socket = open(ns, address)?;
    rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 0)
        .map_err(|e| Error::because("SO_RCVBUF", e))?;
    Ok(socket)
}

fn port_of(socket: &UdpSocket) -> Result<u16> {
    let address = socket.local_addr();
    Ok(address.map_err(|e| Error::because("UDP socket", e))?.port())
}

/// A flood that is about to begin.
pub(crate) struct Prepared {
    sender: Option<UdpSocket>,
    _sink: Option<UdpSocket>,
    bytes: Vec<u8>,
}

impl Prepared {
    /// Send until `done`; datagrams a second.
    pub(crate) fn run(&self, done: &AtomicBool) -> Result<f64> {
        let Some(socket) = &self.sender else {
            return Ok(0.0);
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| self.send(socket, done)))
                .collect();
            let rates = threads.into_iter().map(|thread| thread.join());
            let rates = rates.collect::<std::result::Result<Vec<f64>, _>>();
            rates
                .map(|rates| rates.iter().sum())
                .map_err(|_| Error::new("the flood panicked"))
        })
    }

    fn send(&self, socket: &UdpSocket, done: &AtomicBool) -> f64 {
        let parts = [IoSlice::new(&self.bytes)];
        let mut controls: [_; BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut batch = controls.each_mut().map(|none| MMsgHdr::new(&parts, none));
        let (start, mut sent) = (Instant::now(), 0);
        while !done.load(Ordering::Relaxed) {
            // What is refused is part of it.
            sent += sendmmsg(socket, &mut batch, SendFlags::empty()).unwrap_or(0);
        }
        sent as f64 / start.elapsed().as_secs_f64()
    }
}
