//! The io_uring engine: one ring per worker and direction.
//!
//! A worker alternates between two states. Outside of the methods of its
//! [`Encap`](super::encap::Encap) or [`decap::DecapRing`] no request refers to filled buffers, headers or plans, so
//! safe code may read and patch them. Inside, the plan is handed to the kernel and the
//! method returns only when the kernel is done with all of it. What stays in the kernel
//! between calls are the multishot requests with the buffers they own, and the poll on the
//! stop event; before the ring begins, and after it was drained, there is nothing.
//!
//! Writes to a TUN complete while they are submitted, so this costs no waiting: one
//! `io_uring_enter` submits a batch, reaps it and waits for the next. What is sent leaves by
//! [`Sender`](super::sender::Sender), as with the other engine.
#![allow(unsafe_code)]

pub mod decap;
mod encap;
mod ending;
mod engine;
mod probe;
mod provided;
mod token;

pub use engine::RingEngine;
pub use probe::probe;

use crate::stats::{Count, WorkerStats};
use crate::sys::buffers::Buffers;
use crate::sys::engine::{EngineError, INPUT_REST, failed, input_passes};
use crate::sys::event::StopEvent;
use io_uring::{IoUring, cqueue, opcode, squeue, types};
use provided::{BufferLayout, Provided};
use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use token::Token;

/// Index of the stop event among the registered files, of which it is the only one: the ring of a
/// process that is killed lets go of them last of all, and until then the device or the port that
/// such a file stands for would be taken.
const STOP_FILE: types::Fixed = types::Fixed(0);

/// Submission queue entries. Longer plans are submitted in parts.
const ENTRIES: u32 = 256;
/// Completion queue entries: all submissions and all provided buffers at once, twice over.
const COMPLETIONS: u32 = 1024;

/// A multishot request.
struct Multishot {
    /// For arming it again.
    entry: squeue::Entry,
    armed: bool,
}

/// What both ways share: a ring, its inputs with the buffers that they fill, and the
/// count of outputs in the kernel.
pub struct Ring {
    uring: IoUring,
    /// Freed only once the kernel has let go of the buffers.
    provided: ManuallyDrop<Provided>,
    inputs: Vec<Multishot>,
    input_name: &'static str,
    /// How many of them are not armed.
    disarmed: usize,
    /// The one that is armed before all others the next time.
    first: usize,
    stop_armed: bool,
    stopped: bool,
    /// The input failed, and may not the next time.
    rests: bool,
    /// Outputs pushed and not yet completed.
    outstanding: usize,
    /// Filled buffers not yet taken, with the number of bytes the kernel reported.
    ready: VecDeque<(u16, usize)>,
    /// Bytes that this batch may still take.
    left: usize,
    budget: usize,
    /// Buffers taken in this batch.
    held: Vec<u16>,
    stats: Arc<WorkerStats>,
}

impl Ring {
    /// A ring owned by the calling thread, which ends with `stop`, with `count` buffers of `size`
    /// bytes behind `headroom` for all `inputs`. It reads nothing before [`Ring::begin`].
    ///
    /// # Safety
    /// Each of `inputs` must be a multishot request on an open descriptor and the buffer group
    /// [`provided::GROUP`]; memory it points to must stay valid as long as the ring.
    unsafe fn new(
        stop: &StopEvent,
        inputs: impl IntoIterator<Item = squeue::Entry>,
        input_name: &'static str,
        layout: BufferLayout,
        stats: Arc<WorkerStats>,
    ) -> Result<Ring, EngineError> {
        let uring = setup().map_err(EngineError::RingRefused)?;
        uring
            .submitter()
            .register_files(&[stop.as_fd().as_raw_fd()])
            .map_err(failed("io_uring: register files"))?;
        let provided = Provided::new(&uring, layout)?;
        let count = usize::from(layout.count);
        let unarmed = |entry| Multishot {
            entry,
            armed: false,
        };
        let inputs: Vec<Multishot> = inputs.into_iter().map(unarmed).collect();
        Ok(Ring {
            uring,
            provided: ManuallyDrop::new(provided),
            disarmed: inputs.len(),
            inputs,
            input_name,
            first: 0,
            stop_armed: false,
            stopped: false,
            rests: false,
            outstanding: 0,
            ready: VecDeque::with_capacity(count),
            left: 0,
            budget: layout.batch_bytes,
            held: Vec::with_capacity(count),
            stats,
        })
    }

