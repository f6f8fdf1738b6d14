//! Worker threads: how they start, report and end.

use super::error::StartError;
use crate::publish::{Publisher, Subscription};
use crate::stats::WorkerStats;
use crate::sys::affinity;
use crate::sys::engine::EngineError;
use crate::sys::event::StopEvent;
use std::any::Any;
use std::convert::Infallible;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What every worker thread gets.
pub(super) struct Common {
    pub(super) stop: Arc<StopEvent>,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) subscription: Subscription,
    /// Goes when the thread will touch no packet any more.
    pub(super) at_work: Sender<Infallible>,
}

/// Where threads that have what they need are parked until they may run.
#[derive(Default)]
struct Gate {
    /// Whether they may, once that is said.
    word: Mutex<Option<bool>>,
    said: Condvar,
}

impl Gate {
    /// Say whether threads may run. The first word counts.
    fn say(&self, go: bool) {
        let mut word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        word.get_or_insert(go);
        self.said.notify_all();
    }

    /// Wait until it is said.
    fn pass(&self) -> bool {
        let word = self.word.lock().unwrap_or_else(PoisonError::into_inner);
        let said = self.said.wait_while(word, |word| word.is_none());
        said.unwrap_or_else(PoisonError::into_inner)
            .unwrap_or(false)
    }
}

/// All worker threads. Dropping it stops them.
pub(super) struct Threads {
    pub(super) stats: Vec<Arc<WorkerStats>>,
    stop: Arc<StopEvent>,
    gate: Arc<Gate>,
    handles: Vec<JoinHandle<()>>,
    /// The cores that workers are yet to be pinned to, the next last.
    cores: Vec<Option<usize>>,
    started: SyncSender<Result<(), EngineError>>,
    starts: Receiver<Result<(), EngineError>>,
    at_work: Sender<Infallible>,
    ends: Receiver<Infallible>,
    failure: Arc<Mutex<Option<String>>>,
}

impl Threads {
    /// Room for `count` threads, none of which runs yet. `cores` are those of the workers, in the
    /// order in which they will start.
    pub(super) fn new(count: usize, cores: &[Option<usize>]) -> io::Result<Threads> {
        let (started, starts) = mpsc::sync_channel(count);
        let (at_work, ends) = mpsc::channel();
        Ok(Threads {
            stats: Vec::with_capacity(count),
            stop: Arc::new(StopEvent::new()?),
            gate: Arc::default(),
            handles: Vec::with_capacity(count),
            cores: cores.iter().rev().copied().collect(),
            started,
            starts,
            at_work,
            ends,
            failure: Arc::default(),
        })
    }

    /// The core of the next worker, where workers are pinned.
    pub(super) fn next_core(&mut self) -> Option<usize> {
        self.cores.pop().flatten()
    }

    /// Start a thread that first makes what it needs (rings belong to their thread), reports
    /// how that went, and runs once it [may](Threads::go): on `core`, or wherever there is room.
    pub(super) fn spawn<Make, Run>(
        &mut self,
        core: Option<usize>,
        name: String,
        publisher: &Publisher,
        make: Make,
    ) -> io::Result<()>
    where
        Make: FnOnce(&Common) -> Result<Run, EngineError> + Send + 'static,
        Run: FnOnce(Common) -> Result<(), EngineError>,
    {
        let common = Common {
            stop: self.stop.clone(),
            stats: Arc::default(),
            subscription: publisher.subscribe(),
            at_work: self.at_work.clone(),
        };
        self.stats.push(common.stats.clone());
        let (started, failure) = (self.started.clone(), self.failure.clone());
        let gate = self.gate.clone();
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
            if !gate.pass() {
                return;
            }
            // Its buffers and subscription go with it, and nobody uses them after a panic.
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(common)));
            let reason = match outcome {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error.to_string(),
                Err(payload) => format!("panicked: {}", said(payload.as_ref())),
            };
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert(format!("{name}: {reason}"));
        })?);
        Ok(())
    }

    /// Wait until all threads have what they need.
    pub(super) fn await_starts(&mut self) -> Result<(), StartError> {
        // Only the threads' own ends of the channels shall keep them open.
        self.started = mpsc::sync_channel(0).0;
        self.at_work = mpsc::channel().0;
        for _ in &self.handles {
            self.starts.recv().map_err(|_| StartError::Died)??;
        }
        Ok(())
    }

    /// Let all threads run.
    pub(super) fn go(&self) {
        self.gate.say(true);
    }

    /// Let no thread go on.
    fn end(&self) {
        self.gate.say(false);
        self.stop.raise();
    }

    /// Stop all threads, and wait until they touch no packet any more. They still have to give
    /// back what they made.
    pub(super) fn halt(&self) {
        self.end();
        // Nothing is ever sent: it ends when the last of them lets go.
        let _ = self.ends.recv();
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
        self.end();
        for handle in self.handles.drain(..) {
            // Why one has ended is known: see `spawn`.
            let _ = handle.join();
        }
    }
}

