//! The fast path: eBPF programs that carry packets between the TUN device and the underlay inside
//! the kernel, where that is cheaper than to do it here, and that go on when the agent has gone.
//!
//! Programs are in `dataplane/bpf`; which way a packet takes is decided in its `choice.h` alone.
//! What the programs do not take with certainty goes on to the workers as it is. This module
//! loads them, gives them the table that the workers have, and reads what they count.

mod config;
pub(crate) mod counters;
mod error;
mod former;
mod layout;
mod links;
mod maps;
mod others;
mod pins;
mod probe;
mod programs;
mod table;
mod traffic;
mod trial;

use crate::route::table::Overlay;
use crate::stats::WorkerStats;
use crate::sys::clock;
use crate::sys::egress::Device;
use aya::Ebpf;
use aya::programs::TcAttachType;
pub use config::{Config, Merger, Policy};
use error::During;
pub use error::FastPathError;
pub use former::Former;
use layout::State;
use links::{Attached, Place};
pub use links::{FILTER_PRIORITY, Hook, filter_handle, remove_filters};
pub use others::others;
pub use pins::Pins;
use programs::{IN, MERGED, OUT, WORKERS, missing, program};
use std::io;
use std::net::IpAddr;
use std::path::Path;
pub use table::{Entries, PeerPath};
pub use traffic::{PeerTraffic, Tally, Traffic};

/// The programs of one device. Dropped, those that are pinned go on, and others end.
pub struct FastPath {
    config: Config,
    programs: Ebpf,
    state: State,
    /// When workers have taken what had waited for them, as the clock of the state has it.
    caught_up: u64,
    /// Where links are pinned, and why they are not.
    pins: Result<Pins, String>,
    links: Vec<Attached>,
    /// What the programs of an earlier agent had counted, whose place these have taken.
    before: Option<WorkerStats>,
    merger: Option<Merger>,
    hook: Hook,
}

impl FastPath {
    /// Load the programs for this overlay and try them. They are attached nowhere yet.
    pub fn load(config: Config, overlay: &Overlay) -> Result<FastPath, FastPathError> {
        let settings = config.settings(overlay)?;
        let programs = programs::load(&settings)?;
        let mut fast_path = FastPath {
            pins: Pins::make(&config.bpffs, &config.device).map_err(|error| error.to_string()),
            hook: config.hook.unwrap_or(Hook::Tcx),
            config,
            programs,
            state: State::default(),
            caught_up: 0,
            links: Vec::new(),
            before: None,
            merger: None,
        };
        fast_path.know_tunnel(settings.tunnel)?;
        trial::run(&mut fast_path, &settings)?;
        fast_path.know_workers()?;
        Ok(fast_path)
    }

    /// Why programs end with this process, if they do.
    pub fn unpinned(&self) -> Option<&str> {
        let unpinned = self.pins.as_ref().err().filter(|_| self.hook == Hook::Tcx);
        unpinned.map(String::as_str)
    }

    /// How the programs are attached.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// Whether packets pass the programs.
    pub fn is_attached(&self) -> bool {
        !self.links.is_empty()
    }

    /// Whether programs of an earlier agent are there, which have carried what they could up to now.
    pub fn takes_over(&self) -> bool {
        let device = &self.config.device;
        let is_pinned = |pins: &Pins| pins.path("out").exists();
        self.pins.as_ref().is_ok_and(is_pinned) || links::has_filter(device)
    }

    /// Leave flows that begin to the workers, until [`FastPath::follow`] is called.
    pub fn wait_for_workers(&mut self) -> Result<(), FastPathError> {
        self.state.opened = u64::MAX;
        self.wait_for_backlog()
    }

    /// Overtake nothing that workers have up to now, who have carried packets before; with a
    /// `backlog`, which others had left to them, not until they have caught up.
    pub fn follow(&mut self, backlog: bool) -> Result<(), FastPathError> {
        self.state.opened = clock::coarse_ns() + if backlog { CAUGHT_UP } else { 0 };
        self.wait_for_backlog()
    }

