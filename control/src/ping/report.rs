//! What was found out, as plain data and for people.

use crate::probe::Summary;
use crate::status::{FastPathStatus, PeerStatus};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::net::IpAddr;

/// A ping. Times are in seconds, lengths in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PingReport {
    /// Of this form.
    pub version: u32,
    /// The agent of the node that has asked.
    pub agent: String,
    /// The node that was asked.
    pub peer: PeerStatus,
    /// The address that was asked.
    pub address: IpAddr,
    /// Length of each packet.
    pub bytes: usize,
    /// The fast path of the tunnel; `None` where there is no tunnel.
    pub fast_path: Option<FastPathStatus>,
    /// Each way.
    pub ways: Vec<WayReport>,
    /// The longest packet that got there and back in one piece, also on the underlay as far as that
    /// answers; `None` if none did.
    pub path_mtu: Option<usize>,
    /// Whether senders of longer ones are told.
    pub path_mtu_told: bool,
    /// The longest packet whose outer one is fragmented on the way, and that gets there.
    pub in_fragments: Option<usize>,
    /// The longest packet that this node's end takes.
    pub device_mtu: usize,
}

/// One way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WayReport {
    /// `fast path`, `userspace` or `kernel`: what requests were led to.
    pub way: String,
    /// Requests.
    pub sent: u32,
    /// Answers.
    pub received: u32,
    /// The share that was not answered, 0 to 1.
    pub loss: f64,
    /// Round trips; `None` without an answer.
    pub times: Option<Summary>,
    /// How many requests left by the fast path, at least and at most, as counters tell.
    pub out_by_fast_path: Option<(u32, u32)>,
    /// How many answers came by it.
    pub in_by_fast_path: Option<(u32, u32)>,
    /// Who refused requests, and why.
    pub refusals: Vec<String>,
    /// Why the kernel of this host let one not out.
    pub unsent: Option<String>,
}

impl PingReport {
    /// Whether each way had an answer.
    pub fn is_answered(&self) -> bool {
        self.ways.iter().all(|way| way.received > 0)
    }
}

impl Display for PingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PeerStatus {
            subnet,
            public,
            device,
        } = &self.peer;
        let over = match device {
            Some(device) => format!("over {device}"),
            None => "by the kernel's route".to_owned(),
        };
        let (address, bytes) = (self.address, self.bytes);
        writeln!(
            f,
            "{address} of {subnet} on {public}, {over}, packets of {bytes} bytes"
        )?;
        self.ways.iter().try_for_each(|way| way.fmt(f))?;
        let by_time = self.ways.len() > 1 && self.ways.last().is_some_and(|way| way.received == 0);
        if by_time && self.ways[0].received > 0 {
            let hint = "asked for the time (ICMP timestamp): a firewall there may drop that alone";
            writeln!(f, "{:<11} {hint}", "")?;
        }
        if let Some(only) = self.only_way() {
            writeln!(f, "{:<11} {only}", "")?;
        }
        let most = self.device_mtu;
        let found = match (self.path_mtu, self.path_mtu_told) {
            (None, _) => "not known: no packet comes back whole".to_owned(),
            (Some(mtu), _) if mtu == most => format!("{mtu}, as the device's"),
            (Some(mtu), _) if self.in_fragments.is_some() => format!(
                "{mtu}: less than the device's, {most}; up to {} in fragments, which costs",
                self.in_fragments.unwrap_or(mtu)
            ),
            (Some(mtu), true) => format!("{mtu}: less than the device's, {most}; senders are told"),
            (Some(mtu), false) => format!(
                "{mtu}: less than the device's, {most}, AND LONGER ONES ARE LOST WITHOUT A WORD"
            ),
        };
        writeln!(f, "{:<11} {found}", "path MTU")
    }
}

impl PingReport {
    /// Why there is one way only, if there could be two.
    fn only_way(&self) -> Option<String> {
        let path = self.fast_path.as_ref().filter(|_| self.ways.len() == 1)?;
        let why = path.reason.as_ref();
        let why = why.map_or(String::new(), |reason| format!(": {reason}"));
        Some(match (path.state.as_str(), path.mode.as_str()) {
            ("on", "on") => "the fast path is `on`: the workers get none of these".to_owned(),
            ("on", _) => "the workers send all packets of this tunnel".to_owned(),
            (state, _) => format!("the fast path is {state}{why}"),
        })
    }
}

