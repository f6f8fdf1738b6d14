//! Threads of running programs.

use super::Workers;
use crate::cpus::CpuSet;
use crate::host::Host;

/// What the names of a worker's threads begin with: one of each for a queue, or one for both ways.
const WORKERS: [&str; 2] = ["weft-encap-", "weft-both-"];

/// The other half of a queue's workers.
const DECAP: &str = "weft-decap-";

/// The workers of the agents that run; none if none does. An agent is told by its threads: its
/// process has the name of the link that it was started by, such as `flanneld`.
pub(super) fn running(host: &Host) -> Option<Workers> {
    let mut workers = Workers {
        running: true,
        ..Workers::default()
    };
    let mut cpus: Vec<CpuSet> = Vec::new();
    for process in processes(host) {
        for thread in host.names(&format!("proc/{process}/task")) {
            let own = format!("proc/{process}/task/{thread}");
            let name = host.text(&format!("{own}/comm")).unwrap_or_default();
            let is_first = WORKERS.iter().any(|start| name.starts_with(start));
            if !is_first && !name.starts_with(DECAP) {
                continue;
            }
            workers.queues += usize::from(is_first);
            let status = host.text(&format!("{own}/status")).unwrap_or_default();
            let list = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            cpus.extend(list.and_then(|list| list.parse().ok()));
        }
    }
    // A pinned worker has one.
    let pinned = cpus.iter().filter(|cpus| cpus.len() == 1);
    workers.cpus = pinned.flat_map(CpuSet::iter).collect();
    (workers.queues > 0).then_some(workers)
}

/// Whether a program whose first thread has this name runs.
pub(super) fn runs(host: &Host, program: &str) -> bool {
    processes(host).any(|number| {
        let name = host.text(&format!("proc/{number}/comm"));
        name.as_deref() == Some(program)
    })
}

/// The numbers of all processes.
fn processes(host: &Host) -> impl Iterator<Item = String> {
    let numbers = host.names("proc").into_iter();
    numbers.filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}
