//! What kind of file system a path lies on.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The magic number of the file system that holds `path` (`linux/magic.h`).
pub fn kind(path: &Path) -> io::Result<u64> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let mut buf = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the name ends in NUL and the buffer is one `struct statfs`; both outlive the call.
    match unsafe { libc::statfs(name.as_ptr(), buf.as_mut_ptr()) } {
        // SAFETY: a call that succeeds has filled the buffer.
        0 => Ok(unsafe { buf.assume_init() }.f_type as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_known_and_what_is_not_there_is_an_error() {
        assert_eq!(kind(Path::new("/proc")).unwrap(), 0x9fa0);
        let error = kind(Path::new("/proc/no such file")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
