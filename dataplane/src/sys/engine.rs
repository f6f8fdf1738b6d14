//! What the workers ask of an engine, whichever it is.
//!
//! An engine owns the buffers and the descriptors of one direction. Between two calls its
//! buffers are the caller's to read and patch; during a call they may be the kernel's, and
//! when the call returns the kernel has finished with all that was planned.

use crate::offload::coalesce::{Coalescer, LayoutTooLong};
use crate::offload::plan::SendPlan;
use crate::stats::WorkerStats;
use crate::sys::buffers::Buffers;
use crate::sys::cmsg::RecvMeta;
use crate::sys::event::StopEvent;
use crate::sys::refusals::is_of_icmp;
use crate::sys::sender::Sender;
use crate::sys::tun::TunQueue;
use socket2::Socket;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Free bytes in front of the IP packet of every encap buffer. The `virtio_net_hdr` lies at
/// their end; what a frame begins with, or all headers of a super-packet that leaves by tunnel
/// GSO, may overwrite it and what is before it.
pub const HEADROOM: usize = 128;

const _: () = assert!(HEADROOM >= crate::offload::tunnel_gso::HEADER_LEN);

/// Longest packet a TUN hands out, and longest payload of a UDP datagram or train.
pub(super) const MAX_PACKET: usize = 65_535;

/// IP bytes after which an encap batch reads no further packet: waiting for more would idle
/// the receiver, and 256 KB still fit the second-level cache.
pub(super) const ENCAP_BATCH_BYTES: usize = 256 << 10;

/// UDP payload bytes after which a decap batch receives no further datagram.
pub(super) const DECAP_BATCH_BYTES: usize = 512 << 10;

/// Buffers of a decap engine: the segments of two super-packets where nothing merges them.
/// With 64, io_uring often ran out of them there, which cost 5 to 10 % of one stream's speed.
pub(super) const DECAP_BUFFERS: u16 = 128;

/// One packet read from the TUN.
#[derive(Clone, Copy, Debug)]
pub struct TunPacket {
    /// The buffer that holds it: `virtio_net_hdr` right before offset [`HEADROOM`], IP packet
    /// from there on.
    pub buffer: u16,
    /// Length of the IP packet in bytes; 0 when the read was too short for a header.
    pub len: usize,
}

/// One datagram or train.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// The buffer that holds it.
    pub buffer: u16,
    /// Offset of its payload in the buffer.
    pub offset: usize,
    /// Length of its payload.
    pub len: usize,
    /// Outer source address; `None` when the kernel's record made no sense.
    pub source: Option<IpAddr>,
    /// What the control messages told.
    pub meta: RecvMeta,
    /// The payload did not fit the buffer.
    pub truncated: bool,
}

/// From the TUN to the send sockets.
pub trait EncapIo {
    /// The plan of this batch and the buffers its pieces may point to.
    fn parts(&mut self) -> (&mut SendPlan, &mut Buffers);

    /// The next packet of this batch; `None` at its end: nothing is there, or it is full.
    fn take(&mut self) -> Result<Option<TunPacket>, EngineError>;

    /// Send what is planned, in order, and clear the plan. The batch's buffers stay filled.
    fn flush(&mut self) -> Result<(), EngineError>;

    /// Write one complete IP packet back to the TUN: an ICMP error, which is rare.
    fn reply(&mut self, packet: &[u8]) -> io::Result<()>;
}

/// From the receive socket to the TUN.
pub trait DecapIo {
    /// The coalescer of this batch and the buffers its packets lie in.
    fn parts(&mut self) -> (&mut Coalescer, &mut Buffers);

    /// The next datagram of this batch; `None` at its end: nothing is there, or it is full.
    fn take(&mut self) -> Result<Option<Received>, EngineError>;

    /// Write what has been coalesced, in order, and clear the coalescer. The batch's buffers
    /// stay filled.
    fn flush(&mut self) -> Result<(), EngineError>;
}

