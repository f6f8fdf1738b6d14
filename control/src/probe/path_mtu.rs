//! How long a packet may be.

use super::pinger::{Pinger, ProbeError};
use super::round::{Outcome, Patience, Probe, What};
use crate::family::Family;
use std::net::IpAddr;
use std::time::Duration;

/// How often and how long one length is tried.
const PATIENCE: Patience = Patience {
    tries: 2,
    every: Duration::from_millis(300),
};

/// Lengths that are tried at the same time.
const LENGTHS: usize = 16;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The longest packet that was answered, in bytes.
    pub mtu: usize,
    /// Whether longer ones are refused by somebody who says so. Else they are lost without a
    /// word, and TCP finds out late or never.
    pub told: bool,
}

/// The shortest that every path takes.
fn least(family: Family) -> usize {
    match family {
        Family::V4 => 68,
        Family::V6 => 1280,
    }
}

impl Pinger {
    /// The longest IP packet up to `most` bytes that gets to `to` and back in one piece; `None` if
    /// none is answered.
    pub fn path_mtu(
        &mut self,
        from: Option<IpAddr>,
        to: IpAddr,
        most: usize,
    ) -> Result<Option<PathMtu>, ProbeError> {
        let least = least(self.family).min(most);
        let mut ask = |lengths: &[usize]| -> Result<Vec<Outcome>, ProbeError> {
            let probe = |&len: &usize| Probe {
                to,
                from,
                what: What::Echo { len, df: true },
            };
            let probes: Vec<Probe> = lengths.iter().map(probe).collect();
            self.round(&probes, PATIENCE)
        };
        let first = ask(&[most, least])?;
        let told = first[0].too_long();
        if first[0].is_answered() {
            return Ok(Some(PathMtu {
                mtu: most,
                told: true,
            }));
        }
        if !first[1].is_answered() {
            return Ok(None);
        }
        // Whoever refuses knows best, if what fits is answered then.
        if let Some(Some(mtu)) = told
            && (least..most).contains(&(mtu as usize))
            && ask(&[mtu as usize])?[0].is_answered()
        {
            let mtu = mtu as usize;
            return Ok(Some(PathMtu { mtu, told: true }));
        }
        let mut told = told.is_some();
        let (mut fits, mut fails) = (least, most);
        while fails - fits > 1 {
            let lengths = between(fits, fails);
            let outcomes = ask(&lengths)?;
            told |= outcomes.iter().any(|outcome| outcome.too_long().is_some());
            let all = lengths.iter().zip(&outcomes);
            let longest = all.rev().find(|(_, outcome)| outcome.is_answered());
            fits = longest.map_or(fits, |(len, _)| *len);
            let next = lengths.iter().find(|len| **len > fits);
            fails = next.copied().unwrap_or(fails);
        }
        Ok(Some(PathMtu { mtu: fits, told }))
    }
}

/// Lengths between both, evenly spread; one at least if there is room.
fn between(fits: usize, fails: usize) -> Vec<usize> {
    let room = fails - fits - 1;
    let count = room.min(LENGTHS);
    (1..=count)
        .map(|i| fits + (i * (room + 1)).div_ceil(count + 1))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_between_lie_inside_and_leave_less_each_time() {
        for (fits, fails) in [(68, 1450), (68, 70), (1280, 9000), (100, 118), (100, 117)] {
            let lengths = between(fits, fails);
            assert!(!lengths.is_empty());
            assert!(
                lengths.windows(2).all(|pair| pair[0] < pair[1]),
                "{lengths:?}"
            );
            assert!(lengths.iter().all(|len| (fits + 1..fails).contains(len)));
            let mut edges = vec![fits];
            edges.extend(&lengths);
            edges.push(fails);
            let widest = edges.windows(2).map(|pair| pair[1] - pair[0]).max();
            assert!(
                widest.unwrap() <= (fails - fits).div_ceil(LENGTHS),
                "{edges:?}"
            );
        }
    }
}