    /// Have the next system call submit the requests that stay in the kernel.
    fn begin(&mut self) {
        let poll = opcode::PollAdd::new(STOP_FILE, libc::POLLIN as u32).build();
        // SAFETY: a poll refers to no memory of ours.
        self.stop_armed = unsafe { self.push(poll, Token::Stop) };
        self.arm();
    }

    /// The buffers, of which those taken in this batch can be looked at.
    fn buffers(&mut self) -> &mut Buffers {
        debug_assert_eq!(self.outstanding, 0);
        &mut self.provided.buffers
    }

    /// The buffers, while outputs are being made of them.
    fn outputs_from(&self) -> &Buffers {
        &self.provided.buffers
    }

    /// The next filled buffer and the bytes the kernel reported; it stays ours until the end
    /// of the batch.
    fn take(&mut self) -> Option<(u16, usize)> {
        if self.left == 0 {
            return None;
        }
        let (buffer, len) = self.ready.pop_front()?;
        self.left = self.left.saturating_sub(len);
        self.held.push(buffer);
        Some((buffer, len))
    }

    /// Whether there is nothing to do until the kernel reports something.
    fn is_idle(&self) -> bool {
        self.ready.is_empty() && !self.stopped
    }

    /// Outputs that can still be pushed before [`Ring::settle`]. Entries stay free for arming the
    /// inputs.
    fn room(&mut self) -> usize {
        let queue = self.uring.submission();
        (queue.capacity() - queue.len()).saturating_sub(self.inputs.len())
    }

    /// Push one output; [`Ring::room`] must have been checked.
    ///
    /// # Safety
    /// All memory that `entry` points to must stay valid and untouched until
    /// [`Ring::settle`] or [`Ring::shut_down`] returns true.
    unsafe fn push_output(&mut self, entry: squeue::Entry, index: usize) {
        // SAFETY: the caller vouches for the memory.
        let pushed = unsafe { self.push(entry, Token::Output(index as u32)) };
        debug_assert!(pushed, "room was checked");
        self.outstanding += usize::from(pushed);
    }

    /// Submit, and wait until no output is in the kernel; `done` hears of each: its index and
    /// the bytes it moved or a negated errno.
    ///
    /// With `last`, the end of a batch, the same system call also waits for input if there is
    /// none. It must not when an input has to be armed again first: nothing would come from it.
    ///
    /// After an error the ring is shut down, so that nothing is in the kernel then either.
    fn settle(&mut self, last: bool, done: impl FnMut(u32, i32)) -> Result<(), EngineError> {
        let settled = self.complete(last, done);
        if settled.is_err() {
            self.shut_down();
        }
        settled
    }

    fn complete(&mut self, last: bool, mut done: impl FnMut(u32, i32)) -> Result<(), EngineError> {
        let mut extra = usize::from(last && self.is_idle() && self.disarmed == 0);
        while self.outstanding > 0 {
            self.enter(self.outstanding + extra)?;
            self.reap(&mut done)?;
            extra = 0;
        }
        Ok(())
    }

    /// Give the batch's buffers back and wait until there are others to take or the stop
    /// event is raised. No output may be in the kernel.
    fn next_batch(&mut self) -> Result<(), EngineError> {
        debug_assert_eq!(self.outstanding, 0);
        self.left = self.budget;
        self.stats.add(Count::Batches, 1);
        let lost = u64::from(self.uring.completion().overflow());
        let known = self.stats.get(Count::CqOverflows);
        self.stats
            .add(Count::CqOverflows, lost.saturating_sub(known));
        loop {
            self.provided.offer(self.held.drain(..));
            if std::mem::take(&mut self.rests) {
                std::thread::sleep(INPUT_REST);
            }
            if self.disarmed > 0 {
                self.stats.add(Count::Rearms, self.disarmed as u64);
                self.arm();
            }
            if !self.is_idle() {
                return Ok(());
            }
            self.enter(1)?;
            self.reap(&mut |_, _| {})?;
        }
    }

