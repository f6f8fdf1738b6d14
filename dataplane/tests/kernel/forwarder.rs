//! The kernel as segmenter: it forwards from a TUN that takes super-packets to one that
//! does not.

use super::commands::{ip, run};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::IoSlice;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use weft_dataplane::offload::vnet_hdr::{Layout, VnetHdr};
use weft_dataplane::sys::tun::{Offloads, Queues, Tun, TunQueue};
use weft_lab::Namespace;

/// Where test packets come from.
pub(crate) const SRC_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// Where they go.
pub(crate) const DST_V4: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
/// Where IPv6 test packets come from.
pub(crate) const SRC_V6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 2);
/// Where they go.
pub(crate) const DST_V6: Ipv6Addr = Ipv6Addr::new(0xfd02, 0, 0, 0, 0, 0, 0, 2);

/// MTU of the device that packets leave through.
pub(crate) const MTU: usize = 1450;

/// A router between two TUN devices, in a namespace of the calling thread.
pub(crate) struct Forwarder {
    from: Arc<TunQueue>,
    to: Arc<TunQueue>,
}

impl Forwarder {
    /// Make namespace, devices and routes.
    pub(crate) fn new() -> Forwarder {
        let ns = Namespace::unnamed().unwrap();
        ns.move_thread().unwrap();
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv6/conf/all/forwarding", "1"),
        ] {
            ns.sysctl(key, value).unwrap();
        }
        let from = open("t0", true);
        let to = open("t1", false);
        // Nothing may be left for userspace to finish: segments and checksums are to be
        // the kernel's own.
        run(
            "ethtool",
            "-K t1 tx off sg off tso off tx-udp-segmentation off",
        );
        ip("addr add 10.1.0.1/24 dev t0");
        ip("addr add 10.2.0.1/24 dev t1");
        ip("-6 addr add fd01::1/64 dev t0 nodad");
        ip("-6 addr add fd02::1/64 dev t1 nodad");
        Forwarder { from, to }
    }

    /// Let the kernel forward one packet; what it makes of it, in order. `expected` is the
    /// number of packets to wait for; more are returned too.
    pub(crate) fn forward(&self, hdr: &VnetHdr, packet: &[u8], expected: usize) -> Vec<Vec<u8>> {
        let mut vnet = [0; 10];
        hdr.encode(&mut vnet, Layout::Legacy).unwrap();
        let pieces = [IoSlice::new(&vnet), IoSlice::new(packet)];
        let written = rustix::io::writev(&self.from, &pieces).unwrap();
        assert_eq!(written, vnet.len() + packet.len());
        let mut packets = Vec::new();
        loop {
            // Forwarding happens within the write: what is not here now will not come.
            let patience = if packets.len() < expected { 1000 } else { 0 };
            match self.read(patience) {
                Some(packet) => packets.push(packet),
                None => return packets,
            }
        }
    }

    /// The next test packet that leaves within `millis`.
    fn read(&self, millis: i64) -> Option<Vec<u8>> {
        let patience = Timespec {
            tv_sec: millis / 1000,
            tv_nsec: millis % 1000 * 1_000_000,
        };
        loop {
            let mut ready = [PollFd::new(&self.to, PollFlags::IN)];
            if poll(&mut ready, Some(&patience)).unwrap() == 0 {
                return None;
            }
            let mut bytes = vec![0; 10 + 65_535];
            let len = rustix::io::read(&self.to, &mut bytes[..]).unwrap();
            let hdr = VnetHdr::decode(&bytes[..len], Layout::Legacy).unwrap();
            let packet = &bytes[10..len];
            if is_test_packet(packet) {
                assert_eq!((hdr.flags, hdr.gso_type), (0, 0), "t1 has offloads on");
                return Some(packet.to_vec());
            }
        }
    }
}

/// Whether it goes to our destinations: the kernel itself sends router solicitations.
fn is_test_packet(packet: &[u8]) -> bool {
    match packet[0] >> 4 {
        4 => packet[16..20] == DST_V4.octets(),
        _ => packet[24..40] == DST_V6.octets(),
    }
}

fn open(name: &str, offloads: bool) -> Arc<TunQueue> {
    let offloads = Offloads {
        tso: offloads,
        uso: offloads,
    };
    let tun = Tun::open(name, Queues::single(1), offloads).unwrap();
    assert_eq!(tun.offloads(), offloads);
    ip(&format!("link set {name} mtu {MTU} txqueuelen 2000 up"));
    tun.into_queues().pop().unwrap()
}
