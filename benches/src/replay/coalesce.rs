//! The coalescer alone: packets that have been admitted already.

use super::{Arrival, Replay, coalescer};
use weft_dataplane::offload::coalesce::{Coalescer, Packet, Trust};
use weft_dataplane::offload::plan::Source;
use weft_dataplane::offload::vnet_hdr::Layout;
use weft_dataplane::sys::buffers::Buffers;
use weft_dataplane::wire::frame::FRAME_OVERHEAD;

/// Coalesces the packets of frames.
pub struct Coalesce {
    recorded: Vec<u8>,
    packets: Vec<Packet>,
    trust: Trust,
    coalescer: Coalescer,
    buffers: Buffers,
}

impl Coalesce {
    /// The packets of `frames`, in that order, all of them trusted or none.
    pub fn new(frames: &[Arrival], trust: Trust) -> Coalesce {
        let mut recorded = Vec::new();
        let mut packets = Vec::new();
        for frame in frames {
            packets.push(Packet {
                buffer: 0,
                room: FRAME_OVERHEAD as u16,
                offset: (recorded.len() + FRAME_OVERHEAD) as u32,
                len: (frame.payload.len() - FRAME_OVERHEAD) as u32,
            });
            recorded.extend_from_slice(&frame.payload);
        }
        let buffers = Buffers::detached(1, recorded.len()).expect("memory for one batch");
        let mut coalesce = Coalesce {
            recorded,
            packets,
            trust,
            coalescer: coalescer(),
            buffers,
        };
        coalesce.rewind();
        coalesce
    }

    /// Packets of the batch.
    pub fn packets(&self) -> usize {
        self.packets.len()
    }

    /// Writes of the last run.
    pub fn writes(&self) -> usize {
        self.coalescer.writes().len()
    }
}

impl Replay for Coalesce {
    fn rewind(&mut self) {
        let bytes = self.buffers.bytes_mut(0);
        bytes[..self.recorded.len()].copy_from_slice(&self.recorded);
        self.coalescer.clear();
    }

    fn run(&mut self) {
        let bytes = self.buffers.bytes(0);
        for &packet in &self.packets {
            let start = packet.offset as usize;
            let ip = &bytes[start..start + packet.len as usize];
            let pushed = self.coalescer.push(packet, ip, self.trust, None);
            assert!(pushed.is_ok(), "a batch fits the coalescer");
        }
        self.coalescer.finish(&mut self.buffers);
    }
}

/// The IP packets of the coalescer's writes.
pub(super) fn written(coalescer: &Coalescer, buffers: &Buffers) -> Vec<Vec<u8>> {
    let packet = |write: &weft_dataplane::offload::coalesce::Write| {
        let mut bytes = Vec::with_capacity(write.bytes());
        for piece in write.pieces() {
            let Source::Buffer(id) = piece.source else {
                continue;
            };
            let start = piece.offset as usize;
            bytes.extend_from_slice(&buffers.bytes(id)[start..start + piece.len as usize]);
        }
        bytes.split_off(Layout::Legacy.len())
    };
    coalescer.writes().iter().map(packet).collect()
}
