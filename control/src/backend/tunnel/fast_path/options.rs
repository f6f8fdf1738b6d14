//! What can be chosen of the fast path.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;
use weft_dataplane::fastpath::Hook;

/// How long the programs believe their table without an agent, by default.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Which packets the fast path carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FastPathMode {
    /// Those that are cheaper in the kernel.
    #[default]
    Auto,
    /// All that it can.
    On,
    /// None.
    Off,
}

impl FastPathMode {
    /// As it is written in flags and logs.
    pub fn name(self) -> &'static str {
        match self {
            FastPathMode::Auto => "auto",
            FastPathMode::On => "on",
            FastPathMode::Off => "off",
        }
    }

    /// What the programs carry, for people.
    pub(super) fn carried(self) -> &'static str {
        match self {
            FastPathMode::On => "all packets that they can",
            FastPathMode::Auto | FastPathMode::Off => "packets that are cheaper in the kernel",
        }
    }
}

/// Settings of the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastPathOptions {
    /// Which packets it carries.
    pub mode: FastPathMode,
    /// How long it goes on without an agent.
    pub lifetime: Duration,
    /// Where the BPF file system is mounted.
    pub bpffs: PathBuf,
    /// How programs are attached; `None`: as the kernel has it.
    pub hook: Option<Hook>,
    /// Whether TCP super-packets go in the workers' trains; `None`: over devices that cut them and
    /// merge what comes.
    pub trains: Option<bool>,
}

impl Default for FastPathOptions {
    fn default() -> FastPathOptions {
        FastPathOptions {
            mode: FastPathMode::Auto,
            lifetime: LIFETIME,
            bpffs: "/sys/fs/bpf".into(),
            hook: None,
            trains: None,
        }
    }
}
