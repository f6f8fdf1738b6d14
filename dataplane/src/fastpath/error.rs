//! Why there is no fast path.

use std::error::Error;
use std::io;

/// What was refused, and what the kernel said. One line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct FastPathError {
    step: String,
    reason: String,
    /// What the kernel's answer was, if it was the kernel's.
    errno: Option<i32>,
}

impl FastPathError {
    /// `error` in `step`, with what it came from.
    pub(super) fn new(step: impl Into<String>, error: &(dyn Error + 'static)) -> FastPathError {
        let mut reason = first_line(&error.to_string());
        let mut source = error.source();
        let mut errno = errno_of(error);
        while let Some(cause) = source {
            errno = errno.or(errno_of(cause));
            let text = first_line(&cause.to_string());
            // Some errors say what their cause says, too.
            if !reason.contains(&text) {
                reason = format!("{reason}: {text}");
            }
            source = cause.source();
        }
        if matches!(errno, Some(libc::EPERM | libc::EACCES)) {
            reason += ": it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a seccomp profile that allows bpf";
        }
        FastPathError {
            errno,
            ..FastPathError::because(step, reason)
        }
    }

    /// Whether the kernel does not know what it was asked for. For want of files or of memory it says
    /// so otherwise.
    pub(super) fn is_unknown_to_the_kernel(&self) -> bool {
        matches!(
            self.errno,
            Some(libc::EINVAL | libc::ENOSYS | libc::EOPNOTSUPP)
        )
    }

    /// A refusal of our own.
    pub(super) fn because(step: impl Into<String>, reason: impl Into<String>) -> FastPathError {
        FastPathError {
            step: step.into(),
            reason: reason.into(),
            errno: None,
        }
    }
}

fn errno_of(error: &(dyn Error + 'static)) -> Option<i32> {
    error.downcast_ref::<io::Error>()?.raw_os_error()
}

/// The verifier's log is for developers.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// Give an error the step that it was made in.
pub(super) trait During<T> {
    /// The value, or what failed in this step.
    fn during(self, step: &str) -> Result<T, FastPathError>;
}

impl<T, E: Error + 'static> During<T> for Result<T, E> {
    fn during(self, step: &str) -> Result<T, FastPathError> {
        self.map_err(|error| FastPathError::new(step, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::programs::ProgramError;
    use aya::sys::SyscallError;

    /// As aya has it, two causes deep.
    fn refused(errno: i32) -> FastPathError {
        let refused = ProgramError::SyscallError(SyscallError {
            call: "bpf_link_create",
            io_error: io::Error::from_raw_os_error(errno),
        });
        Err::<(), _>(refused)
            .during("attaching to eth0")
            .unwrap_err()
    }

    #[test]
    fn what_a_kernel_does_not_know_is_told_from_what_it_has_no_room_for() {
        for errno in [libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP] {
            assert!(refused(errno).is_unknown_to_the_kernel(), "{errno}");
        }
        for errno in [libc::EMFILE, libc::ENOMEM, libc::EPERM, libc::ENODEV] {
            assert!(!refused(errno).is_unknown_to_the_kernel(), "{errno}");
        }
        assert!(refused(libc::EPERM).to_string().contains("CAP_BPF"));
        assert!(!refused(libc::EMFILE).to_string().contains("CAP_BPF"));
    }
}