/// What was said in a panic.
fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::table::{Overlay, Table};

    /// Which CPUs the thread of each of `names` may use, by what starts it.
    fn affinities(cores: &[Option<usize>], workers: usize) -> Vec<affinity::CpuList> {
        let publisher = Publisher::new(Table::build(Overlay::default(), &[]).unwrap());
        let mut threads = Threads::new(workers + 1, cores).unwrap();
        let (told, tells) = mpsc::channel();
        for index in 0..=workers {
            let told = told.clone();
            let make = move |_: &Common| {
                told.send((index, affinity::allowed())).unwrap();
                Ok(|common: Common| {
                    while !common.stop.wait(std::time::Duration::MAX) {}
                    Ok(())
                })
            };
            let name = format!("thread-{index}");
            let core = (index < workers).then(|| threads.next_core()).flatten();
            threads.spawn(core, name, &publisher, make).unwrap();
        }
        threads.await_starts().unwrap();
        let mut all: Vec<_> = tells.iter().take(workers + 1).collect();
        all.sort_by_key(|(index, _)| *index);
        all.into_iter().map(|(_, cpus)| cpus).collect()
    }

    #[test]
    fn a_worker_that_panics_is_a_failure_with_its_reason_and_the_others_end() {
        let publisher = Publisher::new(Table::build(Overlay::default(), &[]).unwrap());
        let mut threads = Threads::new(2, &[]).unwrap();
        let stays = |_: &Common| {
            Ok(|common: Common| {
                while !common.stop.wait(std::time::Duration::MAX) {}
                Ok(())
            })
        };
        let packet = 7;
        let panics = move |_: &Common| Ok(move |_: Common| panic!("packet {packet} is impossible"));
        threads
            .spawn(None, "stays".into(), &publisher, stays)
            .unwrap();
        threads
            .spawn(None, "panics".into(), &publisher, panics)
            .unwrap();
        threads.await_starts().unwrap();
        assert_eq!(threads.failure(), None);
        threads.go();
        while !threads.handles[1].is_finished() {
            std::thread::yield_now();
        }
        let reason = "panics: panicked: packet 7 is impossible";
        assert_eq!(threads.failure().as_deref(), Some(reason));
        // It is not waited for, nor does it keep the others from their end.
        drop(threads);
    }

    #[test]
    fn workers_are_pinned_in_their_order_and_nobody_else_is() {
        let all = affinity::allowed();
        let (first, last) = (all.numbers()[0], *all.numbers().last().unwrap());
        let only = |cpu| [cpu].into_iter().collect();
        let pinned = affinities(&[Some(last), Some(first), Some(last)], 2);
        assert_eq!(pinned, [only(last), only(first), all.clone()]);
        let unpinned = affinities(&[None, None], 2);
        assert_eq!(unpinned, [all.clone(), all.clone(), all.clone()]);
        // More workers than cores were shared out to.
        assert_eq!(affinities(&[], 1), [all.clone(), all]);
    }

    #[test]
    fn a_thread_runs_once_it_may_and_never_if_it_is_stopped_before() {
        for goes in [true, false] {
            let publisher = Publisher::new(Table::build(Overlay::default(), &[]).unwrap());
            let mut threads = Threads::new(1, &[]).unwrap();
            let (told, tells) = mpsc::channel();
            let make = move |_: &Common| {
                told.send("made").unwrap();
                Ok(move |_: Common| {
                    told.send("runs").unwrap();
                    Ok(())
                })
            };
            let name = "thread".to_owned();
            threads.spawn(None, name, &publisher, make).unwrap();
            threads.await_starts().unwrap();
            assert_eq!(tells.try_iter().collect::<Vec<_>>(), ["made"]);
            assert_eq!(threads.failure(), None);
            if goes {
                threads.go();
                assert_eq!(tells.recv().unwrap(), "runs");
            }
            threads.halt();
            drop(threads);
            assert!(tells.recv().is_err(), "it runs though it was stopped");
        }
    }
}
