//! What happens to the host, in few words and at a bounded pace, so that it is looked at when there
//! is something to see.
//!
//! The kernel's notices say only where to look. Whoever is told of them compares with what should
//! be, as he does from time to time without them, and changes what differs. That comes back as one
//! more notice, and the look that it causes changes nothing.

mod notices;
mod pace;

use notices::{Notices, Teller};
use pace::Pace;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use tokio::time::{Instant, sleep_until};

/// Something that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A device: made, removed, renamed, up or down, its MTU or carrier.
    Link,
    /// An address of a device.
    Address,
    /// A route, or a rule for choosing tables of them.
    Route,
    /// A queueing discipline, or a filter of one.
    Queueing,
    /// The rules of the firewall.
    Firewall,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Change::Link => "links",
            Change::Address => "addresses",
            Change::Route => "routes",
            Change::Queueing => "qdiscs",
            Change::Firewall => "firewall",
        })
    }
}

/// What changes of the host are of interest.
enum Interest {
    Network,
    /// Of nftables, what messages name: each name with the zero behind it.
    Nftables(Vec<Vec<u8>>),
    /// Whatever was done under a lock.
    Lock,
}

/// Changes of the host, as they come.
pub struct HostEvents {
    notices: Notices,
    interest: Interest,
    pace: Pace,
    /// When to tell of what has arrived.
    due: Option<Instant>,
    /// Since when a look has been taken.
    looking: Option<Instant>,
}

impl HostEvents {
    /// Those of links, addresses, routes and queueing.
    pub fn of_network() -> HostEvents {
        HostEvents::new(Notices::of(&Teller::Network), Interest::Network)
    }

    /// Those of nftables that name one of these chains or tables. To ask for them has the kernel load
    /// nftables.
    pub fn of_nftables<'a>(names: impl IntoIterator<Item = &'a str>) -> HostEvents {
        let ended = |name: &str| [name.as_bytes(), b"\0"].concat();
        let names = names.into_iter().map(ended).collect();
        HostEvents::new(Notices::of(&Teller::Nftables), Interest::Nftables(names))
    }

    /// Changes to a firewall that whoever makes them locks this file for.
    pub fn of_lock(path: &Path) -> HostEvents {
        let notices = Notices::of(&Teller::File(path.to_owned()));
        HostEvents::new(notices, Interest::Lock)
    }

    /// None, ever.
    pub fn none() -> HostEvents {
        HostEvents::new(Notices::none(), Interest::Network)
    }

    fn new(notices: Notices, interest: Interest) -> HostEvents {
        HostEvents {
            notices,
            interest,
            pace: Pace::new(Instant::now()),
            due: None,
            looking: None,
        }
    }

    /// Wait for changes, and a moment for those that come along with them; what has changed. All of
    /// it if there are more than the kernel could tell. What happens until the next call is taken
    /// for the look that this one caused, and makes for the pace. Can be dropped at any await.
    pub async fn next(&mut self) -> BTreeSet<Change> {
        if let Some(began) = self.looking.take() {
            self.pace.looked(began, Instant::now());
        }
        loop {
            let due = match self.due {
                Some(due) => due,
                None => {
                    self.notices.arrived().await;
                    *self.due.insert(self.pace.next(Instant::now()))
                }
            };
            sleep_until(due).await;
            self.due = None;
            let changes = self.take();
            if !changes.is_empty() {
                self.looking = Some(Instant::now());
                return changes;
            }
        }
    }

    fn take(&mut self) -> BTreeSet<Change> {
        let mut changes = BTreeSet::new();
        let interest = &self.interest;
        let are_all = self.notices.take(|kind, message| {
            changes.extend(interest.in_message(kind, message));
        });
        if !are_all {
            changes.extend(interest.everything());
        }
        changes
    }
}

impl Interest {
    fn in_message(&self, kind: u16, message: &[u8]) -> Option<Change> {
        match self {
            Interest::Network => of_network(kind),
            Interest::Lock => Some(Change::Firewall),
            Interest::Nftables(names) => {
                let names_ours = names.iter().any(|name| has_attribute(message, name));
                names_ours.then_some(Change::Firewall)
            }
        }
    }

    fn everything(&self) -> &'static [Change] {
        match self {
            Interest::Network => &[
                Change::Link,
                Change::Address,
                Change::Route,
                Change::Queueing,
            ],
            Interest::Nftables(_) | Interest::Lock => &[Change::Firewall],
        }
    }
}

/// What a message of rtnetlink's tells of, by its type. Of each kind there are four in a row.
fn of_network(kind: u16) -> Option<Change> {
    match kind {
        16..=19 => Some(Change::Link),
        20..=23 => Some(Change::Address),
        // Routes and rules.
        24..=27 | 32..=35 => Some(Change::Route),
        // Disciplines, their classes and filters.
        36..=47 => Some(Change::Queueing),
        _ => None,
    }
}

/// Whether `value` is there as a whole: before it is the header of an attribute, whose last byte is a
/// small number in either byte order, and no letter.
fn has_attribute(message: &[u8], value: &[u8]) -> bool {
    let mut places = message.windows(value.len() + 1);
    places.any(|place| matches!(place.split_first(), Some((0..32, rest)) if rest == value))
}

#[cfg(test)]
mod tests;
