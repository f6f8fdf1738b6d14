//! Writing what is known to the disk, and forgetting it there.

use super::clock::Clock;
use super::{DISK_PATIENCE, Remembered};
use crate::subnets::SubnetManager;
use std::convert::Infallible;
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// Pause between two writes.
pub(super) const WRITE_PAUSE: Duration = Duration::from_secs(1);

/// Pause after a write that failed.
const WRITE_RETRY: Duration = Duration::from_secs(10);

/// Pause between two looks whether somebody has set the host's clock.
const CLOCK_LOOK: Duration = Duration::from_secs(10);

impl<M: SubnetManager> Remembered<M> {
    /// Write what is known, if it is not in the file; whether that was done.
    pub(super) async fn write(&self) -> Option<bool> {
        let due = {
            let mut state = self.state();
            state.follow_clock(Clock::read());
            state.due()
        };
        let (number, memory) = due?;
        let shelf = self.shelf.clone();
        let done = spawn_blocking(move || shelf.write(number, memory)).await;
        let done = done.unwrap_or(false);
        if done {
            self.state().kept = number;
        }
        Some(done)
    }

    /// Write whenever something has changed, or somebody has set the clock, with pauses.
    pub(super) async fn write_when_due(&self) -> Infallible {
        loop {
            let _ = timeout(CLOCK_LOOK, self.changed.notified()).await;
            match self.write().await {
                None => {}
                Some(true) => sleep(WRITE_PAUSE).await,
                Some(false) => {
                    sleep(WRITE_RETRY).await;
                    self.changed.notify_one();
                }
            }
        }
    }

    /// Forget everything, also on the disk.
    pub(super) async fn forget(&self) {
        let number = self.state().forget();
        let shelf = self.shelf.clone();
        let cleared = spawn_blocking(move || shelf.clear(number));
        // A disk that hangs must not keep the node from its end.
        let _ = timeout(DISK_PATIENCE, cleared).await;
    }
}
