//! What operators do to leases: look at them, reserve and release them.
//!
//! Unlike a node, an operator does not wait: what cannot be done now is an error.

mod conflicts;
mod error;
mod follow;
mod leases;
mod record;
mod reserve;

pub use error::AdminError;
pub use follow::LeaseChange;
pub use record::{Life, Listing, Record};
pub use reserve::{Reservation, Reserved};

use super::options::EtcdOptions;
use super::store::Store;
use super::timing::Timing;
use futures::{StreamExt, TryStreamExt, stream};
use leases::Leases;
use std::ops::ControlFlow;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// How many leases may be asked for their end at the same time.
const ASKED_AT_ONCE: usize = 32;

/// The leases of one network in etcd, for an operator. Each call waits for its outcome; not to
/// be used from inside an asynchronous runtime.
pub struct Admin {
    runtime: Runtime,
    leases: Leases,
}

impl Admin {
    /// Check the options and read the files that they name; nothing is sent.
    pub fn new(options: &EtcdOptions) -> Result<Admin, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let store = Store::new(options, Timing::default())?;
        let leases = Leases { store };
        Ok(Admin { runtime, leases })
    }

    /// All leases, with what is wrong with them; their ends have not been asked for.
    pub fn list(&self) -> Result<Listing, AdminError> {
        self.runtime.block_on(self.leases.list())
    }

    /// Put down when each lease ends. That takes a request for each.
    pub fn ask_ends(&self, records: &mut [Record]) -> Result<(), AdminError> {
        let leases: Vec<i64> = records.iter().map(|record| record.etcd_lease).collect();
        let lives = stream::iter(leases).map(|lease| self.leases.life(lease));
        let lives = lives.buffered(ASKED_AT_ONCE).try_collect();
        let lives: Vec<Life> = self.runtime.block_on(lives)?;
        for (record, life) in records.iter_mut().zip(lives) {
            record.life = life;
        }
        Ok(())
    }

    /// Make a reservation, or turn a node's lease into one.
    pub fn reserve(&self, wanted: &Reservation) -> Result<Reserved, AdminError> {
        self.runtime
            .block_on(reserve::reserve(&self.leases, wanted))
    }

    /// Delete a key as long as it is as `record` shows it; whether it was.
    pub fn release(&self, record: &Record) -> Result<bool, AdminError> {
        self.runtime.block_on(self.leases.release(record))
    }

    /// Report every change from now on, until SIGINT or SIGTERM comes or `report` breaks.
    pub fn watch(
        &self,
        report: impl FnMut(LeaseChange) -> ControlFlow<()>,
    ) -> Result<(), AdminError> {
        self.runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                ended = follow::follow(&self.leases, report) => ended,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })
    }
}
