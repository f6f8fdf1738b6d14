//! The service manager's store of descriptors: what a process that ends leaves to the next one.
//!
//! Each descriptor of a tunnel has a name of its own, made of the device's and its place among them;
//! one more of each tunnel holds what its programs find the workers by, and two of all say what the
//! tunnels are, and what has been counted.

use super::knowledge;
use super::message::TunnelOffer;
use super::tally::{LeftTally, TallyFile};
use crate::notify;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What all names begin with.
const PREFIX: &str = "weft-";

/// The name of what says what the tunnels are.
const TUNNELS: &str = "weft-tunnels";

/// The name of what says what has been counted.
const TALLY: &str = "weft-tally";

/// A tunnel with its descriptors.
pub type Held<'a> = (TunnelOffer, Vec<BorrowedFd<'a>>);

/// What is kept, by name.
#[derive(Debug, Default)]
pub struct DescriptorStore {
    names: Vec<String>,
}

impl DescriptorStore {
    /// A store that has what the service manager has passed to this process under these names.
    pub fn of(passed: &BTreeMap<String, OwnedFd>) -> DescriptorStore {
        DescriptorStore {
            names: passed.keys().cloned().collect(),
        }
    }

    /// Whether it keeps anything.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Keep these tunnels, what the programs of devices find the workers by, a tally, and nothing else.
    /// The error is one line, and then nothing is kept.
    pub fn keep(
        &mut self,
        tunnels: &[Held<'_>],
        holds: &[(String, OwnedFd)],
        tally: &TallyFile,
    ) -> Result<(), String> {
        let kept = self.try_keep(tunnels, holds, tally);
        if kept.is_err() {
            self.clear();
        }
        kept
    }

    fn try_keep(
        &mut self,
        tunnels: &[Held<'_>],
        holds: &[(String, OwnedFd)],
        tally: &TallyFile,
    ) -> Result<(), String> {
        let offers: Vec<&TunnelOffer> = tunnels.iter().map(|(offer, _)| offer).collect();
        let told = serde_json::to_vec(&offers).map_err(|error| error.to_string())?;
        let told = knowledge::write(&told).map_err(|error| error.to_string())?;
        let mut all = BTreeMap::from([
            (TUNNELS.to_owned(), told.as_fd()),
            (TALLY.to_owned(), tally.as_fd()),
        ]);
        for (offer, held) in tunnels {
            let named = held.iter().enumerate();
            all.extend(named.map(|(index, held)| (name(&offer.device, index), *held)));
        }
        let named = holds.iter();
        all.extend(named.map(|(device, hold)| (hold_name(device), hold.as_fd())));
        let (needed, most) = (all.len(), notify::stores());
        if needed > most {
            return Err(format!(
                "{needed} descriptors are to be kept, and it keeps {most}"
            ));
        }
        // What has such a name stays as it is, unless it is taken away first.
        self.clear();
        for (name, held) in all {
            notify::store(&name, held).map_err(|error| format!("{name}: {error}"))?;
            self.names.push(name);
        }
        Ok(())
    }

    /// Keep nothing any more.
    pub fn clear(&mut self) {
        // A manager that cannot be reached keeps nothing for long, and need not be asked for each.
        let _ = self
            .names
            .drain(..)
            .try_for_each(|name| notify::unstore(&name));
    }
}

fn name(device: &str, index: usize) -> String {
    format!("{PREFIX}{device}-{index}")
}

fn hold_name(device: &str) -> String {
    format!("{PREFIX}{device}-programs")
}

/// What an earlier process has left.
#[derive(Debug)]
pub struct Left {
    /// Its tunnels.
    pub tunnels: Vec<TunnelOffer>,
    /// Their descriptors, in order.
    pub descriptors: Vec<OwnedFd>,
    /// What the programs find its workers by, until others take their place.
    pub holds: Vec<OwnedFd>,
    /// What has been counted up to it.
    pub tally: LeftTally,
}

/// The tunnels among what was passed. The error is one line.
pub fn tunnels(mut passed: BTreeMap<String, OwnedFd>) -> Result<Left, String> {
    let told = passed.remove(TUNNELS);
    let told = told.ok_or_else(|| format!("there is no {TUNNELS}"))?;
    let told = knowledge::read(told).map_err(|error| format!("{TUNNELS}: {error}"))?;
    let offers: Vec<TunnelOffer> =
        serde_json::from_slice(&told).map_err(|error| format!("{TUNNELS}: {error}"))?;
    let tally = passed.remove(TALLY).map(LeftTally::read);
    let (mut descriptors, mut holds) = (Vec::new(), Vec::new());
    for offer in &offers {
        holds.extend(passed.remove(&hold_name(&offer.device)));
        for index in 0..usize::from(offer.descriptors) {
            let name = name(&offer.device, index);
            let held = passed.remove(&name);
            descriptors.push(held.ok_or_else(|| format!("there is no {name}"))?);
        }
    }
    Ok(Left {
        tunnels: offers,
        descriptors,
        holds,
        tally: tally.unwrap_or_default(),
    })
}

/// Whether what has this name was kept by an agent.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The names of descriptors that the service manager has passed to the process `pid`, by what it
/// says in the environment (sd_listen_fds(3)); in the order of their numbers, from 3 on.
pub fn passed(pid: u32, variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let number = |name: &str| variable(name).and_then(|value| value.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(pid) {
        return Vec::new();
    }
    let count = number("LISTEN_FDS").unwrap_or(0) as usize;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.split(':').map(str::to_owned);
    // More names than descriptors are none of them.
    names.take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hand_over::Super;

    fn environment<'a>(
        pid: &'a str,
        count: &'a str,
        names: &'a str,
    ) -> impl Fn(&str) -> Option<String> {
        move |name| {
            let value = match name {
                "LISTEN_PID" => pid,
                "LISTEN_FDS" => count,
                "LISTEN_FDNAMES" => names,
                _ => return None,
            };
            Some(value.to_owned())
        }
    }

    #[test]
    fn only_what_is_passed_to_this_process_counts() {
        let names = |pid, count, names| passed(7, environment(pid, count, names));
        assert_eq!(names("7", "2", "a:b"), ["a", "b"]);
        assert_eq!(names("7", "1", "a:b"), ["a"]);
        for (pid, count) in [
            ("8", "2"),
            ("", "2"),
            ("7", "0"),
            ("7", "-1"),
            ("7", "many"),
        ] {
            assert_eq!(names(pid, count, "a:b"), [""; 0], "{pid} {count}");
        }
    }

    fn offer() -> TunnelOffer {
        let none = Super {
            tcp: false,
            udp: false,
        };
        TunnelOffer {
            device: "flannel.1".to_owned(),
            wire: "vxlan".to_owned(),
            vni: 1,
            port: 8472,
            local: [192, 0, 2, 1].into(),
            underlay: 2,
            outer_df: false,
            descriptors: 4,
            queues: 1,
            shares: 8,
            senders: 2,
            tap: None,
            wanted: none,
            granted: none,
        }
    }

    fn kept() -> BTreeMap<String, OwnedFd> {
        let told = serde_json::to_vec(&[offer()]).unwrap();
        let mut all = BTreeMap::from([(TUNNELS.to_owned(), knowledge::write(&told).unwrap())]);
        for index in 0..4 {
            let held = knowledge::write(&[index]).unwrap();
            all.insert(name("flannel.1", index.into()), held);
        }
        all.insert(hold_name("flannel.1"), knowledge::write(b"").unwrap());
        all
    }

    #[test]
    fn tunnels_have_their_descriptors_in_order_and_all_of_them() {
        let Left {
            tunnels: offers,
            descriptors,
            holds,
            tally,
        } = tunnels(kept()).unwrap();
        assert_eq!((offers, holds.len()), (vec![offer()], 1));
        assert_eq!(tally, LeftTally::default(), "its file is missing");
        let contents = descriptors
            .into_iter()
            .map(|held| knowledge::read(held).unwrap());
        assert!(contents.eq((0..4).map(|index: u8| vec![index])));
        for name in ["weft-tunnels", "weft-flannel.1-2"] {
            let mut all = kept();
            all.remove(name);
            let error = tunnels(all).unwrap_err();
            assert_eq!(error, format!("there is no {name}"));
        }
    }
}
