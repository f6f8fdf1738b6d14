//! `subnet.env`: how container runtimes and CNI plugins learn this node's subnet, and how
//! the next start finds it again.

mod content;
mod dotenv;
mod kept;
mod previous;

pub use content::SubnetEnv;
pub use dotenv::dotenv;
pub use kept::{KeptEnv, remove_stale};
pub use previous::parse_previous;
pub use previous::read_previous;
