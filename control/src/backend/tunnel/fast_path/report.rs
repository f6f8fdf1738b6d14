//! What is told of the fast path to who asks.

use super::options::FastPathMode;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The fast path of one tunnel as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FastPathReport {
    /// The TUN device.
    pub device: String,
    /// What was asked for.
    pub mode: FastPathMode,
    /// How programs are attached; none if there are none.
    pub hook: Option<String>,
    /// What keeps it from running, or from going on without the agent.
    pub reason: Option<String>,
}

impl fmt::Display for FastPathReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, mode) = (&self.device, self.mode.name());
        let what = self.mode.carried();
        match (&self.hook, self.mode) {
            (Some(hook), _) => write!(
                f,
                "{device}: fast path on ({mode}): eBPF programs ({hook}) carry {what}"
            )?,
            (None, FastPathMode::Off) => {
                write!(f, "{device}: fast path off: the workers carry all packets")?;
            }
            (None, _) => write!(
                f,
                "{device}: no fast path ({mode}): the workers carry all packets"
            )?,
        }
        match &self.reason {
            Some(reason) => write!(f, "; {reason}"),
            None => Ok(()),
        }
    }
}
