//! Cutting a super-packet after all, when the kernel does not take it uncut.

use super::{HEADER_LEN, INNER_L3, TunnelGsoHdr, VnetHdr, vnet_hdr};
use crate::offload::plan::{Piece, Send, SendPlan, TrainKey};
use crate::offload::segment::Segmenter;
use crate::wire::frame::FRAME_OVERHEAD;
use std::net::SocketAddr;

/// A super-packet on its way into a plan of frames, made from the headers that were written for
/// it. It holds no borrow, so the plan can be sent and cleared halfway.
pub struct Recut {
    segmenter: Segmenter,
    /// What each frame begins with.
    frame: [u8; FRAME_OVERHEAD],
    key: TrainKey,
    to: SocketAddr,
    /// The inner packet.
    inner: Piece,
}

impl Recut {
    /// Of `send`, a super-packet that was planned to leave by tunnel GSO. `packet` is its piece:
    /// the headers that [`write`](super::write) wrote, and the inner packet. `None` if it is
    /// anything else.
    pub fn new(send: &Send, packet: &[u8]) -> Option<Recut> {
        let [piece] = send.pieces() else {
            return None;
        };
        let (head, ip) = packet.split_first_chunk::<HEADER_LEN>()?;
        let vnet = TunnelGsoHdr::decode(head).ok()?.vnet;
        let offload = VnetHdr {
            gso_type: vnet.gso_type & !vnet_hdr::GSO_UDP_TUNNEL_IPV4,
            csum_start: vnet.csum_start.checked_sub(INNER_L3 as u16)?,
            hdr_len: vnet.hdr_len.checked_sub(INNER_L3 as u16)?,
            ..vnet
        };
        Some(Recut {
            segmenter: Segmenter::new(&offload, ip).ok()?,
            frame: *head.last_chunk()?,
            key: send.key,
            to: send.to,
            inner: Piece {
                offset: piece.offset + HEADER_LEN as u32,
                len: piece.len.checked_sub(HEADER_LEN as u32)?,
                ..*piece
            },
        })
    }

    /// Plan as many frames as fit; `true` once all are planned. `packet` is as it was.
    pub fn plan(&mut self, packet: &[u8], plan: &mut SendPlan) -> bool {
        let ip = packet.get(HEADER_LEN..).unwrap_or(&[]);
        let header_len = FRAME_OVERHEAD + self.segmenter.header_len();
        while !self.segmenter.is_done() {
            if !plan.has_room(header_len) {
                return false;
            }
            let Some((header, slot)) = plan.header(header_len) else {
                return false;
            };
            let (outer, inner) = slot.split_at_mut(FRAME_OVERHEAD);
            outer.copy_from_slice(&self.frame);
            let Some(payload) = self.segmenter.segment(ip, inner) else {
                return true;
            };
            let frame_len = header_len + payload.len();
            let payload = Piece {
                offset: self.inner.offset + payload.start as u32,
                len: payload.len() as u32,
                ..self.inner
            };
            // Room was checked, so this cannot be refused.
            let _ = plan.push(self.key, self.to, frame_len, &[header, payload]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Outer, write};
    use super::*;
    use crate::offload::plan::Source;
    use crate::offload::testing::{Memory, Spec};
    use crate::wire::ecn::Ecn;
    use crate::wire::ethernet::MacAddr;
    use std::net::SocketAddrV4;

    const KEY: TrainKey = TrainKey {
        peer: 3,
        bucket: 1,
        ecn: Ecn::Ect0,
    };

    const FRAME: [u8; FRAME_OVERHEAD] = [7; FRAME_OVERHEAD];

    /// The bytes of each frame of the plan.
    fn frames(plan: &SendPlan, memory: &Memory) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        for send in plan.sends() {
            assert_eq!(send.key, KEY);
            let pieces = send.pieces().chunks(2);
            frames.extend(pieces.map(|pieces| memory.gather(pieces, plan.arena())));
        }
        frames
    }

    #[test]
    fn a_refused_super_packet_becomes_the_frames_that_it_would_have_been_cut_into() {
        let to: SocketAddrV4 = "192.0.2.2:8472".parse().unwrap();
        for spec in [Spec::tcp4(20_000), Spec::tcp6(20_000)] {
            let ip = spec.build_partial();
            let offload = spec.vnet_hdr(1_398);
            let mut segmenter = Segmenter::new(&offload, &ip).unwrap();

            // As an encap buffer has it, some bytes in.
            let start = 40;
            let mut buffer = vec![0; start + HEADER_LEN];
            let origin = Origin {
                mac: MacAddr([2; 6]),
                local: [192, 0, 2, 1].into(),
            };
            let outer = Outer {
                src_port: 40_000,
                to,
                ecn: Ecn::Ect0,
                ident: 0,
            };
            let head = buffer.last_chunk_mut().unwrap();
            write(
                head,
                &origin,
                &outer,
                &FRAME,
                (&offload, &segmenter, ip.len()),
            );
            buffer.extend_from_slice(&ip);
            let piece = Piece {
                source: Source::Buffer(0),
                offset: start as u32,
                len: (HEADER_LEN + ip.len()) as u32,
            };
            let mut planned = SendPlan::new(1, 0, 128);
            let count = segmenter.count();
            planned
                .push_tunnel_gso(KEY, to.into(), count, piece)
                .unwrap();

            let memory = Memory(vec![buffer]);
            let packet = &memory.0[0][start..];
            let mut recut = Recut::new(&planned.sends()[0], packet).unwrap();
            let mut plan = SendPlan::new(4, 1_000, 128);
            let mut found = Vec::new();
            // The arena is short, so this takes several goes.
            while !recut.plan(packet, &mut plan) {
                found.append(&mut frames(&plan, &memory));
                plan.clear();
            }
            found.append(&mut frames(&plan, &memory));

            let mut expected = Vec::new();
            let mut header = [0; 256];
            while let Some(payload) = segmenter.segment(&ip, &mut header) {
                let header = &header[..segmenter.header_len()];
                expected.push([&FRAME[..], header, &ip[payload]].concat());
            }
            assert!(expected.len() > 10);
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_no_super_packet_with_headers_is_not_cut() {
        let mut planned = SendPlan::new(1, 0, 128);
        let piece = Piece {
            source: Source::Buffer(0),
            offset: 0,
            len: 200,
        };
        let to = ([192, 0, 2, 2], 8472).into();
        planned.push_tunnel_gso(KEY, to, 2, piece).unwrap();
        let send = &planned.sends()[0];
        for packet in [&[0; 200][..], &[0xff; 200], &[0; 20], &[]] {
            assert!(Recut::new(send, packet).is_none());
        }
    }
}
