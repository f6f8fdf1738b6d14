//! How a new table reaches the workers: swapped in at once, seen by each worker at its next
//! batch, dropped by the control thread when the last worker has moved on.
//!
//! ```text
//! control thread                      worker thread
//! Publisher::new(table)
//! publisher.subscribe() ------------> subscription.into_reader()
//!                                     loop {
//! publisher.publish(table)                let table = reader.table();   // one batch
//!                                         reader.refresh();             // the next one
//!                                         reader.wait(|| block());      // nothing to do
//!                                     }
//! ```

use crate::route::table::Table;
use crate::sys::epoch::{EpochCell, EpochReader, EpochSubscription};

/// The control thread's side.
pub struct Publisher(EpochCell<Table>);

impl Publisher {
    /// Begin with `table`.
    pub fn new(table: Table) -> Publisher {
        Publisher(EpochCell::new(table))
    }

    /// What one worker needs to read tables; send it to the worker's thread.
    pub fn subscribe(&self) -> Subscription {
        Subscription(self.0.subscribe())
    }

    /// Let all workers use `table` from their next batch on. Waits for none of them.
    ///
    /// Returns how many older tables a worker still holds; the next call drops them.
    pub fn publish(&self, table: Table) -> usize {
        self.0.replace(table)
    }

    /// Drop the older tables that no worker holds any more; returns how many are left.
    ///
    /// Worth a call some time after the last of several publications, for the memory.
    pub fn reclaim(&self) -> usize {
        self.0.reclaim()
    }
}

/// A [`Reader`] on its way to the thread of its worker.
pub struct Subscription(EpochSubscription<Table>);

impl Subscription {
    /// Become the reader of the calling thread.
    pub fn into_reader(self) -> Reader {
        Reader(self.0.into_reader())
    }
}

/// A worker's side: one table for each batch. Stays on its thread.
pub struct Reader(EpochReader<Table>);

impl Reader {
    /// The table of this batch.
    #[inline]
    pub fn table(&self) -> &Table {
        self.0.get()
    }

    /// End the batch: take the newest table and let go of this one. Costs one fence.
    #[inline]
    pub fn refresh(&mut self) {
        self.0.refresh();
    }

    /// Run `f`, which may block, without holding a table; then take the newest one.
    #[inline]
    pub fn wait<R>(&mut self, f: impl FnOnce() -> R) -> R {
        self.0.wait(f)
    }
}

#[cfg(test)]
mod tests;
