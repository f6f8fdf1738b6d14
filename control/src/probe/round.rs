//! Many questions at the same time.

use super::message::{About, Heard, Refusal, Why};
use super::pinger::{Pinger, ProbeError};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// A VXLAN header whose VNI does not count, since the flag for it is missing: every receiver drops
/// it, and counts it as a datagram of somebody else.
const JUNK: [u8; 8] = [0; 8];

/// How long a refusal of a datagram is waited for when all else is known: it comes about as fast
/// as an answer.
const REFUSAL_WAIT: Duration = Duration::from_millis(150);

/// One question.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Who is asked.
    pub to: IpAddr,
    /// The address of this host that answers are to go to; `None`: what the route says.
    pub from: Option<IpAddr>,
    /// What is sent.
    pub what: What,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An echo request, as an IP packet of `len` bytes that may be fragmented unless `df`.
    Echo {
        /// Bytes.
        len: usize,
        /// Whether it may not.
        df: bool,
    },
    /// A request for the time (ICMP timestamp), as an IPv4 packet of `len` bytes.
    Time {
        /// Bytes.
        len: usize,
    },
    /// A datagram that means nothing, to this port. That nothing is heard is good news.
    Datagram(u16),
}

/// How long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often each is asked.
    pub tries: u32,
    /// How long each time.
    pub every: Duration,
}

/// What became of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered within this time.
    Answered(Duration),
    /// Somebody on the way did not let it pass.
    Refused(Refusal),
    /// The kernel of this host did not let it out, for this reason.
    Unsent(String),
    /// This host's device does not take packets as long as this.
    TooLong,
    /// Nothing was heard.
    #[default]
    Silent,
}

impl Outcome {
    /// Whether it was answered.
    pub fn is_answered(&self) -> bool {
        matches!(self, Outcome::Answered(_))
    }

    /// Whether somebody has said that it is too long, and how long it may be if that was said.
    pub fn too_long(&self) -> Option<Option<u32>> {
        match self {
            Outcome::TooLong => Some(None),
            Outcome::Refused(Refusal {
                why: Why::TooLong(mtu),
                ..
            }) => Some(*mtu),
            _ => None,
        }
    }

    /// What a kernel that did not let a packet out means by `error`.
    pub(super) fn unsent(error: &io::Error) -> Outcome {
        match rustix::io::Errno::from_io_error(error) {
            Some(rustix::io::Errno::MSGSIZE) => Outcome::TooLong,
            _ => Outcome::Unsent(error.to_string()),
        }
    }
}

/// What has been asked: the number of the question, and when.
#[derive(Default)]
struct Asked {
    echoes: BTreeMap<u16, (usize, Instant)>,
    /// By source port and address of who was asked.
    datagrams: BTreeMap<(u16, IpAddr), usize>,
}

impl Pinger {
    /// Ask all of `probes` at the same time; what became of each. It takes no longer than
    /// `patience` says, and ends as soon as all is known.
    pub fn round(
        &mut self,
        probes: &[Probe],
        patience: Patience,
    ) -> Result<Vec<Outcome>, ProbeError> {
        let mut outcomes = vec![Outcome::Silent; probes.len()];
        let mut asked = Asked::default();
        for _ in 0..patience.tries {
            let end = Instant::now() + patience.every;
            for (i, probe) in probes.iter().enumerate() {
                if outcomes[i] == Outcome::Silent {
                    if let Err(error) = self.put(probe, i, &mut asked)? {
                        outcomes[i] = Outcome::unsent(&error);
                    }
                    // Answers are read as they come, so that they need little room.
                    self.note(Instant::now(), &mut asked, &mut outcomes)?;
                }
            }
            let mut limit = end;
            while Instant::now() < limit {
                if echoes_known(probes, &outcomes) {
                    if outcomes.iter().all(|outcome| *outcome != Outcome::Silent) {
                        return Ok(outcomes);
                    }
                    limit = limit.min(Instant::now() + REFUSAL_WAIT);
                }
                self.note(limit, &mut asked, &mut outcomes)?;
            }
            if echoes_known(probes, &outcomes) {
                break;
            }
        }
        Ok(outcomes)
    }

    /// Send one; `Err` inside if the kernel refuses.
    fn put(
        &mut self,
        probe: &Probe,
        i: usize,
        asked: &mut Asked,
    ) -> Result<io::Result<()>, ProbeError> {
        match probe.what {
            What::Echo { len, df } => {
                let seq = self.number();
                asked.echoes.insert(seq, (i, Instant::now()));
                self.ask((probe.from, probe.to), df, seq, len)
            }
            What::Time { len } => {
                let seq = self.number();
                asked.echoes.insert(seq, (i, Instant::now()));
                self.ask_time((probe.from, probe.to), seq, len)
            }
            What::Datagram(port) => {
                let to = SocketAddr::new(probe.to, port);
                let sent = self.datagram((probe.from, to), &JUNK)?;
                Ok(sent.map(|from| {
                    asked.datagrams.insert((from, probe.to), i);
                }))
            }
        }
    }

    /// Take in one thing that is heard, until `limit`.
    fn note(
        &mut self,
        limit: Instant,
        asked: &mut Asked,
        outcomes: &mut [Outcome],
    ) -> Result<(), ProbeError> {
        let Some((heard, at)) = self.hear(limit)? else {
            return Ok(());
        };
        let Heard { to, about, refusal } = heard;
        let found = match about {
            About::Request(id, seq) if id == self.id => asked.echoes.get(&seq).copied(),
            About::Request(..) => None,
            About::Datagram(from, _) => {
                let found = asked.datagrams.get(&(from, to));
                found.map(|&i| (i, at))
            }
        };
        let Some((i, sent)) = found else {
            return Ok(());
        };
        match refusal {
            None => outcomes[i] = Outcome::Answered(at.saturating_duration_since(sent)),
            Some(refusal) if !outcomes[i].is_answered() => outcomes[i] = Outcome::Refused(refusal),
            Some(_) => {}
        }
        Ok(())
    }
}

/// Whether all echo requests have been answered or refused.
fn echoes_known(probes: &[Probe], outcomes: &[Outcome]) -> bool {
    let mut all = probes.iter().zip(outcomes);
    all.all(|(probe, outcome)| {
        matches!(probe.what, What::Datagram(_)) || *outcome != Outcome::Silent
    })
}
