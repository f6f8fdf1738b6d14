//! Nodes of a cluster on the lab's API server, as flannel's manifest starts them.

mod backends;
mod lab;
mod life;
mod many;
mod mixed;
mod outage;
mod service_account;
