//! Files by which a node knows at its next start what it knew at its last: a header line with
//! version, length and checksum, and the content behind it.
//!
//! A file that is not whole, or that somebody else may have written, is as good as none. The
//! checksum is for disks; what keeps others out is the owner and the mode of the file.

use super::atomic_file;
use crate::text::shown;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// The form of header and content that this version of weft writes and reads.
pub const VERSION: &str = "1";

/// What every header begins with.
const MAGIC: &str = "weft-state";

/// The longest header, in bytes.
const HEADER_MAX: usize = 64;

/// The longest content, in bytes: more than 100,000 leases.
const CONTENT_MAX: usize = 64 << 20;

/// Who but the owner may write to a file.
const OTHERS_WRITE: u32 = 0o022;

/// Why a state file is not used. One line.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// It is a directory, a link, a device or the like.
    #[error("it is no regular file")]
    NotRegular,
    /// Another user could have written what he likes.
    #[error("it belongs to user {0}, not to this one")]
    Foreign(u32),
    /// The same.
    #[error("others than its owner may write to it (mode {0:04o})")]
    Open(u32),
    /// Nobody has that many peers.
    #[error("it is longer than {} MiB", CONTENT_MAX >> 20)]
    TooLong,
    /// It begins as none of weft's.
    #[error("it has no header of a state file")]
    NoHeader,
    /// Another weft has written it.
    #[error("it is of version {0}, and this weft reads version {VERSION}")]
    Version(String),
    /// It was cut off, or something was added.
    #[error("it holds {found} bytes where its header says {said}")]
    Length {
        /// By the header.
        said: usize,
        /// There are.
        found: usize,
    },
    /// It was altered.
    #[error("its checksum is wrong")]
    Checksum,
}

/// The content of the file at `path`; `None` if there is no file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StateFileError> {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(StateFileError::NotRegular);
        }
        Err(error) => return Err(error.into()),
    };
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(StateFileError::NotRegular);
    }
    if found.uid() != rustix::process::geteuid().as_raw() {
        return Err(StateFileError::Foreign(found.uid()));
    }
    if found.mode() & OTHERS_WRITE != 0 {
        return Err(StateFileError::Open(found.mode() & 0o7777));
    }
    let most = HEADER_MAX + CONTENT_MAX;
    if found.len() > most as u64 {
        return Err(StateFileError::TooLong);
    }
    let mut bytes = Vec::with_capacity(found.len() as usize);
    file.by_ref()
        .take(most as u64 + 1)
        .read_to_end(&mut bytes)?;
    let start = content_at(&bytes)?;
    bytes.drain(..start);
    Ok(Some(bytes))
}

/// Neither a link is followed nor the writer of a pipe waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    File::options()
        .read(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

/// Write `content` to the file at `path`, which only its owner may read from then on.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut bytes = header(content).into_bytes();
    bytes.extend_from_slice(content);
    atomic_file::write(path, &bytes, 0o600)
}

fn header(content: &[u8]) -> String {
    let (len, sum) = (content.len(), crc32fast::hash(content));
    format!("{MAGIC} {VERSION} {len} {sum:08x}\n")
}

/// Where the content of a whole file begins.
pub fn content_at(bytes: &[u8]) -> Result<usize, StateFileError> {
    let head = &bytes[..bytes.len().min(HEADER_MAX)];
    let end = head.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or(StateFileError::NoHeader)?;
    let line = std::str::from_utf8(&head[..end]).map_err(|_| StateFileError::NoHeader)?;
    let words: Vec<&str> = line.split(' ').collect();
    let (len, sum) = match words[..] {
        [MAGIC, VERSION, len, sum] => (len, sum),
        [MAGIC, version, ..] if version != VERSION => {
            return Err(StateFileError::Version(shown(version)));
        }
        _ => return Err(StateFileError::NoHeader),
    };
    let said = len.parse().map_err(|_| StateFileError::NoHeader)?;
    let sum = u32::from_str_radix(sum, 16).map_err(|_| StateFileError::NoHeader)?;
    let content = &bytes[end + 1..];
    let found = content.len();
    if found != said {
        return Err(StateFileError::Length { said, found });
    }
    if crc32fast::hash(content) != sum {
        return Err(StateFileError::Checksum);
    }
    Ok(end + 1)
}

#[cfg(test)]
mod tests;
