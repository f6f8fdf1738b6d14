//! The health of a device: failures that may pass are logged once for each reason, and are final
//! only when they last.

use super::error::TunnelError;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long something may fail before the node gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong with a device at present, if anything is.
#[derive(Debug, Default)]
pub(super) struct Health(Option<Failing>);

#[derive(Debug)]
struct Failing {
    since: Instant,
    reason: String,
}

impl Health {
    /// Take in what a check of `device` came to; the error if there is no use in trying
    /// again.
    pub(super) fn take(
        &mut self,
        device: &str,
        outcome: Result<(), TunnelError>,
        now: Instant,
    ) -> Result<(), TunnelError> {
        let Err(error) = outcome else {
            if self.0.take().is_some() {
                info!("{device} is as it should be again");
            }
            return Ok(());
        };
        let since = self.0.as_ref().map_or(now, |failing| failing.since);
        if is_final(&error) || now.duration_since(since) >= PATIENCE {
            return Err(error);
        }
        let reason = error.to_string();
        if self.0.as_ref().is_none_or(|f| f.reason != reason) {
            warn!(
                code = "W0505",
                "{device}: {reason}; trying again each second"
            );
        }
        self.0 = Some(Failing { since, reason });
        Ok(())
    }
}

/// Whether somebody has to act first.
fn is_final(error: &TunnelError) -> bool {
    matches!(
        error,
        TunnelError::Displaced(_) | TunnelError::Conflict(_) | TunnelError::Worker(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_final_when_it_lasts() {
        let mut health = Health::default();
        let start = Instant::now();
        let mut is_bearable = |outcome, seconds| {
            let now = start + Duration::from_secs(seconds);
            health.take("flannel.1", outcome, now).is_ok()
        };
        let gone = || Err(TunnelError::DeviceGone("flannel.1".to_owned()));
        assert!(is_bearable(gone(), 0) && is_bearable(gone(), 59));
        assert!(is_bearable(Ok(()), 59), "healed");
        assert!(is_bearable(gone(), 61) && is_bearable(gone(), 120));
        assert!(!is_bearable(gone(), 121));
    }

    #[test]
    fn what_cannot_heal_is_final_at_once() {
        for error in [
            TunnelError::Displaced("flannel.1".to_owned()),
            TunnelError::Worker("a reason".to_owned()),
        ] {
            let outcome = Health::default().take("flannel.1", Err(error), Instant::now());
            assert!(outcome.is_err());
        }
    }
}
