//! Requests about a device, by its name or by a descriptor of its own.
#![allow(unsafe_code)]

use std::io;

/// A request about the device `name`, all else of it zero.
pub(super) fn ifreq(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain old data for which all-zero bytes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// The name in a request.
pub(super) fn name(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|&byte| byte as u8);
    let bytes: Vec<u8> = bytes.take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the result of a system call says.
pub(super) fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
