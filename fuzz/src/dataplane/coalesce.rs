//! The `coalesce` fuzz target: what coalescing wrote, the kernel would deliver as it came.
//!
//! Input: a byte of settings, then packets of one of two forms. A byte below 0x80 makes the
//! next segment of one of eight flows, as two more bytes say; any other is the number of
//! raw bytes that follow, plus 128. The writes are segmented again and compared, flow by
//! flow, with the packets pushed.

use weft_dataplane::offload::coalesce::{
    Coalescer, Limits, Packet, PacketBuffers, PushError, Trust,
};
use weft_dataplane::offload::plan::Source;
use weft_dataplane::offload::segment::{MAX_HEADER_LEN, Segmenter, finish_checksum};
use weft_dataplane::offload::vnet_hdr::{self, Layout, VnetHdr};
use weft_dataplane::wire::checksum::{Sum, pseudo_v4, pseudo_v6};
use weft_dataplane::wire::ip::{IpPacket, protocol};
use weft_dataplane::wire::{ipv4, tcp, udp};

const MTU: usize = 9000;
const ROOM: usize = 22;
const MAX_PACKETS: usize = 400;

pub(super) fn run(data: &[u8]) {
    let Some((&settings, mut data)) = data.split_first() else {
        return;
    };
    let layout = match settings & 1 {
        0 => Layout::Legacy,
        _ => Layout::V1,
    };
    let mut flows: [Flow; 8] = std::array::from_fn(Flow::new);
    let mut batch = Batch::new(layout, usize::from(settings >> 1));
    for _ in 0..MAX_PACKETS {
        let Some((packet, trust)) = next_packet(&mut data, &mut flows) else {
            break;
        };
        batch.push(packet, trust);
    }
    batch.flush();
    let by_flow = |packets: &mut Vec<Vec<u8>>| packets.sort_by_key(|packet| flow_of(packet));
    by_flow(&mut batch.sent);
    by_flow(&mut batch.delivered);
    assert!(batch.sent == batch.delivered);
}

fn next_packet(data: &mut &[u8], flows: &mut [Flow; 8]) -> Option<(Vec<u8>, Trust)> {
    let (&op, rest) = data.split_first()?;
    *data = rest;
    if op >= 0x80 {
        let (raw, rest) = data.split_at_checked(usize::from(op - 0x80))?;
        *data = rest;
        return Some((raw.to_vec(), Trust::Unknown));
    }
    let ([quirk, size], rest) = data.split_first_chunk::<2>()?;
    *data = rest;
    let damaged = quirk & 0xf == 15;
    let packet = flows[usize::from(op & 7)].next(*quirk, *size);
    let trust = match op & 8 == 0 && !damaged {
        true => Trust::Vouched,
        false => Trust::Unknown,
    };
    Some((packet, trust))
}

/// State of one sender.
struct Flow {
    v6: bool,
    tcp: bool,
    host: u8,
    seq: u32,
    ident: u16,
}

impl Flow {
    fn new(number: usize) -> Flow {
        Flow {
            v6: number & 1 != 0,
            tcp: number & 2 == 0,
            host: (number >> 2) as u8,
            seq: u32::MAX - 600,
            ident: u16::MAX - 3,
        }
    }

    /// The next packet, with one of sixteen quirks in the low bits of `quirk`.
    fn next(&mut self, quirk: u8, size: u8) -> Vec<u8> {
        let payload = vec![size ^ 0x35; usize::from(size)];
        let l4 = if self.v6 { 40 } else { 20 };
        let l4_header = if self.tcp { 20 } else { 8 };
        let len = l4 + l4_header + payload.len();
        let mut bytes = vec![0; l4 + l4_header];
        bytes.extend(payload);
        self.write_ip(&mut bytes, len, quirk);
        let ports = [0x9c, 0x40, 0x14, self.host];
        bytes[l4..l4 + 4].copy_from_slice(&ports);
        if self.tcp {
            bytes[l4 + 12] = 0x50;
            let Ok(mut segment) = tcp::Segment::new(&mut bytes[l4..]) else {
                return bytes;
            };
            let flags = [tcp::PSH, tcp::FIN, tcp::CWR, tcp::ECE, tcp::SYN, tcp::URG];
            let more = flags.get(usize::from(quirk & 0xf)).copied().unwrap_or(0);
            segment.set_flags(tcp::ACK | more);
            segment.set_seq(self.seq);
            self.seq = self.seq.wrapping_add(u32::from(size));
        } else if let Ok(mut datagram) = udp::Datagram::header_only(&mut bytes[l4..]) {
            datagram.set_len((len - l4) as u16);
        }
        match quirk & 0xf {
            6 => self.seq = self.seq.wrapping_add(1),
            7 => self.ident = self.ident.wrapping_add(1),
            8 => bytes[1] ^= 0x10,
            _ => {}
        }
        finish(&mut bytes, quirk & 0xf != 9);
        match quirk & 0xf {
            10 => bytes.extend([0; 5]),
            11 if !self.tcp => bytes[l4 + 6..l4 + 8].fill(0),
            15 => {
                let at = usize::from(quirk >> 4) * 5 % bytes.len();
                bytes[at] ^= 1 << (quirk >> 4 & 7);
            }
            _ => {}
        }
        bytes
    }