    /// Overtake nothing that waits from now on, since workers stop, or has waited up to now: flows that
    /// they have stay with them until they have caught up, or nobody has looked for 5 s.
    pub fn wait_for_backlog(&mut self) -> Result<(), FastPathError> {
        let now = clock::coarse_ns();
        self.caught_up = now.saturating_add(CAUGHT_UP);
        if self.state.backlog == 0 {
            // On a busy machine they hold what is older than the pause of a flow.
            self.state.backlog = now.saturating_sub(CAUGHT_UP).max(1);
        }
        self.beat()
    }

    /// Put the programs on both devices, in place of those of an earlier agent.
    pub fn attach(&mut self) -> Result<(), FastPathError> {
        self.beat()?;
        let first = self.attach_by(self.hook);
        match (first, self.config.hook) {
            (Err(error), None)
                if error.is_unknown_to_the_kernel() && self.attach_by(Hook::Clsact).is_ok() =>
            {
                self.hook = Hook::Clsact;
            }
            (outcome, _) => outcome?,
        }
        // The file system is mounted read-only, say.
        if let Some(reason) = self.links.iter().find_map(Attached::unpinned) {
            self.pins = Err(reason.to_owned());
        }
        self.pin_counts();
        Ok(())
    }

    /// Take away what earlier agents have attached for this tunnel and no pin leads to: it would go on
    /// beside these, by what it knew. Called once all that is to be attached is.
    pub fn take_off_others(&self) -> Former {
        let places = self.links.iter().map(Attached::place);
        let (devices, programs): (Vec<u32>, Vec<u32>) = places.unzip();
        // A former underlay's, if filters are those of this one.
        let spared: &[u32] = match self.hook {
            Hook::Tcx => &[],
            Hook::Clsact => &devices,
        };
        former::remove_filters_beside(spared, filter_handle(&self.config.device));
        // The underlay is the first, and not the tunnel's alone.
        let own = devices.get(1..).unwrap_or_default();
        former::take_off(&self.config.device, own, &programs)
    }

    /// What the programs of an earlier agent had counted when these took their place.
    pub fn before(&self) -> Option<&WorkerStats> {
        self.before.as_ref()
    }

    fn attach_by(&mut self, hook: Hook) -> Result<(), FastPathError> {
        let Config {
            device, underlay, ..
        } = self.config.clone();
        let index = index_of(&underlay)?;
        let inwards = format!("in-{index}");
        let places = [
            (
                IN,
                underlay.as_str(),
                TcAttachType::Ingress,
                inwards.as_str(),
            ),
            (OUT, device.as_str(), TcAttachType::Egress, "out"),
        ];
        let mut links = Vec::new();
        for (name, on, direction, pin) in places {
            let place = Place {
                device: on,
                direction,
                pin,
                tunnel: &device,
            };
            links.push(self.attach_one(name, place, hook)?);
        }
        self.links = links;
        // What an earlier agent has left would go on beside these, by what it knew.
        let is_left = |name: &str| match hook {
            Hook::Tcx => name.starts_with("in-") && name != inwards,
            Hook::Clsact => name.starts_with("in-") || ["out", "merged"].contains(&name),
        };
        if let Ok(pins) = &self.pins {
            for name in pins
                .names()
                .unwrap_or_default()
                .iter()
                .filter(|name| is_left(name))
            {
                let _ = pins.unpin(name);
            }
        }
        if hook == Hook::Tcx {
            for (_, on, ..) in places {
                remove_filters(on, filter_handle(&device));
            }
        }
        Ok(())
    }

    fn attach_one(
        &mut self,
        name: &str,
        place: Place<'_>,
        hook: Hook,
    ) -> Result<Attached, FastPathError> {
        let program = program(&mut self.programs, name)?;
        Attached::new(program, place, hook, self.pins.as_ref().ok())
    }

    /// Keep the counters of the programs where others can read them, the next agent among them.
    fn pin_counts(&mut self) {
        let (Ok(pins), Some(map)) = (&self.pins, self.programs.map("counts")) else {
            return;
        };
        let path = pins.path("counts");
        self.before = maps::read_counts(&path).map(|totals| totals.as_stats());
        let _ = std::fs::remove_file(&path);
        // Nothing but a reader would miss it.
        let _ = map.pin(&path);
    }

