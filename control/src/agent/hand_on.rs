//! Letting a successor take over, and going on where it does not.

use super::node::Node;
use super::options::AgentOptions;
use super::post::Post;
use super::preparing::{Preparing, claim, decline, monotonic};
use crate::hand_over::{self, Claim, Offer, Successor, Tally, knowledge};
use crate::http::HealthError;
use crate::subnets::{KnowledgeText, SubnetManager};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

impl Node {
    /// Show a process that wants to take over all that there is, unless it is not to.
    pub(super) async fn offer(
        &self,
        (said, stream): (Claim, UnixStream),
        options: &AgentOptions,
        manager: &impl SubnetManager,
        preparing: &mut Preparing,
        tally: &mut Tally,
    ) {
        let successor = match Successor::meet(said, stream) {
            Ok(successor) => successor,
            Err((channel, reason)) => {
                warn!(
                    code = "W0905",
                    "a process that wants to take over is refused: {reason}"
                );
                tally.refused += 1;
                return hand_over::refuse(&channel, &reason).await;
            }
        };
        let refusal = match &preparing.0 {
            Some(other) => Some(format!("{} is about to", other.name())),
            None => successor.claim().refusal(&claim(options)),
        };
        if let Some(reason) = refusal {
            tally.refused += 1;
            return decline(successor, &reason).await;
        }
        info!("{} is about to take over", successor.name());
        match self.show(&successor, manager, tally).await {
            Ok(()) => preparing.0 = Some(successor),
            Err(reason) => {
                tally.refused += 1;
                decline(successor, &reason).await;
            }
        }
    }

    async fn show(
        &self,
        successor: &Successor,
        manager: &impl SubnetManager,
        tally: &Tally,
    ) -> Result<(), String> {
        let written = written(manager.knowledge()).await;
        let knowledge =
            written.map_err(|error| format!("what is known cannot be given: {error}"))?;
        let (tunnels, held): (Vec<_>, Vec<_>) = self.backend.offer()?.into_iter().unzip();
        let given = knowledge.as_ref().map(AsFd::as_fd);
        let given: Vec<BorrowedFd<'_>> = given
            .into_iter()
            .chain(held.into_iter().flatten())
            .collect();
        let offer = Offer {
            weft: hand_over::WEFT.to_owned(),
            knowledge: knowledge.is_some(),
            tunnels,
            tally: tally.clone(),
        };
        let offered = successor.offer(offer, &given).await;
        offered.map_err(|error| error.to_string())
    }

    /// Stop, and let a successor that is ready carry the packets; its process if it does. If not,
    /// this node goes on.
    pub(super) async fn hand_on(
        &mut self,
        mut successor: Successor,
        options: &AgentOptions,
        manager: &impl SubnetManager,
        post: &mut Post,
    ) -> Option<OwnedFd> {
        let name = successor.name();
        // What packets do not wait for comes first.
        manager.leave_disk(true).await;
        post.release().await;
        self.backend.make_room();
        let since = monotonic();
        self.backend.pause();
        match successor.run(since).await {
            Ok(()) => {
                info!("handed over to {name}");
                return Some(successor.farewell().await);
            }
            Err(reason) => warn!(
                code = "W0907",
                "{name} has not taken over: {reason}; this one goes on"
            ),
        }
        post.tally.refused += 1;
        if !successor.end().await {
            error!(
                code = "W0908",
                "{name} does not end: packets may be lost until it does"
            );
        }
        self.backend.resume();
        if let Err(error) = post.take(options).await {
            warn!(code = HealthError::CODE, "{error}");
        }
        manager.leave_disk(false).await;
        None
    }
}

/// A file with what is known. For thousands of nodes it takes longer than the thread of all else
/// may.
async fn written(known: Option<KnowledgeText>) -> io::Result<Option<OwnedFd>> {
    let Some(known) = known else {
        return Ok(None);
    };
    let written = spawn_blocking(move || knowledge::write(&known())).await;
    written.map_err(io::Error::other)?.map(Some)
}
