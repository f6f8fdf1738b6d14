//! The agent's name on this host: by it `-remove` sees that an agent runs, and an agent that
//! `-remove` is at work.

use crate::host::presence::Presence;
use crate::release;
use tracing::{debug, info, warn};

/// An agent's name on this host, as far as it could be had.
pub(super) struct Registration {
    name: String,
    presence: Option<Presence>,
}

impl Registration {
    /// Wait for the name for as long as `-remove`, or an agent that has just ended, needs. Another
    /// process may hold it without any right, so that is no reason not to start; a second agent
    /// fails by what it has in common with the first, its port or its device.
    pub(super) async fn wait(name: String) -> Registration {
        let mut registration = Registration::vacant(name);
        if !release::wait(release::GRACE, async || registration.claim(), |had| *had).await {
            let name = &registration.name;
            warn!(
                code = "W0105",
                "another process on this host is the agent for {name}, or removes what one has left: going on, and not seen by -remove until it ends"
            );
        }
        registration
    }

    /// A name that is not to be had yet.
    pub(super) fn vacant(name: String) -> Registration {
        Registration {
            name,
            presence: None,
        }
    }

    /// Give the name up.
    pub(super) fn release(&mut self) {
        self.presence = None;
    }

    /// Have the name that a process has just given up, at the latest when it is looked for again.
    pub(super) fn take(&mut self) {
        if !self.claim() {
            debug!("the name {} is not free yet", self.name);
        }
    }

    /// Have the name if it is free by now.
    pub(super) fn retry(&mut self) {
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
                tokio::task::yield_now().await;
                drop(removal);
            };
            let (registration, ()) = tokio::join!(Registration::wait(NAME.to_owned()), ends);
            assert!(registration.presence.is_some());
        });
    }

    #[test]
    fn a_name_that_another_keeps_is_taken_when_it_is_free() {
        netns::run(async |_| {
            let other = Presence::claim(NAME).unwrap();
            let mut registration = Registration::wait(NAME.to_owned()).await;
            registration.retry();
            assert!(registration.presence.is_none());
            drop(other);
            registration.retry();
            assert!(Presence::claim(NAME).unwrap().is_none());
        });
    }
}
