//! How a ring ends: what stays in the kernel between calls is cancelled, and waited for.

use super::Ring;
use super::provided::GROUP;
use super::token::Token;
use crate::sys::engine::{EngineError, failed};
use io_uring::{opcode, types};
use std::io;
use std::mem::ManuallyDrop;
use std::time::Duration;

/// How long a cancelled request is waited for, in all about a second.
const CANCEL_WAIT: Duration = Duration::from_millis(10);
const CANCEL_WAITS: usize = 100;

impl Ring {
    /// End the inputs, and begin a batch of what they have filled already: whether there is any. No
    /// output may be in the kernel.
    pub(super) fn drain(&mut self) -> Result<bool, EngineError> {
        debug_assert_eq!(self.outstanding, 0);
        self.left = self.budget;
        for index in 0..self.inputs.len() {
            if self.inputs[index].armed {
                let input = Token::Input(index as u32).encode();
                self.cancel(types::CancelBuilder::user_data(input));
            }
        }
        for _ in 0..CANCEL_WAITS {
            if self.disarmed == self.inputs.len() {
                return Ok(!self.ready.is_empty());
            }
            self.await_cancelled()?;
        }
        Err(failed("io_uring: cancel")(io::ErrorKind::TimedOut.into()))
    }

    /// Queue a cancellation of what `whom` names. When the queue is full there is none.
    fn cancel(&mut self, whom: types::CancelBuilder) {
        let cancel = opcode::AsyncCancel2::new(whom).build();
        // SAFETY: a cancellation refers to no memory of ours.
        unsafe { self.push(cancel, Token::Cancel) };
    }

    /// Submit what is queued, and reap what completes within [`CANCEL_WAIT`].
    fn await_cancelled(&mut self) -> Result<(), EngineError> {
        let wait = types::Timespec::from(CANCEL_WAIT);
        let args = types::SubmitArgs::new().timespec(&wait);
        // Time-outs and interruptions show in what can be reaped.
        let _ = self.uring.submitter().submit_with_args(1, &args);
        self.reap(&mut |_, _| {})
    }

    /// Whether the kernel has no request of ours.
    fn is_quiet(&self) -> bool {
        self.disarmed == self.inputs.len() && !self.stop_armed && self.outstanding == 0
    }

    /// Cancel everything and wait, for about a second at most, until the kernel refers to no
    /// memory of ours. `false` if it still does: then that memory must not be freed.
    pub(super) fn shut_down(&mut self) -> bool {
        for _ in 0..CANCEL_WAITS {
            if self.is_quiet() {
                return true;
            }
            self.cancel(types::CancelBuilder::any().all());
            let _ = self.await_cancelled();
        }
        false
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        if self.shut_down() {
            // The kernel forgets the entries before they are freed; closing would do as much.
            let _ = self.uring.submitter().unregister_buf_ring(GROUP);
            // SAFETY: dropped once, here, and the kernel has let go of it. If it has not,
            // leaking beats handing it memory that is used again.
            unsafe { ManuallyDrop::drop(&mut self.provided) };
        }
    }
}
