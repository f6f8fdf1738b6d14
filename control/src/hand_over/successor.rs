//! A successor, as the agent that runs sees it.

use super::channel::{Channel, ChannelError};
use super::message::{Claim, Message, Offer};
use crate::text::one_line;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::time::sleep;

/// How long a successor may prepare itself.
const READY_TIME: Duration = Duration::from_secs(10);

/// How long it may be from when nobody carries packets until it does and says so.
const RUNNING_TIME: Duration = Duration::from_secs(2);

/// How long it may go on with what it need not be held up by, such as loading programs.
const FAREWELL_TIME: Duration = Duration::from_secs(10);

/// How long a process that was killed may take to end.
const END_TIME: Duration = Duration::from_secs(5);

/// Pause between two looks whether it has.
const END_PAUSE: Duration = Duration::from_millis(1);

/// A process that is to take over.
#[derive(Debug)]
pub struct Successor {
    claim: Claim,
    channel: Channel,
    pid: i32,
    process: OwnedFd,
    /// When it must be ready.
    deadline: Instant,
}

impl Successor {
    /// The process at the other end of `stream`, which has made this claim. The error says why it
    /// cannot be one.
    pub fn meet(claim: Claim, stream: UnixStream) -> Result<Successor, (Channel, String)> {
        let channel = Channel::new(stream);
        let found = || -> io::Result<Option<(i32, OwnedFd)>> {
            let Some(pid) = channel.process()? else {
                return Ok(None);
            };
            let opened = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            Ok(opened.transpose()?.map(|process| (pid, process)))
        };
        match found() {
            Ok(Some((pid, process))) => Ok(Successor {
                claim,
                channel,
                pid,
                process,
                deadline: Instant::now() + READY_TIME,
            }),
            // It could not be ended if it hung.
            Ok(None) => Err((
                channel,
                "it is in another PID namespace, where it cannot be seen".to_owned(),
            )),
            Err(error) => Err((channel, format!("its process cannot be held: {error}"))),
        }
    }

    /// What it says of itself.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Its process and version, for the log.
    pub fn name(&self) -> String {
        format!("process {}, {}", self.pid, one_line(&self.claim.weft))
    }

    /// Tell it why it comes to nothing.
    pub async fn refuse(self, reason: &str) {
        refuse(&self.channel, reason).await;
    }

    /// Show it what there is, with duplicates of the descriptors.
    pub async fn offer(
        &self,
        offer: Offer,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), ChannelError> {
        self.channel.send(&Message::Offer(offer), descriptors).await
    }

    /// Wait until it is ready. May be dropped and begun anew.
    pub async fn ready(&mut self) -> Result<(), ChannelError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.channel.receive(left).await {
            Ok((Message::Ready {}, _)) => Ok(()),
            Ok((other, _)) => Err(out_of_turn(other)),
            Err(ChannelError::Late(_)) => Err(ChannelError::Late(READY_TIME)),
            Err(error) => Err(error),
        }
    }

    /// Let it, nobody having carried packets since `since`; wait until it runs.
    pub async fn run(&mut self, since: u64) -> Result<(), ChannelError> {
        self.channel.send(&Message::Yours { since }, &[]).await?;
        match self.channel.receive(RUNNING_TIME).await? {
            (Message::Running {}, _) => Ok(()),
            (other, _) => Err(out_of_turn(other)),
        }
    }

    /// Be there for as long as it needs what only this process holds; its process, a descriptor
    /// that can be read when that has ended.
    pub async fn farewell(mut self) -> OwnedFd {
        self.channel.hung_up(FAREWELL_TIME).await;
        self.process
    }

    /// See to it that it runs no longer: no two may read the same queues. Whether it is so.
    pub async fn end(self) -> bool {
        // It fails if it has ended.
        let _ = pidfd_send_signal(&self.process, Signal::KILL);
        let deadline = Instant::now() + END_TIME;
        while !has_ended(&self.process) {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(END_PAUSE).await;
        }
        true
    }
}

/// Whether a process has ended: its descriptor can be read then.
fn has_ended(process: &OwnedFd) -> bool {
    let mut watched = [PollFd::new(process, PollFlags::IN)];
    let readable = poll(&mut watched, Some(&Timespec::default()));
    readable.is_ok_and(|count| count > 0)
}

/// Tell the other side why it comes to nothing. It may have gone.
pub async fn refuse(channel: &Channel, reason: &str) {
    let _ = channel.send(&Message::Error(reason.to_owned()), &[]).await;
}

pub(super) fn out_of_turn(message: Message) -> ChannelError {
    match message {
        Message::Error(reason) => ChannelError::GivenUp(one_line(&reason)),
        other => ChannelError::OutOfTurn(other.name()),
    }
}