impl Display for WayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sent, lost) = (self.sent, self.sent - self.received.min(self.sent));
        let percent = self.loss * 100.0;
        write!(
            f,
            "{:<11} sent {sent}, lost {lost} ({percent:.0}%)",
            self.way
        )?;
        if let Some(times) = self.times {
            write!(
                f,
                ", round trip median {}, p99 {} ({} to {})",
                ms(times.median_seconds),
                ms(times.p99_seconds),
                ms(times.least_seconds),
                ms(times.most_seconds),
            )?;
        }
        if let (Some(out), Some(back)) = (self.out_by_fast_path, self.in_by_fast_path) {
            write!(
                f,
                "; by the fast path {} out, {} back",
                range(out, sent),
                range(back, self.received)
            )?;
        }
        for refusal in &self.refusals {
            write!(f, "; {refusal}")?;
        }
        if let Some(reason) = &self.unsent {
            write!(f, "; not sent: {reason}")?;
        }
        writeln!(f)
    }
}

/// How many of `all`, as far as that is known.
fn range((least, most): (u32, u32), all: u32) -> String {
    match least >= most {
        true => format!("{most} of {all}"),
        false => format!("{least} to {most} of {all}"),
    }
}

fn ms(seconds: f64) -> String {
    format!("{:.3} ms", seconds * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(name: &str, received: u32) -> WayReport {
        let times = vec![std::time::Duration::from_micros(500); received as usize];
        WayReport {
            way: name.to_owned(),
            sent: 4,
            received,
            loss: f64::from(4 - received) / 4.0,
            times: Summary::of(&times),
            out_by_fast_path: Some((4, 4)),
            in_by_fast_path: Some((0, received)),
            refusals: Vec::new(),
            unsent: None,
        }
    }

    fn report(ways: Vec<WayReport>, path_mtu: Option<usize>, told: bool) -> PingReport {
        PingReport {
            version: 1,
            agent: "/coreos.com/network /run/flannel/subnet.env".to_owned(),
            peer: PeerStatus {
                subnet: "10.5.2.0/24".parse().unwrap(),
                public: [10, 0, 0, 2].into(),
                device: Some("flannel.1".to_owned()),
            },
            address: [10, 5, 2, 0].into(),
            bytes: 84,
            fast_path: Some(FastPathStatus {
                mode: "auto".to_owned(),
                state: "refused".to_owned(),
                hook: None,
                reason: Some("no CAP_BPF".to_owned()),
            }),
            ways,
            path_mtu,
            path_mtu_told: told,
            in_fragments: None,
            device_mtu: 1450,
        }
    }

    #[test]
    fn people_read_what_was_found_out() {
        let both = report(
            vec![way("fast path", 4), way("userspace", 3)],
            Some(1450),
            true,
        );
        assert!(both.is_answered());
        let text = both.to_string();
        for part in [
            "10.5.2.0 of 10.5.2.0/24 on 10.0.0.2, over flannel.1, packets of 84 bytes\n",
            "fast path   sent 4, lost 0 (0%), round trip median 0.500 ms",
            "; by the fast path 4 of 4 out, 0 to 4 of 4 back\n",
            "userspace   sent 4, lost 1 (25%)",
            "path MTU    1450, as the device's\n",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        let none = report(vec![way("userspace", 0)], None, false);
        assert!(!none.is_answered());
        let text = none.to_string();
        for part in [
            "lost 4 (100%)",
            "the fast path is refused: no CAP_BPF",
            "not known",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let told = report(Vec::new(), Some(1400), true).to_string();
        assert!(
            told.contains("1400: less than the device's, 1450; senders"),
            "{told}"
        );
        let mut cut = report(Vec::new(), Some(1350), true);
        cut.in_fragments = Some(1450);
        let cut = cut.to_string();
        assert!(
            cut.contains("1350: less than the device's, 1450; up to 1450 in"),
            "{cut}"
        );
        let lost = report(Vec::new(), Some(1400), false).to_string();
        assert!(lost.contains("LOST WITHOUT A WORD"), "{lost}");
    }

    #[test]
    fn programs_read_the_same() {
        let report = report(vec![way("userspace", 3)], Some(1450), true);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<PingReport>(&text).unwrap(), report);
    }
}