    /// Arm the inputs that are not, another one first each time: those that flood may leave no
    /// buffers for the ones behind them.
    fn arm(&mut self) {
        let count = self.inputs.len();
        self.first = (self.first + 1) % count.max(1);
        for index in (self.first..count).chain(0..self.first) {
            if self.inputs[index].armed {
                continue;
            }
            let entry = self.inputs[index].entry.clone();
            // SAFETY: the maker vouches for the request; the provided buffers are freed only after
            // it has ended (see `Drop`).
            let armed = unsafe { self.push(entry, Token::Input(index as u32)) };
            self.inputs[index].armed = armed;
            self.disarmed -= usize::from(armed);
        }
    }

    /// Queue a request; `false` when the queue is full.
    ///
    /// # Safety
    /// All memory that `entry` points to must stay valid and untouched until its last
    /// completion has been reaped.
    unsafe fn push(&mut self, entry: squeue::Entry, token: Token) -> bool {
        let entry = entry.user_data(token.encode());
        // SAFETY: the caller vouches for the memory.
        unsafe { self.uring.submission().push(&entry).is_ok() }
    }

    /// Submit what is queued and wait until `want` completions can be reaped.
    fn enter(&mut self, want: usize) -> Result<(), EngineError> {
        match self.uring.submit_and_wait(want) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A signal, or completions that must be reaped first: callers loop.
                Some(libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                _ => Err(failed("io_uring: enter")(error)),
            },
        }
    }

    fn reap(&mut self, done: &mut impl FnMut(u32, i32)) -> Result<(), EngineError> {
        loop {
            // Bound to a name first: the queue publishes what it gave when it is dropped.
            let entry = self.uring.completion().next();
            let Some(entry) = entry else {
                return Ok(());
            };
            match Token::decode(entry.user_data()) {
                Some(Token::Input(index)) => {
                    self.note_input(index, entry.result(), entry.flags())?;
                }
                Some(Token::Output(index)) => {
                    self.outstanding -= 1;
                    done(index, entry.result());
                }
                Some(Token::Stop) => {
                    self.stop_armed = false;
                    self.stopped = true;
                }
                Some(Token::Cancel) | None => {}
            }
        }
    }

    fn note_input(&mut self, index: u32, result: i32, flags: u32) -> Result<(), EngineError> {
        if !cqueue::more(flags)
            && let Some(input) = self.inputs.get_mut(index as usize)
        {
            self.disarmed += usize::from(std::mem::take(&mut input.armed));
        }
        if result >= 0
            && let Some(buffer) = cqueue::buffer_select(flags)
        {
            self.provided.buffers.take(buffer);
            self.ready.push_back((buffer, result as usize));
            return Ok(());
        }
        match -result {
            libc::ENOBUFS => self.stats.add(Count::NoBuffers, 1),
            libc::EAGAIN | libc::EINTR | libc::ECANCELED | 0 => {}
            // The multishot read came with Linux 6.7.
            libc::EINVAL => {
                return Err(EngineError::RingRefused(io::Error::from_raw_os_error(
                    libc::EINVAL,
                )));
            }
            errno if input_passes(errno) => {
                self.stats.add(Count::InputFailures, 1);
                self.rests = true;
            }
            errno => {
                return Err(EngineError::Input {
                    from: self.input_name,
                    error: io::Error::from_raw_os_error(errno),
                });
            }
        }
        Ok(())
    }
}

/// SINGLE_ISSUER with DEFER_TASKRUN: completions are made only when this thread asks for
/// them, in batches and without interrupting it. SUBMIT_ALL: one bad request does not hold
/// back those behind it.
fn setup() -> io::Result<IoUring> {
    let build = |no_sqarray: bool| {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS);
        if no_sqarray {
            builder.setup_no_sqarray();
        }
        builder.build(ENTRIES)
    };
    // NO_SQARRAY saves an indirection since Linux 6.6.
    build(true).or_else(|_| build(false))
}

#[cfg(test)]
mod tests;
