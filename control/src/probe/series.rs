//! One node, asked again and again.

use super::message::{About, Refusal};
use super::pinger::{Pinger, ProbeError};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How a node is asked.
#[derive(Clone, Copy, Debug)]
pub struct SeriesPlan {
    /// Requests.
    pub count: u32,
    /// Time from one to the next.
    pub interval: Duration,
    /// How long the last is waited for.
    pub wait: Duration,
    /// Length of the IP packet in bytes.
    pub len: usize,
    /// Ask for the time instead, of IPv4 alone: what is no echo is the workers', on either side.
    pub time: bool,
}

/// What was heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Requests that have left.
    pub sent: u32,
    /// How long each that was answered took, in the order of answers.
    pub times: Vec<Duration>,
    /// Who refused any, each reason once.
    pub refusals: Vec<Refusal>,
    /// Why the kernel of this host let one not out.
    pub unsent: Option<String>,
}

impl Pinger {
    /// Ask `to` again and again.
    pub fn series(
        &mut self,
        from: Option<IpAddr>,
        to: IpAddr,
        plan: SeriesPlan,
    ) -> Result<Series, ProbeError> {
        let mut series = Series::default();
        let mut open = BTreeMap::new();
        let begun = Instant::now();
        for i in 0..plan.count {
            let seq = self.number();
            open.insert(seq, Instant::now());
            series.sent += 1;
            let asked = match plan.time {
                true => self.ask_time((from, to), seq, plan.len)?,
                false => self.ask((from, to), false, seq, plan.len)?,
            };
            if let Err(error) = asked {
                series.unsent = Some(error.to_string());
                open.remove(&seq);
            }
            let last = i + 1 == plan.count;
            let limit = match last {
                true => Instant::now() + plan.wait,
                false => begun + plan.interval * (i + 1),
            };
            while Instant::now() < limit && !(last && open.is_empty()) {
                self.listen(limit, &mut open, &mut series)?;
            }
        }
        Ok(series)
    }

    fn listen(
        &mut self,
        limit: Instant,
        open: &mut BTreeMap<u16, Instant>,
        series: &mut Series,
    ) -> Result<(), ProbeError> {
        let Some((heard, at)) = self.hear(limit)? else {
            return Ok(());
        };
        let About::Request(id, seq) = heard.about else {
            return Ok(());
        };
        if id != self.id {
            return Ok(());
        }
        let Some(sent) = open.remove(&seq) else {
            return Ok(());
        };
        match heard.refusal {
            None => series.times.push(at.saturating_duration_since(sent)),
            Some(refusal) if !series.refusals.contains(&refusal) => series.refusals.push(refusal),
            Some(_) => {}
        }
        Ok(())
    }
}