    /// Have the programs go by these entries from their next packet on; none sees half of each
    /// table. `path` tells of paths to peers that are not as the underlay device is.
    pub fn publish(
        &mut self,
        entries: &Entries,
        path: impl Fn(IpAddr) -> Option<PeerPath>,
    ) -> Result<(), FastPathError> {
        self.put(&entries.with_paths(path))
    }

    /// Tell the programs what is to be taken.
    pub fn set_policy(&mut self, policy: Policy) -> Result<(), FastPathError> {
        self.state.all = policy.all.into();
        self.state.super_packets = policy.super_packets.into();
        self.state.mtu = policy.mtu;
        self.beat()
    }

    /// Leave everything to the workers from the next packet on, with all programs in their places:
    /// what is on its way through them gets there.
    pub fn close(&mut self) -> Result<(), FastPathError> {
        self.state.closed = 1;
        self.write_state()
    }

    /// Tell the programs that the agent is there.
    pub fn beat(&mut self) -> Result<(), FastPathError> {
        self.state.beat = clock::coarse_ns();
        if self.state.beat > self.caught_up {
            self.state.backlog = 0;
        }
        self.write_state()
    }

    /// The pair in use.
    pub fn merger(&self) -> Option<&Merger> {
        self.merger.as_ref()
    }

    /// Whether the programs have met what a [`Merger`] would merge, and there is none.
    pub fn wants_merger(&self) -> bool {
        self.merger.is_none() && self.totals().is_ok_and(|totals| totals.want_merger())
    }

    /// Merge segments by this pair from now on, or no longer.
    pub fn set_merger(&mut self, merger: Option<Merger>) -> Result<(), FastPathError> {
        let near = merger.as_ref().map_or(0, |merger| merger.near);
        // Of a pair that is gone, most likely.
        self.links.truncate(PLACES);
        if let Some(merger) = &merger {
            let device = self.config.device.clone();
            let place = Place {
                device: &merger.far,
                direction: TcAttachType::Ingress,
                pin: "merged",
                tunnel: &device,
            };
            let link = self.attach_one(MERGED, place, self.hook)?;
            self.links.push(link);
        }
        self.merger = merger;
        self.state.merger = near;
        self.beat()
    }

    /// What the programs have counted, as the workers count it.
    pub fn stats(&self) -> WorkerStats {
        self.totals()
            .map(|totals| totals.as_stats())
            .unwrap_or_default()
    }

    /// Whether the programs are still where they were put: somebody may have taken them off.
    pub fn is_in_place(&self) -> bool {
        self.links.iter().all(Attached::is_in_place)
    }

    /// Take the programs off their devices, and everything that is pinned away. What cannot be taken
    /// away leaves everything to the workers from now on.
    pub fn remove(mut self) -> Result<(), FastPathError> {
        let _ = self.close();
        let unpinned = match self.pins.is_ok() {
            true => Pins::remove(&self.config.bpffs, &self.config.device).during("removing pins"),
            false => Ok(false),
        };
        // All of them, whatever becomes of one.
        let detached = self.links.into_iter().map(Attached::detach);
        detached.fold(unpinned.map(drop), Result::and)
    }

    /// Leave the programs at work without this process, as far as they can be.
    pub fn leave(self) {
        for link in self.links {
            link.leave();
        }
    }
}

/// Take away what an agent has left for `device`: pins, and the filters on it and on each of
/// `others`. Whether there was anything. Programs that are pinned elsewhere are taken off, too.
pub fn remove_left(
    bpffs: &Path,
    device: &str,
    others: impl Iterator<Item = String>,
) -> (io::Result<bool>, Former) {
    let pinned = Pins::remove(bpffs, device);
    let handle = filter_handle(device);
    let links = std::iter::once(device.to_owned()).chain(others);
    let filters = links.filter(|link| remove_filters(link, handle)).count();
    let removed = pinned.map(|pinned| filters > 0 || pinned);
    (removed, former::take_off(device, &[], &[]))
}

fn index_of(device: &str) -> Result<u32, FastPathError> {
    Device::named(device)
        .and_then(|device| device.index())
        .during(device)
}

/// Nanoseconds after which workers that run have taken what had waited for them, however busy the machine
/// is.
const CAUGHT_UP: u64 = 1_000_000_000;

/// Devices with programs, without a pair.
const PLACES: usize = 2;

#[cfg(test)]
mod tests;