    fn write_ip(&mut self, bytes: &mut [u8], len: usize, quirk: u8) {
        let number = if self.tcp {
            protocol::TCP
        } else {
            protocol::UDP
        };
        if self.v6 {
            bytes[0] = 0x60;
            bytes[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
            bytes[6..8].copy_from_slice(&[number, 64]);
            (bytes[8], bytes[24]) = (0xfd, 0xfd);
            return;
        }
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&(len as u16).to_be_bytes());
        bytes[4..6].copy_from_slice(&self.ident.to_be_bytes());
        bytes[6] = if quirk & 0x80 == 0 { 0x40 } else { 0 };
        bytes[8..10].copy_from_slice(&[64, number]);
        bytes[12..20].copy_from_slice(&[10, 1, 0, 1, 10, 2, 0, 1]);
        self.ident = self.ident.wrapping_add(1);
    }
}

/// Fill in the checksums, that of the transport header partial unless it is to be whole.
fn finish(bytes: &mut [u8], whole: bool) {
    if let Ok(mut packet) = ipv4::Packet::new(&mut *bytes) {
        packet.fill_checksum();
    }
    let Some(checksum) = Checksum::find(bytes) else {
        return;
    };
    let at = checksum.at();
    bytes[at..at + 2].copy_from_slice(&checksum.seed.to_be_bytes());
    if whole {
        let done = finish_checksum(&checksum.hdr, bytes);
        assert_eq!(done, Ok(()));
    }
}

/// The transport checksum of a packet.
struct Checksum {
    hdr: VnetHdr,
    /// What the field holds while it is partial.
    seed: u16,
}

impl Checksum {
    fn find(bytes: &[u8]) -> Option<Checksum> {
        let packet = IpPacket::new(bytes).ok()?;
        let (number, offset) = transport(&packet, bytes)?;
        let l4 = bytes.get(offset..packet.total_len())?;
        let csum_offset = match number {
            protocol::TCP if tcp::Segment::new(l4).is_ok() => vnet_hdr::TCP_CSUM_OFFSET,
            protocol::UDP if udp::Datagram::header_only(l4).is_ok() => vnet_hdr::UDP_CSUM_OFFSET,
            _ => return None,
        };
        let hdr = VnetHdr {
            flags: vnet_hdr::F_NEEDS_CSUM,
            csum_start: offset as u16,
            csum_offset,
            ..VnetHdr::default()
        };
        let seed = pseudo_sum(&packet, number, l4.len() as u32).fold();
        Some(Checksum { hdr, seed })
    }

    fn at(&self) -> usize {
        usize::from(self.hdr.csum_start + self.hdr.csum_offset)
    }
}

/// Which transport header a packet has, and where; none in a fragment, and none where IPv6
/// extension headers lead nowhere.
fn transport(packet: &IpPacket<'_>, bytes: &[u8]) -> Option<(u8, usize)> {
    let (mut number, mut at) = (packet.protocol(), packet.header_len());
    if let IpPacket::V4(packet) = packet {
        return (!packet.is_fragment()).then_some((number, at));
    }
    for _ in 0..8 {
        let length =
            |unit: usize, base: usize| Some((usize::from(*bytes.get(at + 1)?) + base) * unit);
        let len = match number {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DEST_OPTIONS => length(8, 1)?,
            protocol::AUTH => length(4, 2)?,
            protocol::FRAGMENT => return None,
            _ => return Some((number, at)),
        };
        number = *bytes.get(at)?;
        at += len;
    }
    None
}

fn pseudo_sum(packet: &IpPacket<'_>, number: u8, len: u32) -> Sum {
    match packet {
        IpPacket::V4(packet) => pseudo_v4(packet.src(), packet.dst(), number, len),
        IpPacket::V6(packet) => pseudo_v6(packet.src(), packet.dst(), number, len),
    }
}

