//! Receive packet steering: which cores take what a device receives.

use std::{fs, io};

/// More than the kernel can be built for (`NR_CPUS`).
const MAX_CORE: usize = 8191;

/// Let any core take what `device` receives, all of a flow the same one, so that nothing is
/// overtaken (Documentation/networking/scaling.rst).
pub(crate) fn spread(device: &str) -> io::Result<()> {
    let cores = fs::read_to_string("/sys/devices/system/cpu/online")?;
    let file = format!("/sys/class/net/{device}/queues/rx-0/rps_cpus");
    fs::write(file, mask(&cores))
}

/// A list of cores such as `0-3,8` as the mask that sysfs takes, 32 bits a word: `0000010f`.
fn mask(cores: &str) -> String {
    let mut words = vec![0u32];
    for range in cores.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) else {
            continue;
        };
        for core in first..=last.min(MAX_CORE) {
            words.resize(words.len().max(core / 32 + 1), 0);
            words[core / 32] |= 1 << (core % 32);
        }
    }
    let words: Vec<String> = words.iter().rev().map(|w| format!("{w:08x}")).collect();
    words.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_written_as_sysfs_has_them() {
        for (cores, expected) in [
            ("0-1\n", "00000003"),
            ("0", "00000001"),
            ("0-3,8", "0000010f"),
            ("31-32,95", "80000000,00000001,80000000"),
            ("", "00000000"),
        ] {
            assert_eq!(mask(cores), expected, "{cores}");
        }
    }
}
