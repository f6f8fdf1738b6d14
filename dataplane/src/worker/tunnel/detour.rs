//! What is known of the way around a strict `rp_filter`.

use std::io;
use std::sync::atomic::{AtomicI32, Ordering};

/// The way around a strict `rp_filter`, by BPF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detour {
    /// It was not needed.
    #[default]
    Unneeded,
    /// It is in place.
    Made,
    /// The kernel refused it with this `errno`.
    Refused(i32),
}

/// A [`Detour`] that one thread sets and others look at: its `errno`, or one of these.
#[derive(Default)]
pub(super) struct DetourCell(AtomicI32);

const UNNEEDED: i32 = 0;
const MADE: i32 = -1;

impl DetourCell {
    pub(super) fn get(&self) -> Detour {
        match self.0.load(Ordering::Relaxed) {
            UNNEEDED => Detour::Unneeded,
            MADE => Detour::Made,
            errno => Detour::Refused(errno),
        }
    }

    /// Note whether it was refused; nothing if it is not needed.
    pub(super) fn set(&self, made: Option<Result<(), &io::Error>>) {
        let value = match made {
            None => UNNEEDED,
            Some(Ok(())) => MADE,
            Some(Err(error)) => error.raw_os_error().unwrap_or(libc::EINVAL),
        };
        self.0.store(value, Ordering::Relaxed);
    }
}