/// A packet as the kernel delivers it: without padding, a partial checksum completed, and
/// the identification blanked where DF makes it free.
fn delivered(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Ok(packet) = IpPacket::new(&bytes) {
        let len = packet.total_len();
        bytes.truncate(len);
    }
    if let Some(checksum) = Checksum::find(&bytes) {
        let at = checksum.at();
        if bytes[at..].starts_with(&checksum.seed.to_be_bytes()) {
            let done = finish_checksum(&checksum.hdr, &mut bytes);
            assert_eq!(done, Ok(()));
        }
        // Two forms of one value: completing yields the one, segmenting TCP the other.
        if checksum.hdr.csum_offset == vnet_hdr::TCP_CSUM_OFFSET && bytes[at..at + 2] == [0xff; 2] {
            bytes[at..at + 2].fill(0);
        }
    }
    if let Ok(mut packet) = ipv4::Packet::new(&mut bytes)
        && packet.dont_frag()
        && packet.verify_checksum()
    {
        packet.set_ident(0);
        packet.fill_checksum();
    }
    bytes
}

/// Version, protocol, addresses and ports: packets equal in these must stay in order.
fn flow_of(bytes: &[u8]) -> Vec<u8> {
    let Ok(packet) = IpPacket::new(bytes) else {
        return Vec::new();
    };
    let addresses = match packet {
        IpPacket::V4(_) => 12..20,
        IpPacket::V6(_) => 8..40,
    };
    let ports = packet.payload().iter().take(4);
    let numbers = [bytes[0] >> 4, packet.protocol()];
    let addresses = &bytes[addresses];
    numbers
        .iter()
        .chain(addresses)
        .chain(ports)
        .copied()
        .collect()
}

struct Batch {
    coalescer: Coalescer,
    buffers: Memory,
    layout: Layout,
    sent: Vec<Vec<u8>>,
    delivered: Vec<Vec<u8>>,
}

impl Batch {
    fn new(layout: Layout, writes: usize) -> Batch {
        Batch {
            coalescer: Coalescer::new(writes, layout, Limits::new(MTU)).expect("no tunnel layout"),
            buffers: Memory(Vec::new()),
            layout,
            sent: Vec::new(),
            delivered: Vec::new(),
        }
    }

    fn push(&mut self, packet: Vec<u8>, trust: Trust) {
        // Both wire formats: a header of its own, or none.
        let room = if self.sent.len().is_multiple_of(2) {
            ROOM
        } else {
            0
        };
        loop {
            let at = Packet {
                buffer: self.buffers.0.len() as u16,
                room: room as u16,
                offset: room as u32,
                len: packet.len() as u32,
            };
            match self.coalescer.push(at, &packet, trust, None) {
                Ok(()) => break,
                Err(PushError::Full) => self.flush(),
                Err(PushError::Drop(_)) => {
                    assert!(IpPacket::new(&packet).is_err());
                    return;
                }
            }
        }
        let mut buffer = vec![0; room];
        buffer.extend_from_slice(&packet);
        self.buffers.0.push(buffer);
        self.sent.push(delivered(packet));
    }

    /// Do with the writes what the kernel does.
    fn flush(&mut self) {
        self.coalescer.finish(&mut self.buffers);
        for write in self.coalescer.writes() {
            let mut bytes = Vec::new();
            for piece in write.pieces() {
                let memory = match piece.source {
                    Source::Arena => self.coalescer.arena(),
                    Source::Buffer(id) => self.buffers.bytes(id),
                };
                let from = piece.offset as usize;
                bytes.extend_from_slice(&memory[from..from + piece.len as usize]);
            }
            assert_eq!(bytes.len(), write.bytes());
            let hdr = VnetHdr::decode(&bytes, self.layout).expect("a write starts with one");
            deliver(
                &hdr,
                bytes.split_off(self.layout.len()),
                &mut self.delivered,
            );
        }
        self.coalescer.clear();
        self.buffers.0.clear();
    }
}

fn deliver(hdr: &VnetHdr, mut ip: Vec<u8>, out: &mut Vec<Vec<u8>>) {
    if hdr.gso() == vnet_hdr::GSO_NONE {
        let done = finish_checksum(hdr, &mut ip);
        assert_eq!(done, Ok(()));
        out.push(delivered(ip));
        return;
    }
    let mut segmenter = Segmenter::new(hdr, &ip).expect("a valid super-packet");
    assert!(segmenter.remaining() > 1);
    let mut slot = [0; MAX_HEADER_LEN];
    while let Some(payload) = segmenter.segment(&ip, &mut slot) {
        let mut segment = slot[..segmenter.header_len()].to_vec();
        segment.extend_from_slice(&ip[payload]);
        out.push(delivered(segment));
    }
}

struct Memory(Vec<Vec<u8>>);

impl PacketBuffers for Memory {
    fn bytes(&self, id: u16) -> &[u8] {
        &self.0[usize::from(id)]
    }

    fn bytes_mut(&mut self, id: u16) -> &mut [u8] {
        &mut self.0[usize::from(id)]
    }
}
