//! Messages and descriptors over a stream socket.
//!
//! A message is a line. Descriptors (`SCM_RIGHTS`) come with blanks before it, as many with each
//! as the kernel takes.

use super::message::Message;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::{MaybeUninit, take};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The most descriptors of one message: those of two tunnels with 256 queues each.
const DESCRIPTORS_MAX: usize = 5200;

/// The most that the kernel takes at once (`SCM_MAX_FD`).
const AT_ONCE: usize = 253;

/// The longest message in bytes, with blanks and end.
const LINE_MAX: usize = 64 << 10;

/// Bytes that are read at once.
const READ: usize = 4096;

/// How long the other side may take to read a message.
const SEND_TIME: Duration = Duration::from_secs(2);

/// Why nothing can be said or heard. One line.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The other side has hung up, as it does when its process ends.
    #[error("it has hung up")]
    Ended,
    /// It says nothing.
    #[error("it has said nothing for {} s", .0.as_secs())]
    Late(Duration),
    /// It says too much.
    #[error("it says more than {} KiB at once", LINE_MAX >> 10)]
    TooLong,
    /// It gives too much.
    #[error("it gives more than {DESCRIPTORS_MAX} descriptors at once")]
    TooMany,
    /// The kernel has dropped descriptors.
    #[error("its descriptors do not all fit: too many files are open")]
    Dropped,
    /// It says what cannot be read.
    #[error("what it says cannot be read: {0}")]
    Unreadable(String),
    /// It says something out of turn.
    #[error("it says \"{0}\" out of turn")]
    OutOfTurn(&'static str),
    /// It has given up.
    #[error("{0}")]
    GivenUp(String),
    /// The socket.
    #[error("its connection fails: {0}")]
    Failed(#[from] io::Error),
}

/// One end of the conversation. Dropped, it hangs up.
#[derive(Debug)]
pub struct Channel {
    stream: UnixStream,
    /// What has come and is not read yet.
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Channel {
    /// A channel over a stream of which nobody else reads.
    pub fn new(stream: UnixStream) -> Channel {
        Channel {
            stream,
            bytes: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    /// Say something, and give duplicates of these descriptors with it.
    pub async fn send(
        &self,
        message: &Message,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        let sent = timeout(SEND_TIME, async {
            for some in descriptors.chunks(AT_ONCE) {
                self.write(b" ", some).await?;
            }
            let line = message.line();
            let mut rest = line.as_bytes();
            while !rest.is_empty() {
                let written = self.write(rest, &[]).await?;
                rest = &rest[written..];
            }
            Ok(())
        });
        sent.await.map_err(|_| ChannelError::Late(SEND_TIME))?
    }

    async fn write(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let write = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            let bytes = [IoSlice::new(bytes)];
            Ok(sendmsg(
                &self.stream,
                &bytes,
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        };
        self.stream.async_io(Interest::WRITABLE, write).await
    }

    /// Hear the next message, with the descriptors that are given with it; for `time` at most.
    pub async fn receive(
        &mut self,
        time: Duration,
    ) -> Result<(Message, Vec<OwnedFd>), ChannelError> {
        let heard = timeout(time, async {
            loop {
                if let Some(end) = self.bytes.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.bytes.drain(..=end).collect();
                    let message = Message::read(&line).map_err(ChannelError::Unreadable)?;
                    return Ok((message, take(&mut self.descriptors)));
                }
                if self.bytes.len() >= LINE_MAX {
                    return Err(ChannelError::TooLong);
                }
                self.read().await?;
            }
        });
        heard.await.map_err(|_| ChannelError::Late(time))?
    }

    /// Wait until the other side hangs up; for `time` at most.
    pub async fn hung_up(&mut self, time: Duration) {
        let ended = async { while self.read().await.is_ok() && self.bytes.len() < LINE_MAX {} };
        let _ = timeout(time, ended).await;
    }

    async fn read(&mut self) -> Result<(), ChannelError> {
        let mut bytes = [0; READ];
        let read = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let read = recvmsg(&self.stream, &mut bytes, &mut control, flags)?;
            let mut descriptors = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(given) = message {
                    descriptors.extend(given);
                }
            }
            Ok((read.bytes, read.flags, descriptors))
        };
        let (count, flags, given) = self.stream.async_io(Interest::READABLE, read).await?;
        if flags.contains(ReturnFlags::CTRUNC) {
            return Err(ChannelError::Dropped);
        }
        if self.descriptors.len() + given.len() > DESCRIPTORS_MAX {
            return Err(ChannelError::TooMany);
        }
        self.descriptors.extend(given);
        self.bytes.extend_from_slice(&bytes[..count]);
        match count {
            0 => Err(ChannelError::Ended),
            _ => Ok(()),
        }
    }

    /// The process at the other end, as the kernel tells it.
    pub fn process(&self) -> io::Result<Option<i32>> {
        Ok(self.stream.peer_cred()?.pid().filter(|pid| *pid > 0))
    }
}

#[cfg(test)]
mod tests;