/// What the way out is made of.
pub struct EncapParts {
    /// The TUN queues that packets are read from, which take turns.
    pub queues: Vec<Arc<TunQueue>>,
    /// What sends their frames.
    pub sender: Sender,
    /// Bounds what one batch may hold.
    pub plan: SendPlan,
    /// Counters of the worker.
    pub stats: Arc<WorkerStats>,
}

/// What the way in is made of.
pub struct DecapParts {
    /// The sockets that receive, which take turns.
    pub sockets: Vec<Arc<Socket>>,
    /// The TUN queue that packets are written to.
    pub queue: Arc<TunQueue>,
    /// Bounds what one batch may hold.
    pub coalescer: Coalescer,
    /// Counters of the worker.
    pub stats: Arc<WorkerStats>,
}

/// What moves the packets of one worker, which makes it in its own thread and calls it from
/// there alone.
pub trait Engine: Sized {
    /// The way out.
    type Encap: EncapIo;
    /// The way in.
    type Decap: DecapIo;

    /// Whether it can look for packets for a while before it sleeps, and so serve both ways of
    /// a queue in one thread: two that spin would keep each other from their cores.
    const SPINS: bool;

    /// An engine without inputs, whose waits end with `stop`. Those that can look for `spin`
    /// before they sleep.
    fn open(stop: Arc<StopEvent>, spin: Duration) -> Result<Self, EngineError>;

    /// A way out, which all that follows is to be given from now on. Nothing is read yet.
    fn encap(&self, parts: EncapParts) -> Result<Self::Encap, EngineError>;

    /// A way in, likewise.
    fn decap(&self, parts: DecapParts) -> Result<Self::Decap, EngineError>;

    /// Read from now on: until here another process may have read by duplicates of the same
    /// descriptors.
    fn begin(
        &mut self,
        encap: Option<&mut Self::Encap>,
        decap: Option<&mut Self::Decap>,
    ) -> Result<(), EngineError>;

    /// End the batch of each way, that is send or write what is planned and give its buffers
    /// back, and block until one of them has something to take or the stop event is raised.
    fn wait(
        &mut self,
        encap: Option<&mut Self::Encap>,
        decap: Option<&mut Self::Decap>,
    ) -> Result<(), EngineError>;

    /// Whether the stop event has been raised, also where no wait could tell because there
    /// always is something to take. No system call.
    fn stopped(&self) -> bool;

    /// End the batch of each way, and read no more. Whether there is something to take that was
    /// read before; when there is not, all has been sent and written.
    fn drain(
        &mut self,
        encap: Option<&mut Self::Encap>,
        decap: Option<&mut Self::Decap>,
    ) -> Result<bool, EngineError>;
}

/// Why an engine cannot start or go on.
#[derive(Debug, Error)]
pub enum EngineError {
    /// io_uring is not to be had.
    #[error(
        "io_uring refused ({0}): it needs Linux 6.7 or later, kernel.io_uring_disabled=0 and a seccomp profile that allows io_uring"
    )]
    RingRefused(io::Error),
    /// The coalescer was made for another `virtio_net_hdr`.
    #[error(transparent)]
    Layout(#[from] LayoutTooLong),
    /// A call that worked before, or must always work.
    #[error("{step}: {error}")]
    Failed {
        /// The call that failed.
        step: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
    /// Reading from the TUN or the receive socket.
    #[error("reading from {from}: {error}")]
    Input {
        /// What was read.
        from: &'static str,
        /// What the kernel said.
        error: io::Error,
    },
}

/// How long a worker rests when the kernel cannot read just then, so that it does not ask
/// again and again for what is not there.
pub(super) const INPUT_REST: Duration = Duration::from_millis(1);

/// Whether a read that failed with `errno` says nothing of the next one: the kernel has no
/// memory for it, or an earlier datagram met an ICMP error.
pub(super) fn input_passes(errno: i32) -> bool {
    matches!(errno, libc::ENOMEM | libc::ENOBUFS | libc::EINTR) || is_of_icmp(errno)
}

pub(crate) fn failed(step: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    move |error| EngineError::Failed { step, error }
}

#[cfg(test)]
pub(super) mod tests;
