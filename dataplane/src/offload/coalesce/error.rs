//! Why a coalescer does not take what it is given.

use crate::stats::DropReason;

/// A packet that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// All writes are in use. Write them, clear and push again; nothing has changed.
    Full,
    /// The packet must go no further.
    Drop(DropReason),
}

/// A layout whose header does not fit between two packets of a VXLAN train.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a virtio_net_hdr of {0} bytes does not fit the 22 bytes before an inner packet")]
pub struct LayoutTooLong(pub usize);
