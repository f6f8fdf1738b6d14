//! What an agent knows of its network, as a file without a name that its successor is given.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

/// The longest content, in bytes: more than 100,000 leases.
const CONTENT_MAX: u64 = 64 << 20;

/// A file with this content, which nobody can change any more.
pub fn write(content: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("weft-knowledge", flags)?);
    file.write_all(content)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// The content of such a file; an error if it is none, or too long.
pub fn read(file: OwnedFd) -> io::Result<Vec<u8>> {
    let file = File::from(file);
    let found = file.metadata()?;
    if !found.is_file() || found.len() > CONTENT_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut content = vec![0; found.len() as usize];
    // Not from where whoever shares it has read up to.
    file.read_exact_at(&mut content, 0)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_more_than_once_and_stays_as_it_is() {
        let written = write(b"all that is known").unwrap();
        for _ in 0..2 {
            let content = read(written.try_clone().unwrap()).unwrap();
            assert_eq!(content, b"all that is known");
        }
        let mut file = File::from(written);
        assert!(file.write_all(b"more").is_err());
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn what_is_no_file_of_a_sane_length_is_not_read() {
        let (pipe, _writer) = io::pipe().unwrap();
        assert!(read(pipe.into()).is_err());
        let file = tempfile::tempfile().unwrap();
        file.set_len(CONTENT_MAX + 1).unwrap();
        assert!(read(file.into()).is_err());
    }
}
