//! What `weft doctor` knows: facts of a node, and what each check makes of them.
//!
//! [`gather()`] looks at the agent, the host and the peers, and judges nothing. [`examine`] judges,
//! and looks at nothing but what was gathered. A check is a function of the facts in the file of its
//! topic, and a line in the table [`CHECKS`].

mod checks;
mod facts;
mod finding;
mod gather;

pub use checks::{CHECKS, Check, examine};
pub use facts::{AgentFacts, Conflist, Facts, HostFacts, LinkFacts, PeerFacts, ProcessFacts};
pub use finding::{CheckVerdict, Finding, Remedy};
pub use gather::{Asked, gather};
