//! What the underlay's devices do for us: the three regimes of measurement.

use super::{Namespace, Result};
use std::str::FromStr;

/// What `ethtool -k` calls the features that tell one regime from another.
const TELLING: [&str; 9] = [
    "tx-checksumming",
    "scatter-gather",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "rx-gro-list",
];

/// Offloads of the underlay. veth has them all, which no network card does in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Regime {
    /// veth as it is: super-packets cross whole, nobody segments or sums.
    R1,
    /// A card without tunnel offload: senders segment in software, receivers merge (GRO).
    R2,
    /// No offload at all: software checksums, and nothing is merged.
    R3,
}

impl Regime {
    /// All of them.
    pub const ALL: [Regime; 3] = [Regime::R1, Regime::R2, Regime::R3];

    /// One line for people.
    pub fn describe(self) -> &'static str {
        match self {
            Regime::R1 => "R1: veth as it is, super-packets cross whole",
            Regime::R2 => "R2: no TSO and no tunnel offload, GRO on",
            Regime::R3 => "R3: no offload at all (TSO, checksums, GRO off)",
        }
    }

    /// The `ethtool -K` words for a node's underlay device.
    pub fn features(self) -> Vec<&'static str> {
        let (tx, segmentation, gro) = match self {
            Regime::R1 => ("on", "on", "off"),
            Regime::R2 => ("on", "off", "on"),
            Regime::R3 => ("off", "off", "off"),
        };
        let mut words = vec!["tx", tx, "gro", gro];
        for feature in [
            "tso",
            "tx-udp-segmentation",
            "tx-udp_tnl-segmentation",
            "tx-udp_tnl-csum-segmentation",
        ] {
            words.extend([feature, segmentation]);
        }
        words
    }

    /// Set a device inside `namespace` accordingly. A port of a switch never merges, so that
    /// frames cross it as they came.
    pub(super) fn apply(self, namespace: &Namespace, device: &str, port: bool) -> Result<()> {
        let mut words = vec!["ethtool", "-K", device];
        words.extend(self.features());
        if port {
            words.extend(["gro", "off"]);
        }
        namespace.run(&words).map(drop)
    }
}

/// Names and states (`on`, `off`) of a device's features that matter here, as it says itself.
pub fn features_of(namespace: &Namespace, device: &str) -> Result<Vec<(String, String)>> {
    Ok(telling(&namespace.run(&["ethtool", "-k", device])?))
}

fn telling(text: &str) -> Vec<(String, String)> {
    let lines = text.lines().filter_map(|line| {
        let (name, rest) = line.trim().split_once(':')?;
        // `on [fixed]`: whether it could be changed does not matter.
        let state = rest.split_whitespace().next()?;
        TELLING
            .contains(&name)
            .then(|| (name.to_owned(), state.to_owned()))
    });
    lines.collect()
}

impl std::fmt::Display for Regime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Regime::R1 => "R1",
            Regime::R2 => "R2",
            Regime::R3 => "R3",
        })
    }
}

impl FromStr for Regime {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Regime, String> {
        match text.to_ascii_lowercase().as_str() {
            "r1" => Ok(Regime::R1),
            "r2" => Ok(Regime::R2),
            "r3" => Ok(Regime::R3),
            _ => Err(format!("unknown regime `{text}`: r1, r2 or r3")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for regime in Regime::ALL {
            assert_eq!(regime.to_string().parse(), Ok(regime));
        }
        assert!("r4".parse::<Regime>().unwrap_err().contains("r4"));
    }

    #[test]
    fn telling_features_are_read() {
        let text = "Features for eth0:\nrx-checksumming: on\ntx-checksumming: off\n\
                    \ttx-checksum-ipv4: off [fixed]\ngeneric-receive-offload: on [fixed]\n";
        let pair = |name: &str, state: &str| (name.to_owned(), state.to_owned());
        assert_eq!(
            telling(text),
            [
                pair("tx-checksumming", "off"),
                pair("generic-receive-offload", "on")
            ]
        );
    }
}
