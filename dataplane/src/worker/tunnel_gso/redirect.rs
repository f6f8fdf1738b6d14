//! Whether what the TAP receives is redirected past a strict `rp_filter`.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// The redirect past a strict `rp_filter`, by BPF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RedirectState {
    /// It was not needed.
    #[default]
    Unneeded,
    /// It is attached.
    Attached,
    /// The kernel refused it with this `errno`.
    Refused(i32),
}

/// A [`RedirectState`] that one thread sets and others look at: its `errno`, or one of these.
#[derive(Default)]
pub(super) struct RedirectCell(AtomicI32);

const UNNEEDED: i32 = 0;
const ATTACHED: i32 = -1;

impl RedirectCell {
    pub(super) fn get(&self) -> RedirectState {
        match self.0.load(Ordering::Relaxed) {
            UNNEEDED => RedirectState::Unneeded,
            ATTACHED => RedirectState::Attached,
            errno => RedirectState::Refused(errno),
        }
    }

    /// Note whether it was refused; nothing if it is not needed.
    pub(super) fn set(&self, made: Option<Result<(), &io::Error>>) {
        let value = match made {
            None => UNNEEDED,
            Some(Ok(())) => ATTACHED,
            Some(Err(error)) => error.raw_os_error().unwrap_or(libc::EINVAL),
        };
        self.0.store(value, Ordering::Relaxed);
    }
}
