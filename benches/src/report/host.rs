//! The machine that measured.

use std::fs;

/// What a figure needs beside it to mean anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Kernel release.
    pub kernel: String,
    /// CPU model, or the architecture where the kernel names no model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: usize,
}

impl Host {
    /// This machine.
    pub fn this() -> Host {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Host {
            kernel: kernel.trim().to_owned(),
            cpu: model(&cpuinfo).unwrap_or(std::env::consts::ARCH).to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

fn model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Host { kernel, cpu, cores } = self;
        write!(f, "Linux {kernel}, {cpu}, {cores} cores")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_is_found_if_there_is_one() {
        let text = "processor\t: 0\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n";
        assert_eq!(model(text), Some("AMD EPYC"));
        assert_eq!(model("processor\t: 0\nBogoMIPS\t: 50.00\n"), None);
    }
}
