//! Rings, queues and offloads of a device, by the program `ethtool`.
//!
//! Its text is read, not its JSON, which ethtool 6.1 has for offloads alone. The labels that are
//! looked for have been the same since there are these commands.

use crate::knob::{Knob, KnobError};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// How the program is started.
#[derive(Clone, Debug)]
pub(crate) struct Ethtool(OsString);

/// A value, and how much of it there can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) now: u64,
    pub(crate) most: u64,
}

/// An offload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offload {
    pub(crate) on: bool,
    /// The driver does not let it be changed.
    pub(crate) fixed: bool,
}

impl Ethtool {
    pub(crate) fn new() -> Ethtool {
        Ethtool("ethtool".into())
    }

    /// Slots of the receive or send rings; none where the device has none to set.
    pub(crate) fn ring(&self, device: &str, receive: bool) -> Result<Option<Amount>, KnobError> {
        let label = if receive { "RX:" } else { "TX:" };
        self.amount(&["-g", device], label)
    }

    /// Queues that both receive and send; none where the device has no such.
    pub(crate) fn channels(&self, device: &str) -> Result<Option<Amount>, KnobError> {
        self.amount(&["-l", device], "Combined:")
    }

    /// An offload by its name; none where the kernel does not know it.
    pub(crate) fn feature(&self, device: &str, name: &str) -> Result<Option<Offload>, KnobError> {
        Ok(offload(&self.run(&["-k", device])?, name))
    }

    fn amount(&self, words: &[&str; 2], label: &str) -> Result<Option<Amount>, KnobError> {
        match self.run(words) {
            Ok(text) => Ok(amount(&text, label)),
            Err(KnobError::Gone) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn read(&self, knob: &Knob) -> Result<String, KnobError> {
        let number = |amount: Option<Amount>| amount.map(|amount| amount.now.to_string());
        let value = match knob {
            Knob::Ring { device, receive } => number(self.ring(device, *receive)?),
            Knob::Channels { device } => number(self.channels(device)?),
            Knob::Feature { device, feature } => {
                let state = |offload: Offload| if offload.on { "on" } else { "off" };
                self.feature(device, feature)?.map(state).map(str::to_owned)
            }
            _ => None,
        };
        value.ok_or(KnobError::Gone)
    }

    pub(crate) fn write(&self, knob: &Knob, value: &str) -> Result<(), KnobError> {
        let side = |receive: &bool| if *receive { "rx" } else { "tx" };
        let words = match knob {
            Knob::Ring { device, receive } => ["-G", device, side(receive), value],
            Knob::Channels { device } => ["-L", device, "combined", value],
            Knob::Feature { device, feature } => ["-K", device, feature, value],
            _ => return Err(KnobError::Gone),
        };
        self.run(&words).map(drop)
    }

    fn run(&self, words: &[&str]) -> Result<String, KnobError> {
        let mut command = Command::new(&self.0);
        command.args(words).stdin(Stdio::null());
        // Labels and reasons in English.
        let output = command.env("LC_ALL", "C").output().map_err(|error| {
            let reason = match error.kind() {
                std::io::ErrorKind::NotFound => "it is not installed".to_owned(),
                _ => error.to_string(),
            };
            KnobError::Refused(format!("ethtool: {reason}"))
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let said: Vec<&str> = said.lines().map(str::trim).collect();
        let said = said.join("; ");
        match said.contains("not supported") || said.contains("No such device") {
            true => Err(KnobError::Gone),
            false => Err(KnobError::Refused(format!(
                "ethtool {}: {said}",
                words.join(" ")
            ))),
        }
    }
}

/// The numbers behind a label, in the part of maxima and in that of what is set.
fn amount(text: &str, label: &str) -> Option<Amount> {
    let (before, now) = text.split_once("Current hardware settings:")?;
    let (_, most) = before.split_once("Pre-set maximums:")?;
    let of = |part: &str| {
        let line = part
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line?.trim().parse().ok()
    };
    Some(Amount {
        now: of(now)?,
        most: of(most)?,
    })
}

/// A line such as `generic-receive-offload: on [fixed]`.
fn offload(text: &str, name: &str) -> Option<Offload> {
    text.lines().find_map(|line| {
        let (found, rest) = line.trim().split_once(':')?;
        let mut words = rest.split_whitespace();
        let on = match words.next()? {
            "on" => true,
            "off" => false,
            _ => return None,
        };
        let fixed = words.any(|word| word == "[fixed]");
        (found == name).then_some(Offload { on, fixed })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_and_queues_are_read() {
        let text = "Ring parameters for eth0:\nPre-set maximums:\nRX:\t\t4096\nRX Mini:\tn/a\n\
                    TX:\t\t2048\nCurrent hardware settings:\nRX:\t\t512\nRX Mini:\tn/a\nTX:\t\t256\n";
        let of = |now, most| Some(Amount { now, most });
        assert_eq!(amount(text, "RX:"), of(512, 4096));
        assert_eq!(amount(text, "TX:"), of(256, 2048));
        let text = "Channel parameters for veth0:\nPre-set maximums:\nRX:\t\t2\nCombined:\tn/a\n\
                    Current hardware settings:\nRX:\t\t2\nCombined:\tn/a\n";
        assert_eq!(amount(text, "Combined:"), None);
        assert_eq!(amount("", "RX:"), None);
    }

    #[test]
    fn offloads_are_read() {
        let text = "Features for eth0:\nrx-checksumming: on\ngeneric-receive-offload: off\n\
                    \ttx-udp-segmentation: off [fixed]\nrx-gro-hw: off [requested on]\n";
        let of = |on, fixed| Some(Offload { on, fixed });
        assert_eq!(offload(text, "generic-receive-offload"), of(false, false));
        assert_eq!(offload(text, "tx-udp-segmentation"), of(false, true));
        assert_eq!(offload(text, "rx-gro-hw"), of(false, false));
        assert_eq!(offload(text, "rx-gro-list"), None);
    }

    #[test]
    fn a_missing_program_is_told() {
        let ethtool = Ethtool("/nonexistent/ethtool".into());
        let error = ethtool.channels("lo").unwrap_err();
        assert_eq!(error.to_string(), "ethtool: it is not installed");
    }
}
