//! What is logged of tunnel GSO.

use std::io;
use std::net::Ipv4Addr;
use tracing::{info, warn};
use weft_dataplane::worker::tunnel_gso::{PeerState, RedirectState, TunnelGsoState};

/// What has been said of tunnel GSO.
pub(super) struct TunnelGsoLog {
    state: TunnelGsoState,
    /// Peers that they do not reach, in order.
    blocked: Vec<Ipv4Addr>,
}

impl TunnelGsoLog {
    /// Nothing but what `state` was at the start.
    pub(super) fn new(state: TunnelGsoState) -> TunnelGsoLog {
        TunnelGsoLog {
            state,
            blocked: Vec::new(),
        }
    }

    /// Say what has changed: as a whole, and for single peers. `checks` are the `rp_filter` that
    /// holds for the TAP and the redirect past it, asked for if there is something to warn of.
    pub(super) fn note(
        &mut self,
        state: TunnelGsoState,
        peers: impl Iterator<Item = (Ipv4Addr, PeerState)>,
        checks: impl FnOnce() -> (Option<u8>, RedirectState),
    ) {
        // To be idle, and to be kept from a peer, changes nothing as a whole.
        let tells = !matches!(state, TunnelGsoState::Untried | TunnelGsoState::Blocked);
        if tells && state != self.state {
            say(state);
            self.state = state;
        }
        let (mut new, mut open) = (Vec::new(), Vec::new());
        for (peer, state) in peers {
            match (state, self.blocked.binary_search(&peer)) {
                (PeerState::Blocked, Err(_)) => new.push(peer),
                (PeerState::Open, Ok(_)) => open.push(peer),
                _ => {}
            }
        }
        if let Some(peers) = names(&mut open) {
            info!("super-packets to {peers} leave whole again");
        }
        if let Some(peers) = names(&mut new) {
            let cause = cause(checks());
            warn!(
                code = "W0519",
                "super-packets to {peers} do not get out whole ({cause}): they are cut before"
            );
        }
        self.blocked
            .retain(|peer| open.binary_search(peer).is_err());
        self.blocked.append(&mut new);
        self.blocked.sort_unstable();
    }
}

fn say(state: TunnelGsoState) {
    match state {
        TunnelGsoState::Off | TunnelGsoState::Untried | TunnelGsoState::Blocked => {}
        TunnelGsoState::InUse => info!("TCP super-packets leave whole"),
        TunnelGsoState::Segmented => {
            info!(
                "the underlay device does not take super-packets: they are cut before they leave"
            );
        }
        TunnelGsoState::Refused => {
            warn!(
                code = "W0520",
                "the kernel refuses whole super-packets, or the packet socket that watches them leave (CAP_NET_RAW), or the underlay device was away: they are cut before they leave"
            )
        }
    }
}

/// The first of `peers`, which are put in order, and how many more there are.
fn names(peers: &mut [Ipv4Addr]) -> Option<String> {
    peers.sort_unstable();
    let (first, others) = peers.split_first()?;
    Some(match others.len() {
        0 => first.to_string(),
        1 => format!("{first} and one more peer"),
        n => format!("{first} and {n} more peers"),
    })
}

/// What stops super-packets, most likely. A strict `rp_filter` does so for all of them.
fn cause((rp_filter, redirect): (Option<u8>, RedirectState)) -> String {
    match (rp_filter, redirect) {
        (Some(1), RedirectState::Refused(errno)) => format!(
            "net.ipv4.conf.all.rp_filter=1 stops them, and BPF, the way around it, which needs Linux 6.6 and CAP_BPF, is refused: {}; rp_filter=2 would not stop them",
            io::Error::from_raw_os_error(errno)
        ),
        (Some(1), RedirectState::Attached) => {
            "what weft sends does not leave the underlay device as it is, and so may not go around net.ipv4.conf.all.rp_filter=1: IPsec, an OUTPUT or POSTROUTING rule of the firewall, or a route that leaves by another device?".to_owned()
        }
        (Some(1), RedirectState::Unneeded) => {
            "net.ipv4.conf.all.rp_filter=1 stops them; rp_filter=2 would not".to_owned()
        }
        _ => "a FORWARD chain of the firewall, or a route that leaves by another device?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    const NONE: fn() -> (Option<u8>, RedirectState) = || (None, RedirectState::Unneeded);

    #[test]
    fn a_peer_is_blocked_until_it_is_seen_open() {
        let [a, b] = [1, 2].map(|n| Ipv4Addr::new(10, 0, 0, n));
        let mut log = TunnelGsoLog::new(TunnelGsoState::Untried);
        let both = [(b, PeerState::Blocked), (a, PeerState::Blocked)];
        log.note(TunnelGsoState::Blocked, both.into_iter(), NONE);
        assert_eq!(log.blocked, [a, b]);
        // Forgotten for want of traffic, and told of no second time.
        log.note(TunnelGsoState::Untried, [].into_iter(), NONE);
        let again = [(a, PeerState::Blocked)];
        log.note(
            TunnelGsoState::Blocked,
            again.into_iter(),
            || unreachable!(),
        );
        let open = [(a, PeerState::Open), (b, PeerState::Untried)];
        log.note(TunnelGsoState::InUse, open.into_iter(), NONE);
        assert_eq!(log.blocked, [b]);
    }

    #[test]
    fn one_line_names_one_peer_whatever_their_number() {
        let mut peers = [3, 1, 2].map(|n| Ipv4Addr::new(10, 0, 0, n));
        assert_eq!(names(&mut []), None);
        assert_eq!(names(&mut peers[..1]).unwrap(), "10.0.0.3");
        assert_eq!(
            names(&mut peers[..2]).unwrap(),
            "10.0.0.1 and one more peer"
        );
        assert_eq!(names(&mut peers).unwrap(), "10.0.0.1 and 2 more peers");
    }

    #[test]
    fn a_strict_rp_filter_is_named_and_what_became_of_the_way_around() {
        let refused = cause((Some(1), RedirectState::Refused(Errno::PERM.raw_os_error())));
        for part in ["rp_filter=1", "BPF", "Operation not permitted"] {
            assert!(refused.contains(part), "{refused}");
        }
        for redirect in [RedirectState::Unneeded, RedirectState::Attached] {
            let strict = cause((Some(1), redirect));
            assert!(strict.contains("rp_filter=1"), "{strict}");
            assert!(!strict.contains("BPF"), "{strict}");
            for other in [None, Some(0), Some(2)] {
                let cause = cause((other, redirect));
                assert!(!cause.contains("rp_filter"), "{other:?}: {cause}");
            }
        }
        assert!(cause((Some(1), RedirectState::Attached)).contains("IPsec"));
    }
}
