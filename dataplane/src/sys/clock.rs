//! The time, for those who are told it as a number.
#![allow(unsafe_code)]

use std::time::Instant;

/// Milliseconds since it was made. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Clock {
        Clock::start()
    }
}

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Milliseconds since its start. No system call where the vDSO has the clock.
    pub fn now_ms(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC_COARSE`, which BPF programs have as `bpf_ktime_get_coarse_ns`.
pub fn coarse_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call writes one `timespec`, which outlives it. With a clock that all kernels
    // have it cannot fail.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Whether the kernel's clock follows another, such as a time server's.
pub fn is_synchronized() -> bool {
    /// `TIME_ERROR` of `linux/timex.h`.
    const UNSYNCHRONIZED: libc::c_int = 5;
    // SAFETY: a `timex` of zeros is valid, and asks for nothing to be changed.
    let mut timex: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the call reads and writes one `timex`, which outlives it.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (0..UNSYNCHRONIZED).contains(&state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_time_goes_on_as_the_other_does() {
        let (start, clock) = (coarse_ns(), Clock::start());
        while clock.now_ms() < 40 {
            std::thread::yield_now();
        }
        let passed = coarse_ns() - start;
        assert!(
            (20_000_000..10_000_000_000).contains(&passed),
            "{passed} ns"
        );
    }
}
