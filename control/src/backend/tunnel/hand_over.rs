//! A tunnel between two processes: what it works with is given, stopped, gone on with or left.

use super::losses::LossReporter;
use super::{Tunnel, fast_path_of, inheritance};
use crate::backend::host::Host;
use crate::hand_over::TunnelOffer;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// For how long after workers have begun their receive buffers have more room than usual: they take
/// more in a second than that holds.
const CATCH_UP: Duration = Duration::from_secs(5);

impl Tunnel {
    /// What a successor is given; none while the device is made anew.
    pub(in crate::backend) fn offer(&self) -> Option<(TunnelOffer, Vec<BorrowedFd<'_>>)> {
        let workers = self.workers.as_ref()?;
        Some(inheritance::offer(workers.holdings(), &self.spec))
    }

    /// How often what a successor is given has changed.
    pub(in crate::backend) fn changes(&self) -> u64 {
        self.remakes + self.fast_path.starts()
    }

    /// What programs find the workers by, if there are programs.
    pub(in crate::backend) fn hold(&self) -> Option<OwnedFd> {
        self.fast_path.hold()
    }

    /// Have room for datagrams that come while nobody reads them. The queue of the device keeps its
    /// length: when that is changed, the kernel drops what comes meanwhile.
    pub(in crate::backend) fn make_room(&mut self) {
        // Later it would take away what is another process's.
        self.fast_path.take_away_closed();
        if let Some(workers) = &self.workers {
            workers.make_room(true);
        }
        self.roomy = true;
    }

    /// Stop the workers and keep what they work with.
    pub(in crate::backend) fn pause(&mut self) {
        self.fast_path.wait_for_backlog();
        self.halted = self.workers.take();
        if let Some(workers) = &self.halted {
            workers.halt();
        }
    }

    /// Carry packets again where workers have stopped. What fails makes the device anew.
    pub(in crate::backend) fn resume(&mut self) {
        let Some(halted) = self.halted.take() else {
            return;
        };
        self.fast_path.wait_for_backlog();
        self.began = Instant::now();
        self.losses = LossReporter::default();
        match halted.resume(&self.spec, &self.publisher) {
            Ok(workers) => self.workers = Some(workers),
            Err(error) => warn!(code = "W0507", "{}: {error}; making it anew", self.device()),
        }
    }

    /// Let workers begin that were parked.
    pub(in crate::backend) fn go(&mut self) {
        if let Some(workers) = &self.workers {
            workers.go();
        }
        self.began = Instant::now();
    }

    /// Have programs take the place of those of the process that was before.
    pub(in crate::backend) async fn start_fast_path(&mut self, host: &Host) {
        let tunnel = fast_path_of(&self.spec, &self.overlay, self.workers.as_ref());
        self.fast_path.start_held(host, tunnel).await;
    }

    /// Leave everything to the process that carries the packets.
    pub(in crate::backend) fn leave(self) {
        if let Some(workers) = &self.halted {
            let fast_path = self.fast_path.stats();
            info!("{}", workers.counters(self.device(), &fast_path));
        }
        self.fast_path.leave();
    }

    /// Give receive buffers their size again once nothing waits in them any more.
    pub(super) fn look_after_room(&mut self) {
        if self.roomy
            && self.began.elapsed() >= CATCH_UP
            && let Some(workers) = &self.workers
        {
            workers.make_room(false);
            self.roomy = false;
        }
    }
}
