//! What a receive socket gives.

/// One datagram or train as the receive socket gives it.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Its frames.
    pub payload: Vec<u8>,
    /// The stride, if it is a train; its outer checksum has been verified then.
    pub gro_size: Option<u16>,
}

impl Arrival {
    /// The frames as datagrams of their own, as they come where nothing merges them.
    pub fn frames(&self) -> Vec<Arrival> {
        let stride = self.gro_size.map_or(self.payload.len(), usize::from);
        let frame = |payload: &[u8]| Arrival {
            payload: payload.to_vec(),
            gro_size: None,
        };
        self.payload.chunks(stride.max(1)).map(frame).collect()
    }
}
