//! Failures that may pass: told once for each reason, and final only when they last.

use super::BackendError;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long something may fail before the node gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong with a device at present.
#[derive(Debug, Default)]
pub(super) struct Trouble(Option<Failing>);

#[derive(Debug)]
struct Failing {
    since: Instant,
    reason: String,
}

impl Trouble {
    /// Take in what a look after `device` came to; the error if there is no use in trying
    /// again.
    pub(super) fn judge(
        &mut self,
        device: &str,
        outcome: Result<(), BackendError>,
        now: Instant,
    ) -> Result<(), BackendError> {
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
            warn!("{device}: {reason}; trying again each second");
        }
        self.0 = Some(Failing { since, reason });
        Ok(())
    }
}

/// Whether somebody has to act first.
fn is_final(error: &BackendError) -> bool {
    matches!(
        error,
        BackendError::Displaced(_) | BackendError::Conflict(_) | BackendError::Worker(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_final_when_it_lasts() {
        let mut trouble = Trouble::default();
        let start = Instant::now();
        let mut judge = |outcome, seconds| {
            let now = start + Duration::from_secs(seconds);
            trouble.judge("flannel.1", outcome, now).is_ok()
        };
        let gone = || Err(BackendError::DeviceGone("flannel.1".to_owned()));
        assert!(judge(gone(), 0) && judge(gone(), 59));
        assert!(judge(Ok(()), 59), "healed");
        assert!(judge(gone(), 61) && judge(gone(), 120));
        assert!(!judge(gone(), 121));
    }

    #[test]
    fn what_cannot_heal_is_final_at_once() {
        for error in [
            BackendError::Displaced("flannel.1".to_owned()),
            BackendError::Worker("a reason".to_owned()),
        ] {
            let outcome = Trouble::default().judge("flannel.1", Err(error), Instant::now());
            assert!(outcome.is_err());
        }
    }
}
