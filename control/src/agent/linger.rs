//! Staying after another process has taken over.

use super::options::AgentOptions;
use super::signals::Signals;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use std::os::fd::OwnedFd;
use tokio::task::spawn_blocking;
use tracing::info;

/// If the options say so, stay until a signal comes or `heir`, the process that carries the
/// packets now, ends. Who starts again what has ended would otherwise have this one take over
/// from that one at once; and when that one is gone, it is to start one of both.
pub(super) async fn linger(options: &AgentOptions, signals: &mut Signals, heir: OwnedFd) {
    if !options.linger {
        return;
    }
    // A process's descriptor can be read when it has ended.
    let ended = move || retry_on_intr(|| poll(&mut [PollFd::new(&heir, PollFlags::IN)], None));
    info!("staying, as -linger says, until the process that took over ends");
    tokio::select! {
        name = signals.stop() => info!("{name}: stopped"),
        _ = spawn_blocking(ended) => info!("the process that took over has ended"),
    }
}
