//! Signals: the first SIGINT or SIGTERM asks for a clean stop, a second one kills, and
//! SIGUSR1 asks for the counters.

use signal_hook::consts::{SIGINT, SIGTERM};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The handlers of one agent.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user1: Signal,
    stopping: Arc<AtomicBool>,
}

impl Signals {
    /// Install the handlers.
    pub(super) fn install() -> io::Result<Self> {
        let stopping = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM] {
            // Acts inside the handler, so that a second signal kills even if the runtime
            // hangs while it stops.
            let condition = Arc::clone(&stopping);
            signal_hook::flag::register_conditional_default(number, condition)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            stopping,
        })
    }

    /// Wait for SIGINT or SIGTERM; its name. From then on a second one kills.
    pub(super) async fn stop(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        };
        self.stopping.store(true, Ordering::SeqCst);
        name
    }

    /// Wait for any signal that the running agent acts on.
    pub(super) async fn next(&mut self) -> Request {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.user1.recv() => return Request::Counters,
        };
        self.stopping.store(true, Ordering::SeqCst);
        Request::Stop(name)
    }
}

/// What a signal asks the running agent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Stop; the signal's name.
    Stop(&'static str),
    /// Log the counters.
    Counters,
}
