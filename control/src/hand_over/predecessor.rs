//! The agent that runs, as its successor sees it.

use super::channel::{Channel, ChannelError};
use super::message::{Message, Offer};
use super::successor::out_of_turn;
use crate::text::one_line;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::net::UnixStream;

/// How long an agent may take to answer; one that waits for its lease answers nothing.
const OFFER_TIME: Duration = Duration::from_secs(5);

/// How long it may take to stop: its state file may be on a slow disk.
const YOURS_TIME: Duration = Duration::from_secs(10);

/// The process that runs.
#[derive(Debug)]
pub struct Predecessor {
    channel: Channel,
    pid: i32,
    weft: String,
}

/// Why it hands nothing over. One line.
#[derive(Debug, thiserror::Error)]
pub enum NoOffer {
    /// It is no agent of root or of this user.
    #[error("it belongs to user {0}")]
    Foreign(u32),
    /// It says so, or nothing.
    #[error(transparent)]
    Channel(#[from] ChannelError),
}

impl Predecessor {
    /// The agent that has just been asked over `stream`, and what it offers, with descriptors.
    pub async fn meet(stream: UnixStream) -> Result<(Predecessor, Offer, Vec<OwnedFd>), NoOffer> {
        let peer = stream.peer_cred().map_err(ChannelError::from)?;
        if ![0, rustix::process::geteuid().as_raw()].contains(&peer.uid()) {
            return Err(NoOffer::Foreign(peer.uid()));
        }
        let mut channel = Channel::new(stream);
        match channel.receive(OFFER_TIME).await? {
            (Message::Offer(offer), descriptors) => {
                let predecessor = Predecessor {
                    channel,
                    pid: peer.pid().unwrap_or_default(),
                    weft: one_line(&offer.weft),
                };
                Ok((predecessor, offer, descriptors))
            }
            (other, _) => Err(out_of_turn(other).into()),
        }
    }

    /// Its process and version, for the log.
    pub fn name(&self) -> String {
        format!("process {}, {}", self.pid, self.weft)
    }

    /// Tell it that it is to go on, and why.
    pub async fn decline(self, reason: &str) {
        super::refuse(&self.channel, reason).await;
    }

    /// Say that everything is prepared, and wait until it has stopped; since when, in nanoseconds
    /// of `CLOCK_MONOTONIC`.
    pub async fn stop(&mut self) -> Result<u64, ChannelError> {
        self.channel.send(&Message::Ready {}, &[]).await?;
        match self.channel.receive(YOURS_TIME).await? {
            (Message::Yours { since }, _) => Ok(since),
            (other, _) => Err(out_of_turn(other)),
        }
    }

    /// Say that packets are carried, and all is had that only one can have. It ends when this is
    /// dropped.
    pub async fn running(&self) -> Result<(), ChannelError> {
        self.channel.send(&Message::Running {}, &[]).await
    }
}
