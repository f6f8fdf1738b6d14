//! What the log says of the workers: two lines of what they tell, and what the kernel does not grant.

use super::TunnelWorkers;
use std::fmt::Write;
use weft_dataplane::caps::{Cap, Grant};
use weft_dataplane::stats::{Count, DropReason, WorkerStats};

/// Peers named in the line of counters.
const LOSSES_NAMED: usize = 32;

impl TunnelWorkers {
    /// All non-zero counters and drop reasons of `device` on one line, the peers that lost
    /// most frames on the way out, and the capabilities that the kernel does not grant in full.
    ///
    /// `fast_path` is what the fast path has counted, of packets that the workers did not see.
    pub(in crate::backend::tunnel) fn counters(
        &self,
        device: &str,
        fast_path: &WorkerStats,
    ) -> String {
        let told = self.status(fast_path, LOSSES_NAMED);
        let mut line = format!("counters: device={device}");
        let mut say = |name: &str, number: u64| {
            if number != 0 {
                let _ = write!(line, " {name}={number}");
            }
        };
        for name in Count::ALL.iter().map(|count| count.name()) {
            say(name, told.counters[name]);
        }
        for name in DropReason::ALL.iter().map(|reason| reason.name()) {
            say(&format!("drop_{name}"), told.drops[name]);
        }
        for loss in &told.lost_to {
            say(&format!("lost_to[{}]", loss.peer), loss.frames);
        }
        let named: u64 = told.lost_to.iter().map(|loss| loss.frames).sum();
        say("lost_to[others]", told.lost_frames.saturating_sub(named));
        let fallen = |cap: &Cap| self.dataplane.common.grant(*cap).is_fallen();
        for cap in Cap::ALL.into_iter().filter(fallen) {
            say(&format!("fallen[{}]", cap.name()), 1);
        }
        line
    }

    /// What of this kernel is in use for `device`, on one line.
    pub(in crate::backend::tunnel) fn capabilities(&self, device: &str, fast_path: &str) -> String {
        let told = self.status(&WorkerStats::default(), 0);
        let cpus = told.cpus.as_deref().unwrap_or("none");
        let mut line = format!(
            "capabilities: device={device} engine={} cpus={cpus}",
            told.engine
        );
        // Of io_uring the engine tells.
        for cap in Cap::ALL.into_iter().filter(|cap| *cap != Cap::IoUring) {
            let _ = write!(line, " {}={}", cap.name(), told.capabilities[cap.name()]);
        }
        let gso = &told.tunnel_gso;
        let _ = write!(
            line,
            " tunnel_gso={} tunnel_gso_open={} tunnel_gso_blocked={} fast_path={fast_path} downgrades={}",
            gso.state,
            gso.open,
            gso.blocked,
            told.counters[Count::Downgrades.name()],
        );
        line
    }
}

/// What it means that a capability is not granted, or not as a whole, with its code.
pub(super) fn fall(cap: Cap, grant: Grant) -> Option<(&'static str, &'static str)> {
    Some(match (cap, grant) {
        // Logged with the reason, where it is refused.
        (Cap::IoUring, _) => return None,
        (Cap::Tso, _) => (
            "W0517",
            "the kernel lets the TUN device have no TCP super-packets: pods send single packets (tso=refused)",
        ),
        (Cap::Uso, _) => (
            "W0517",
            "the kernel lets the TUN device have no UDP super-packets, which needs Linux 6.2: pods send single packets (uso=refused)",
        ),
        (Cap::UdpGso, Grant::Limited) => (
            "W0516",
            "the kernel refused a UDP train: where it did, shorter ones or single datagrams are sent for a minute or for good",
        ),
        (Cap::UdpGso, _) => (
            "W0517",
            "the kernel takes no UDP trains, which needs Linux 4.18: sending single datagrams (udp_gso=refused)",
        ),
        (Cap::UdpGro, _) => (
            "W0517",
            "the kernel merges no received datagrams into trains, which needs Linux 5.0: receiving them one by one (udp_gro=refused)",
        ),
        (Cap::MergedWrites, _) => (
            "W0518",
            "the kernel refuses a super-packet on the TUN device: writing single packets, or shorter ones, for a while",
        ),
        (Cap::Steering, _) => (
            "W0517",
            "the kernel takes no program that gives each pod its queue of the TUN device, which needs CAP_BPF and Linux 5.2: a pod that floods by many flows costs others packets (steering=refused)",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fall_has_a_line_of_its_own_but_that_of_the_engine_which_has_a_reason() {
        let fallen = [Grant::Limited, Grant::Refused];
        for cap in Cap::ALL.into_iter().filter(|&cap| cap != Cap::IoUring) {
            for grant in fallen {
                let (_, line) = fall(cap, grant).unwrap();
                assert!(
                    line.starts_with("the kernel ") && !line.contains('\n'),
                    "{line}"
                );
            }
        }
        assert_eq!(fallen.map(|grant| fall(Cap::IoUring, grant)), [None; 2]);
    }
}
