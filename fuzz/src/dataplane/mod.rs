//! Packets.

mod admit;
mod coalesce;
mod fragment;
mod segment;
mod wire;

/// Read `data` as every protocol of [`weft_dataplane::wire`] and from the VXLAN header inwards,
/// call all accessors and setters, and build the ICMP errors that answer it.
pub fn wire(data: &[u8]) {
    wire::run(data);
}

/// Read `data` as a super-packet behind its `virtio_net_hdr` and cut it.
pub fn segment(data: &[u8]) {
    segment::run(data);
}

/// Read `data` as an IPv4 packet, cut it into fragments and put them together again.
pub fn fragment(data: &[u8]) {
    fragment::run(data);
}

/// Coalesce the packets that `data` describes, segment the result and compare.
pub fn coalesce(data: &[u8]) {
    coalesce::run(data);
}

/// Hold `data`, a frame from its VXLAN header on, against a fixed table of two peers.
pub fn admit(data: &[u8]) {
    admit::run(data);
}
