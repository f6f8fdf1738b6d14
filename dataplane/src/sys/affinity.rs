//! Where and how workers are scheduled.
#![allow(unsafe_code)]

use core_affinity::CoreId;
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

/// The highest number that a CPU can have (`CONFIG_NR_CPUS` is 8,192 at most).
const CPU_MAX: usize = 8191;

/// Devices that lie upon one another, such as a VLAN on a bond on a port.
const DEPTH_MAX: usize = 4;

/// CPUs by number, in ascending order, each once. As text `0-3,8`, the kernel's list format (see
/// cpuset(7)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(Vec<usize>);

/// A text that is no list of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list of CPUs such as 0-3,8")]
pub struct NoCpuList;

impl CpuList {
    /// Their numbers.
    pub fn numbers(&self) -> &[usize] {
        &self.0
    }

    /// Whether `cpu` is one of them.
    pub fn has(&self, cpu: usize) -> bool {
        self.0.binary_search(&cpu).is_ok()
    }
}

impl FromIterator<usize> for CpuList {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> CpuList {
        let mut cpus: Vec<usize> = cpus.into_iter().collect();
        cpus.sort_unstable();
        cpus.dedup();
        CpuList(cpus)
    }
}

impl FromStr for CpuList {
    type Err = NoCpuList;

    fn from_str(text: &str) -> Result<CpuList, NoCpuList> {
        let number = |text: &str| -> Result<usize, NoCpuList> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|&cpu| digits && cpu <= CPU_MAX);
            number.ok_or(NoCpuList)
        };
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(NoCpuList);
            }
            cpus.extend(first..=last);
        }
        Ok(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a + 1 == *b);
        for (index, run) in runs.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// The CPUs that this process may use; none when the kernel does not say.
pub fn allowed() -> CpuList {
    // On Linux core_affinity reads sched_getaffinity, so a cpuset is already respected.
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    cores.iter().map(|core| core.id).collect()
}

/// The CPUs of the NUMA node that the network device `name` is attached to, or what it lies upon;
/// none where there is one node only, or the device has none.
pub fn near(name: &str) -> CpuList {
    near_in(Path::new("/sys"), name)
}

fn near_in(sys: &Path, name: &str) -> CpuList {
    let Some(node) = numa_node(&sys.join("class/net").join(name), DEPTH_MAX) else {
        return CpuList::default();
    };
    let list = sys.join(format!("devices/system/node/node{node}/cpulist"));
    let list = fs::read_to_string(list).unwrap_or_default();
    list.trim().parse().unwrap_or_default()
}

fn numa_node(device: &Path, depth: usize) -> Option<usize> {
    let node = fs::read_to_string(device.join("device/numa_node"));
    // -1 where there is one node.
    if let Some(node) = node.ok().and_then(|node| node.trim().parse().ok()) {
        return Some(node);
    }
    let depth = depth.checked_sub(1)?;
    let mut entries = fs::read_dir(device).ok()?.flatten();
    entries.find_map(|entry| {
        let is_lower = entry.file_name().to_string_lossy().starts_with("lower_");
        is_lower.then(|| numa_node(&entry.path(), depth)).flatten()
    })
}

/// Pin the calling thread to `cpu`; `false` when the kernel refused.
pub fn pin(cpu: usize) -> bool {
    core_affinity::set_for_current(CoreId { id: cpu })
}

/// Make the calling thread one that does not preempt others when it wakes (`SCHED_BATCH`).
///
/// A worker that preempts whoever just made it runnable finds one packet; one that waits for
/// its turn finds several, and a batch of them costs little more than one. On an idle core
/// nothing changes. `false` when the kernel refused, which does no harm.
pub fn schedule_as_batch() -> bool {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameters, which outlive the call; 0 is this thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written_as_the_kernel_does() {
        for (text, cpus, shown) in [
            ("0", &[0][..], "0"),
            ("0-3,8", &[0, 1, 2, 3, 8], "0-3,8"),
            ("8,0-2,1,3", &[0, 1, 2, 3, 8], "0-3,8"),
            ("5-5,7", &[5, 7], "5,7"),
        ] {
            let list: CpuList = text.parse().unwrap();
            assert_eq!(list.numbers(), cpus, "{text}");
            assert_eq!(list.to_string(), shown);
        }
        for text in [
            "", ",", "0,", "a", "3-1", "0-", "-3", "+1", "0--3", "0 1", "0-3:2", "8192", "1e3",
        ] {
            assert_eq!(text.parse::<CpuList>(), Err(NoCpuList), "{text:?}");
        }
    }

    #[test]
    fn the_cpus_of_this_process_are_known() {
        assert!(!allowed().numbers().is_empty());
    }

    #[test]
    fn a_device_is_near_the_cpus_of_its_node_or_of_what_it_lies_upon() {
        let sys = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = sys.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("devices/system/node/node0/cpulist", "0-3\n");
        write("devices/system/node/node1/cpulist", "4-7\n");
        write("class/net/eth0/device/numa_node", "1\n");
        write("class/net/eth1/device/numa_node", "-1\n");
        write("class/net/bond0/lower_eth0/device/numa_node", "1\n");
        write("class/net/veth0/mtu", "1500\n");
        let near = |name| near_in(sys.path(), name).to_string();
        assert_eq!(near("eth0"), "4-7");
        assert_eq!(near("bond0"), "4-7");
        for name in ["eth1", "veth0", "none"] {
            assert_eq!(near(name), "", "{name}");
        }
    }
}
