//! Worker threads: how they start, report and end.

use super::error::StartError;
use crate::publish::{Publisher, Subscription};
use crate::stats::WorkerStats;
use crate::sys::affinity;
use crate::sys::engine::EngineError;
use crate::sys::event::StopEvent;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What every worker thread gets.
pub(super) struct Common {
    pub(super) stop: Arc<StopEvent>,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) subscription: Subscription,
}

/// All worker threads. Dropping it stops them.
pub(super) struct Threads {
    pub(super) stats: Vec<Arc<WorkerStats>>,
    stop: Arc<StopEvent>,
    handles: Vec<JoinHandle<()>>,
    /// The core of each thread, where threads are pinned.
    cores: Vec<Option<core_affinity::CoreId>>,
    started: SyncSender<Result<(), EngineError>>,
    starts: Receiver<Result<(), EngineError>>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Threads {
    /// Room for `count` threads, none of which runs yet.
    pub(super) fn new(count: usize) -> io::Result<Threads> {
        let (started, starts) = mpsc::sync_channel(count);
        Ok(Threads {
            stats: Vec::with_capacity(count),
            stop: Arc::new(StopEvent::new()?),
            handles: Vec::with_capacity(count),
            cores: affinity::assign(&affinity::allowed_cores(), count),
            started,
            starts,
            failure: Arc::default(),
        })
    }

    /// Start a thread that first makes what it needs (rings belong to their thread), reports
    /// how that went, and then runs.
    pub(super) fn spawn<Make, Run>(
        &mut self,
        name: String,
        publisher: &Publisher,
        make: Make,
    ) -> io::Result<()>
    where
        Make: FnOnce(&Common) -> Result<Run, EngineError> + Send + 'static,
        Run: FnOnce(Common) -> Result<(), EngineError>,
    {
        let core = self.cores.get(self.handles.len()).copied().flatten();
        let common = Common {
            stop: self.stop.clone(),
            stats: Arc::default(),
            subscription: publisher.subscribe(),
        };
        self.stats.push(common.stats.clone());
        let (started, failure) = (self.started.clone(), self.failure.clone());
        let builder = std::thread::Builder::new().name(name.clone());
        self.handles.push(builder.spawn(move || {
            affinity::schedule_as_batch();
            if let Some(core) = core {
                affinity::pin(core);
            }
            let run = match make(&common) {
                Ok(run) => run,
                Err(error) => {
                    // The starter has gone when another worker failed first.
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(()));
            // A thread that dies later must not be waited for.
            drop(started);
            if let Err(error) = run(common) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert(format!("{name}: {error}"));
            }
        })?);
        Ok(())
    }

    /// Wait until all threads have what they need.
    pub(super) fn await_starts(&mut self) -> Result<(), StartError> {
        // Only the threads' own ends of the channel shall keep it open.
        self.started = mpsc::sync_channel(0).0;
        for _ in &self.handles {
            self.starts.recv().map_err(|_| StartError::Died)??;
        }
        Ok(())
    }

    /// Why a worker ended, if one did.
    pub(super) fn failure(&self) -> Option<String> {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if failure.is_none() && self.handles.iter().any(JoinHandle::is_finished) {
            return Some("a worker thread ended".to_owned());
        }
        failure.clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.raise();
        for handle in self.handles.drain(..) {
            // A worker that panicked has already said so on stderr.
            let _ = handle.join();
        }
    }
}
