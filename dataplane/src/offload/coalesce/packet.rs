//! What a coalescer is given: packets in receive buffers.

/// The receive buffers that packets lie in, by number.
pub trait PacketBuffers {
    /// The whole buffer.
    fn bytes(&self, id: u16) -> &[u8];
    /// The whole buffer, writable.
    fn bytes_mut(&mut self, id: u16) -> &mut [u8];
}

/// Where an inner IP packet lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Number of its receive buffer.
    pub buffer: u16,
    /// Bytes right before it that are free to overwrite: what its frame began with.
    pub room: u16,
    /// First byte of the IP header, from the start of the buffer.
    pub offset: u32,
    /// Length in bytes up to the end of the frame.
    pub len: u32,
}

/// Whether something but the inner checksum vouches for a packet's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The kernel or the NIC has verified a non-zero outer UDP checksum, as it must have
    /// for every train.
    Vouched,
    /// Nothing is known: verify the inner checksum before merging.
    Unknown,
}
