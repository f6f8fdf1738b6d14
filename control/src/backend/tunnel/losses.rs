//! Logging which peers lose frames on the way out, without a line for each loss.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// At most one line in this time.
const LINE_EVERY: Duration = Duration::from_secs(60);

/// How long nothing more is said of a peer. Queues overflow now and then on every busy node.
const PEER_EVERY: Duration = Duration::from_secs(600);

/// Peers named in one line.
const NAMED: usize = 8;

/// What has been logged of peers that lose frames.
#[derive(Debug, Default)]
pub(super) struct LossReporter {
    last: Option<Instant>,
    /// When each peer was last logged, and how many frames it had lost by then.
    reported: HashMap<IpAddr, (Instant, u64)>,
}

impl LossReporter {
    /// The peers to log at `now`, given how many frames each has lost so far; none if
    /// nothing new is worth a line.
    pub(super) fn take(&mut self, mut losses: Vec<(IpAddr, u64)>, now: Instant) -> Option<String> {
        if self.last.is_some_and(|last| now - last < LINE_EVERY) {
            return None;
        }
        losses.retain(|(peer, frames)| match self.reported.get(peer) {
            Some((at, before)) => frames > before && now.duration_since(*at) >= PEER_EVERY,
            None => true,
        });
        if losses.is_empty() {
            return None;
        }
        losses.sort_by_key(|&(peer, frames)| (std::cmp::Reverse(frames), peer));
        // The others have their turn in the next line.
        losses.truncate(NAMED);
        self.last = Some(now);
        for &(peer, frames) in &losses {
            self.reported.insert(peer, (now, frames));
        }
        let peers = losses
            .iter()
            .map(|(peer, frames)| format!("{peer} ({frames})"));
        Some(peers.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_told_of_at_once_and_then_seldom() {
        let mut reporter = LossReporter::default();
        let start = Instant::now();
        let mut take = |seconds, losses: &[(u8, u64)]| {
            let losses = losses
                .iter()
                .map(|&(n, frames)| ([10, 0, 0, n].into(), frames));
            reporter.take(losses.collect(), start + Duration::from_secs(seconds))
        };
        assert_eq!(take(0, &[]), None);
        assert_eq!(take(1, &[(1, 5)]).unwrap(), "10.0.0.1 (5)");
        assert_eq!(take(2, &[(1, 9), (2, 7)]), None, "one line a minute");
        assert_eq!(take(61, &[(1, 9), (2, 7)]).unwrap(), "10.0.0.2 (7)");
        assert_eq!(take(700, &[(1, 5), (2, 7)]), None, "no more were lost");
        let both = take(701, &[(1, 90), (2, 700)]).unwrap();
        assert_eq!(both, "10.0.0.2 (700), 10.0.0.1 (90)");
    }

    #[test]
    fn a_line_names_few_peers() {
        let losses: Vec<(IpAddr, u64)> = (0..200).map(|n| ([10, 0, 0, n].into(), 1)).collect();
        let (mut reporter, start) = (LossReporter::default(), Instant::now());
        let mut named: Vec<String> = Vec::new();
        for minute in 0..3 {
            let now = start + minute * LINE_EVERY;
            let line = reporter.take(losses.clone(), now).unwrap();
            assert_eq!(line.split(", ").count(), NAMED);
            named.extend(line.split(", ").map(str::to_owned));
        }
        named.sort();
        named.dedup();
        assert_eq!(named.len(), 3 * NAMED, "a line repeats what another said");
    }
}
