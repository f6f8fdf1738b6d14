//! CPU time of the machine and of single processes, from `/proc`.

use std::fs;
use weft_lab::{Error, Result};

/// What the kernel counts CPU time in, for user space on every architecture (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU time of all cores together, in core-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTimes {
    /// User mode, niced included.
    pub user: f64,
    /// Kernel mode outside interrupts.
    pub system: f64,
    /// Hard and soft interrupts.
    pub softirq: f64,
    /// Nothing to do, waiting for I/O included (io_uring waits count as that).
    pub idle: f64,
}

impl CpuTimes {
    /// Since boot.
    pub fn now() -> Result<CpuTimes> {
        let text = fs::read_to_string("/proc/stat").map_err(|e| Error::because("/proc/stat", e))?;
        CpuTimes::parse(&text).ok_or_else(|| Error::new("/proc/stat has no line `cpu`"))
    }

    /// The line `cpu  user nice system idle iowait irq softirq ...`.
    fn parse(text: &str) -> Option<CpuTimes> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<f64> = line
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let [user, nice, system, idle, iowait, irq, softirq, ..] = ticks[..] else {
            return None;
        };
        Some(CpuTimes {
            user: (user + nice) / TICKS_PER_SECOND,
            system: system / TICKS_PER_SECOND,
            softirq: (irq + softirq) / TICKS_PER_SECOND,
            idle: (idle + iowait) / TICKS_PER_SECOND,
        })
    }

    /// What was spent after `start`.
    pub fn since(&self, start: &CpuTimes) -> CpuTimes {
        CpuTimes {
            user: self.user - start.user,
            system: self.system - start.system,
            softirq: self.softirq - start.softirq,
            idle: self.idle - start.idle,
        }
    }

    /// All but idle.
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.softirq
    }
}

/// CPU time of some processes together, in core-seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessTimes {
    /// User mode.
    pub user: f64,
    /// Kernel mode on the processes' behalf.
    pub system: f64,
}

impl ProcessTimes {
    /// Since their starts, all threads.
    pub fn of(pids: &[u32]) -> Result<ProcessTimes> {
        let mut sum = ProcessTimes::default();
        for pid in pids {
            let path = format!("/proc/{pid}/stat");
            let text = fs::read_to_string(&path).map_err(|e| Error::because(&path, e))?;
            let times = ProcessTimes::parse(&text);
            sum = sum.plus(&times.ok_or_else(|| Error::because(&path, "no CPU times in it"))?);
        }
        Ok(sum)
    }

    /// Fields 14 and 15 of `/proc/<pid>/stat`, the 12th and 13th after the parenthesised name.
    fn parse(text: &str) -> Option<ProcessTimes> {
        let mut words = text.rsplit(')').next()?.split_whitespace().skip(11);
        let mut seconds = || Some(words.next()?.parse::<f64>().ok()? / TICKS_PER_SECOND);
        Some(ProcessTimes {
            user: seconds()?,
            system: seconds()?,
        })
    }

    /// What was spent after `start`.
    pub fn since(&self, start: &ProcessTimes) -> ProcessTimes {
        ProcessTimes {
            user: self.user - start.user,
            system: self.system - start.system,
        }
    }

    /// Both together.
    pub fn plus(&self, other: &ProcessTimes) -> ProcessTimes {
        ProcessTimes {
            user: self.user + other.user,
            system: self.system + other.system,
        }
    }

    /// The part spent in user mode, 0 to 1; `None` when nothing was spent.
    pub fn user_share(&self) -> Option<f64> {
        let sum = self.user + self.system;
        (sum > 0.0).then(|| self.user / sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_times_read() {
        let text = "cpu  100 20 300 4000 50 6 70 0 0 0\ncpu0 1 2 3 4 5 6 7 0 0 0\n";
        let times = CpuTimes::parse(text).unwrap();
        assert_eq!(times.user, 1.2);
        assert_eq!(times.system, 3.0);
        assert_eq!(times.softirq, 0.76);
        assert_eq!(times.idle, 40.5);
        assert_eq!(CpuTimes::parse("cpu  1 2\n"), None);
        assert_eq!(CpuTimes::parse("intr 1\n"), None);
    }

    #[test]
    fn process_times_read_past_odd_names() {
        let text = "12 (a ) b) S 1 12 12 0 -1 4 9 0 0 0 250 750 0 0 20 0 1 0 99 1 2";
        let times = ProcessTimes::parse(text).unwrap();
        assert_eq!((times.user, times.system), (2.5, 7.5));
        assert_eq!(times.user_share(), Some(0.25));
        assert_eq!(ProcessTimes::default().user_share(), None);
        assert_eq!(ProcessTimes::parse("12 (a) S 1"), None);
    }

    #[test]
    fn own_times_grow() {
        let start = ProcessTimes::of(&[std::process::id()]).unwrap();
        let end = std::time::Instant::now() + std::time::Duration::from_millis(60);
        while std::time::Instant::now() < end {}
        let spent = ProcessTimes::of(&[std::process::id()])
            .unwrap()
            .since(&start);
        assert!(spent.user + spent.system > 0.0);
        assert!(CpuTimes::now().unwrap().busy() > 0.0);
    }
}
