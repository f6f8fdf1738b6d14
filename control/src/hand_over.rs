//! Hand-over: a new agent takes the packets over from the one that runs, and none is lost.
//!
//! It asks over the local socket of the one that runs, and both go on from there. Whatever goes
//! wrong before [`Message::Yours`] leaves everything as it was, and what goes wrong after it has
//! the old one go on with the descriptors that it kept.
//!
//! ```text
//! successor                          the one that runs
//! {"verb":"hand-over", ...} ------>  compares; refuses with {"error": ...}
//!                           <------  {"offer": ...}, with descriptors; goes on carrying packets
//! prepares everything
//! {"ready": {}}             ------>  stops its workers, gives up port, name and socket
//!                           <------  {"yours": ...}
//! carries packets, takes port, name and socket
//! {"running": {}}           ------>  holds what the fast path must not lose
//! replaces the fast path, hangs up   ends
//! ```

mod channel;
pub mod knowledge;
mod message;
mod predecessor;
pub mod store;
mod successor;
mod tally;

pub use channel::{Channel, ChannelError};
pub use message::{Claim, Message, Offer, Super, TunnelOffer, VERSION};
pub use predecessor::{NoOffer, Predecessor};
pub use successor::{Successor, refuse};
pub use tally::{LeftTally, Tally, TallyFile};

/// What the version of this program is called in both logs.
pub const WEFT: &str = concat!("weft ", env!("CARGO_PKG_VERSION"));
