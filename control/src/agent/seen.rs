//! Being seen by `-remove`, and leaving it the host while it is at work.

use crate::backend::RELEASE_GRACE;
use crate::host::presence::Presence;
use std::time::{Duration, Instant};
use tracing::{debug, info, warn};

/// Pause between two looks whether the name is free.
const POLL: Duration = Duration::from_millis(50);

/// An agent's name on this host, as far as it could be had.
pub(super) struct Seen {
    name: String,
    presence: Option<Presence>,
}

impl Seen {
    /// Wait for the name for as long as `-remove`, or an agent that has just ended, needs. Another
    /// process may hold it without any right, so that is no reason not to start; a second agent
    /// fails by what it has in common with the first, its port or its device.
    pub(super) async fn wait(name: String) -> Seen {
        let mut seen = Seen {
            name,
            presence: None,
        };
        let deadline = Instant::now() + RELEASE_GRACE;
        while !seen.claim() {
            if Instant::now() >= deadline {
                let name = &seen.name;
                warn!(
                    "another process on this host is the agent for {name}, or removes what one has left: going on, and not seen by -remove until it ends"
                );
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        seen
    }

    /// Have the name if it is free by now.
    pub(super) fn again(&mut self) {
        if self.presence.is_none() && self.claim() && self.presence.is_some() {
            info!("seen by -remove from here on");
        }
    }

    /// Whether nobody else has the name.
    fn claim(&mut self) -> bool {
        match Presence::claim(&self.name) {
            Ok(presence) => self.presence = presence,
            Err(error) => {
                debug!("not to be seen by -remove: {error}");
                return true;
            }
        }
        self.presence.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;

    const NAME: &str = "/coreos.com/network /run/flannel/subnet.env";

    #[test]
    fn a_name_that_is_soon_free_is_waited_for() {
        netns::run(async |_| {
            let removal = Presence::claim(NAME).unwrap();
            let ends = async {
                tokio::time::sleep(POLL).await;
                drop(removal);
            };
            let (seen, ()) = tokio::join!(Seen::wait(NAME.to_owned()), ends);
            assert!(seen.presence.is_some());
        });
    }

    #[test]
    fn a_name_that_another_keeps_is_taken_when_it_is_free() {
        netns::run(async |_| {
            let other = Presence::claim(NAME).unwrap();
            let mut seen = Seen::wait(NAME.to_owned()).await;
            seen.again();
            assert!(seen.presence.is_none());
            drop(other);
            seen.again();
            assert!(Presence::claim(NAME).unwrap().is_none());
        });
    }
}
