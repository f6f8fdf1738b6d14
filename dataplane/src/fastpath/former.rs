//! Programs that an earlier agent has left and that no pin leads to here: it had another BPF file
//! system, or this process does not see it. They would take packets ahead of those that are
//! attached behind them, by a table that nobody keeps.

use super::{IN, MERGED, OUT, index_of, remove_filters};
use crate::sys::egress::Device;
use crate::sys::tc::{self, Direction, Link, TcxLink};
use aya::maps::{DevMap, Map, MapData};
use aya::programs::{ProgramInfo, loaded_programs};
use std::collections::BTreeMap;

/// What was found of earlier agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Former {
    /// Programs that were taken off.
    pub removed: usize,
    /// Programs on devices of the tunnel's own that may be an earlier agent's: whose they are, or
    /// how to be rid of them, only `CAP_SYS_ADMIN` lets a process find out.
    pub unknown: usize,
}

/// A program that is to be looked at.
struct Suspect {
    at: TcxLink,
    /// It is on a device that is only the tunnel's.
    on_own: bool,
}

/// Take off all devices what earlier agents have attached by links for the TUN device `tunnel`.
/// `own` are indices of further devices that are for it alone, `spared` the ids of programs that stay.
pub(super) fn take_off(tunnel: &str, own: &[u32], spared: &[u32]) -> Former {
    let mut former = Former::default();
    let Ok(tunnel) = index_of(tunnel) else {
        return former;
    };
    let is_own = |device| device == tunnel || own.contains(&device);
    let suspects = suspects(is_own, spared);
    if suspects.is_empty() {
        return former;
    }
    // Without the capability there are none.
    let known = loaded_programs().filter_map(Result::ok);
    let known: BTreeMap<u32, ProgramInfo> = known.map(|info| (info.id(), info)).collect();
    for Suspect { at, on_own } in suspects {
        let info = known.get(&at.program);
        if info.is_some_and(|info| !is_for(info, on_own, tunnel)) {
            continue;
        }
        match info.map(|_| Link::of_id(at.link).and_then(Link::detach)) {
            Some(Ok(())) => former.removed += 1,
            Some(Err(_)) | None => former.unknown += usize::from(on_own),
        }
    }
    former
}

/// All programs on any device but those to be spared.
fn suspects(is_own: impl Fn(u32) -> bool, spared: &[u32]) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    let devices = Device::names().unwrap_or_default();
    for device in devices.iter().filter_map(|name| index_of(name).ok()) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let links = tc::tcx_links(device, direction).unwrap_or_default();
            let others = links.into_iter().filter(|at| !spared.contains(&at.program));
            suspects.extend(others.map(|at| Suspect {
                at,
                on_own: is_own(device),
            }));
        }
    }
    suspects
}

/// Whether it is weft's for this TUN device. Those on the underlay may be other tunnels'.
fn is_for(info: &ProgramInfo, on_own: bool, tunnel: u32) -> bool {
    match info.name_as_str() {
        Some(OUT | MERGED) => on_own,
        Some(IN) => tunnel_of(info) == Some(tunnel),
        _ => false,
    }
}

/// The TUN device that a program looks for, if that is still there.
fn tunnel_of(info: &ProgramInfo) -> Option<u32> {
    let maps = info.map_ids().ok()??.into_iter();
    let mut maps = maps.filter_map(|id| Map::from_map_data(MapData::from_id(id).ok()?).ok());
    let tunnel = maps.find(|map| matches!(map, Map::DevMap(_)))?;
    let tunnel = DevMap::try_from(tunnel).ok()?.get(0, 0).ok()?;
    Some(tunnel.if_index)
}

/// Remove the filters of this handle from all devices but `spared`.
pub(super) fn remove_filters_beside(spared: &[u32], handle: u32) {
    for device in Device::names().unwrap_or_default() {
        if index_of(&device).is_ok_and(|index| !spared.contains(&index)) {
            remove_filters(&device, handle);
        }
    }
}
