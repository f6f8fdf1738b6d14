//! What of a host can be read and set: one value each.

use crate::cpus::CpuSet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One value of the host. Ordered as they have to be changed: what makes queues, and what some
/// drivers reset with them, before what belongs to a queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Knob {
    /// Queues of a device that both receive and send (`ethtool -L DEVICE combined`).
    Channels {
        /// Name of the network device.
        device: String,
    },
    /// Slots of the rings of a device (`ethtool -G DEVICE rx`).
    Ring {
        /// Name of the network device.
        device: String,
        /// Receive rings, or else send rings.
        receive: bool,
    },
    /// An offload of a device, `on` or `off` (`ethtool -K DEVICE FEATURE`).
    Feature {
        /// Name of the network device.
        device: String,
        /// As `ethtool -k` calls it.
        feature: String,
    },
    /// The CPUs that a receive queue spreads packets over (`rps_cpus`).
    Rps {
        /// Name of the network device.
        device: String,
        /// Number of the queue.
        queue: u32,
    },
    /// Flows that a receive queue remembers the CPU of (`rps_flow_cnt`).
    RpsFlows {
        /// Name of the network device.
        device: String,
        /// Number of the queue.
        queue: u32,
    },
    /// The CPUs that send by a queue (`xps_cpus`).
    Xps {
        /// Name of the network device.
        device: String,
        /// Number of the queue.
        queue: u32,
    },
    /// The CPUs that an interrupt may come to (`smp_affinity_list`).
    Irq {
        /// Its number.
        number: u32,
    },
    /// How the frequency of a CPU is chosen (`scaling_governor`).
    Governor {
        /// Its number.
        cpu: u32,
    },
    /// A number under `/proc/sys`, by its name with dots.
    Sysctl {
        /// Such as `net.core.netdev_max_backlog`.
        name: String,
    },
}

/// Why a knob has not been read or set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KnobError {
    /// There is no such file, device, queue or offload here.
    #[error("it is not here")]
    Gone,
    /// The kernel, the driver or a sandbox does not let it be set, or read. One line.
    #[error("{0}")]
    Refused(String),
}

/// What can read and set knobs.
pub trait Knobs {
    /// The value as people write it: CPUs as a list, `on` or `off`, a number.
    fn read(&self, knob: &Knob) -> Result<String, KnobError>;

    /// Set it. What the kernel makes of it is for [`Knobs::read`] to say.
    fn write(&self, knob: &Knob, value: &str) -> Result<(), KnobError>;
}

/// How the file of a knob spells its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// CPUs as a mask.
    Mask,
    /// CPUs as a list.
    List,
    /// As it is.
    Plain,
}

impl Knob {
    /// The sysctl of this name.
    pub fn sysctl(name: &str) -> Knob {
        Knob::Sysctl {
            name: name.to_owned(),
        }
    }

    /// The file that holds the value, without its leading slash; none for what only ethtool knows.
    pub(crate) fn file(&self) -> Option<(String, Form)> {
        let queue = |device: &str, queue: String, name: &str| {
            format!("sys/class/net/{device}/queues/{queue}/{name}")
        };
        Some(match self {
            Knob::Channels { .. } | Knob::Ring { .. } | Knob::Feature { .. } => return None,
            Knob::Rps { device, queue: n } => {
                (queue(device, format!("rx-{n}"), "rps_cpus"), Form::Mask)
            }
            Knob::RpsFlows { device, queue: n } => (
                queue(device, format!("rx-{n}"), "rps_flow_cnt"),
                Form::Plain,
            ),
            Knob::Xps { device, queue: n } => {
                (queue(device, format!("tx-{n}"), "xps_cpus"), Form::Mask)
            }
            Knob::Irq { number } => (format!("proc/irq/{number}/smp_affinity_list"), Form::List),
            Knob::Governor { cpu } => (
                format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"),
                Form::Plain,
            ),
            Knob::Sysctl { name } => (format!("proc/sys/{}", name.replace('.', "/")), Form::Plain),
        })
    }

    /// Whether all names in it are single names of files, so that no journal leads elsewhere.
    pub(crate) fn is_sound(&self) -> bool {
        let single = |name: &str| {
            !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0', '\n'])
        };
        match self {
            Knob::Channels { device }
            | Knob::Ring { device, .. }
            | Knob::Rps { device, .. }
            | Knob::RpsFlows { device, .. }
            | Knob::Xps { device, .. } => single(device),
            Knob::Feature { device, feature } => single(device) && single(feature),
            Knob::Sysctl { name } => name.split('.').all(single),
            Knob::Irq { .. } | Knob::Governor { .. } => true,
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Knob::Channels { device } => write!(f, "{device} combined queues"),
            Knob::Ring { device, receive } => {
                write!(f, "{device} {} ring", if *receive { "rx" } else { "tx" })
            }
            Knob::Feature { device, feature } => write!(f, "{device} {feature}"),
            Knob::Rps { device, queue } => write!(f, "{device} rx-{queue} rps_cpus"),
            Knob::RpsFlows { device, queue } => write!(f, "{device} rx-{queue} rps_flow_cnt"),
            Knob::Xps { device, queue } => write!(f, "{device} tx-{queue} xps_cpus"),
            Knob::Irq { number } => write!(f, "irq {number} smp_affinity_list"),
            Knob::Governor { cpu } => write!(f, "cpu{cpu} scaling_governor"),
            Knob::Sysctl { name } => f.write_str(name),
        }
    }
}

/// A value as it is compared and shown: CPUs as a list whatever the file's form, numbers
/// without blanks.
pub(crate) fn told(form: Form, text: &str) -> Option<String> {
    match form {
        Form::Mask => CpuSet::from_mask(text).ok().map(|cpus| cpus.to_string()),
        Form::List => text.parse::<CpuSet>().ok().map(|cpus| cpus.to_string()),
        Form::Plain => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
    }
}

/// The same as the file takes it.
pub(crate) fn spelt(form: Form, value: &str) -> Option<String> {
    match form {
        Form::Mask => value.parse::<CpuSet>().ok().map(|cpus| cpus.to_mask()),
        Form::List | Form::Plain => Some(value.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knob_of_a_journal_leads_to_no_other_file() {
        let eth = |device: &str| Knob::Rps {
            device: device.to_owned(),
            queue: 0,
        };
        assert!(eth("eth0").is_sound());
        assert!(Knob::sysctl("net.core.rmem_max").is_sound());
        for device in ["", ".", "..", "../../x", "a/b"] {
            assert!(!eth(device).is_sound(), "{device}");
        }
        assert!(!Knob::sysctl("net/../../etc").is_sound());
        assert!(!Knob::sysctl("net..core").is_sound());
    }

    #[test]
    fn masks_are_told_as_lists() {
        assert_eq!(told(Form::Mask, "00000000,0000000f\n").unwrap(), "0-3");
        assert_eq!(spelt(Form::Mask, "0-3").unwrap(), "0000000f");
        assert_eq!(told(Form::Mask, "0\n").unwrap(), "none");
        assert_eq!(told(Form::Plain, "1000\n").unwrap(), "1000");
        assert_eq!(told(Form::Mask, "what"), None);
    }

    #[test]
    fn queues_are_made_before_what_belongs_to_them() {
        let device = "eth0".to_owned();
        let channels = Knob::Channels {
            device: device.clone(),
        };
        assert!(channels < Knob::Rps { device, queue: 0 });
    }
}
