//! What lies between the programs and their loader: the table, the state and the counters.

use super::counters::Totals;
use super::error::{During, FastPathError};
use super::layout::{Counts, Peer, State, TableKey};
use super::table::Entry;
use super::{FastPath, WORKERS, missing, program};
use aya::maps::{
    Array, ArrayOfMaps, DevMap, LpmTrie, Map, MapData, PerCpuArray, PerCpuValues, ProgramArray,
};
use aya::util::nr_cpus;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// `BPF_F_NO_PREALLOC`, without which there is no trie.
const NO_PREALLOC: u32 = 1;

impl FastPath {
    /// Have the programs find the workers, for as long as this process lives.
    pub(super) fn know_workers(&mut self) -> Result<(), FastPathError> {
        let workers = program(&mut self.programs, WORKERS)?;
        let workers = workers.fd().during("the program to_workers")?;
        let workers = workers.try_clone().during("the program to_workers")?;
        let map = self.programs.map_mut("workers").ok_or_else(missing)?;
        let mut map = ProgramArray::try_from(map).during("the map of workers")?;
        map.set(0, &workers, 0).during("the map of workers")
    }

    /// By this the programs find the workers for as long as any process has it, whatever becomes
    /// of this one.
    pub fn hold(&self) -> Option<OwnedFd> {
        match self.programs.map("workers") {
            Some(Map::ProgramArray(map)) => map.fd().as_fd().try_clone_to_owned().ok(),
            _ => None,
        }
    }

    /// Have the programs see whether there is a TUN device.
    pub(super) fn know_tunnel(&mut self, index: u32) -> Result<(), FastPathError> {
        let map = self.programs.map_mut("tunnel").ok_or_else(missing)?;
        let mut map = DevMap::try_from(map).during("the map of devices")?;
        map.set(0, index, None, 0).during("the map of devices")
    }

    /// Put a table of these entries in the place of the one that is there.
    pub(super) fn put(&mut self, entries: &[Entry]) -> Result<(), FastPathError> {
        let room = u32::try_from(entries.len().max(1)).unwrap_or(u32::MAX);
        let mut trie = LpmTrie::<MapData, TableKey, Peer>::create(room, NO_PREALLOC)
            .during("making a table")?;
        for (key, peer) in entries {
            trie.insert(key, peer, 0).during("filling a table")?;
        }
        let map = self.programs.map_mut("tables").ok_or_else(missing)?;
        let mut tables: ArrayOfMaps<_, LpmTrie<MapData, TableKey, Peer>> =
            ArrayOfMaps::try_from(map).during("the map of tables")?;
        tables.set(0, &trie, 0).during("changing the table")
    }

    /// Let the programs see the state as it is here.
    pub(super) fn write_state(&mut self) -> Result<(), FastPathError> {
        let state = self.state;
        let map = self.programs.map_mut("state").ok_or_else(missing)?;
        let mut map: Array<_, State> = Array::try_from(map).during("the programs' state")?;
        map.set(0, state, 0).during("the programs' state")
    }

    /// What the programs have counted on all cores.
    pub(super) fn totals(&self) -> Result<Totals, FastPathError> {
        let map = self.programs.map("counts").ok_or_else(missing)?;
        let map: PerCpuArray<_, Counts> = PerCpuArray::try_from(map).during("the counters")?;
        let cores = map.get(&0, 0).during("the counters")?;
        Ok(Totals::of(cores.iter()))
    }

    /// Have the programs count from zero.
    pub(super) fn forget_counts(&mut self) -> Result<(), FastPathError> {
        let map = self.programs.map_mut("counts").ok_or_else(missing)?;
        let mut map: PerCpuArray<_, Counts> = PerCpuArray::try_from(map).during("the counters")?;
        let cores = nr_cpus().map_err(|(file, error)| FastPathError::new(file, &error))?;
        let zeros =
            PerCpuValues::try_from(vec![Counts::default(); cores]).during("the counters")?;
        map.set(0, zeros, 0).during("the counters")
    }
}

/// What is pinned at `path` by programs with as many counters as these; those are taken to be the same
/// ones in the same order.
pub(super) fn read_counts(path: &Path) -> Option<Totals> {
    let map = Map::from_map_data(MapData::from_pin(path).ok()?).ok()?;
    let map: PerCpuArray<_, Counts> = PerCpuArray::try_from(map).ok()?;
    Some(Totals::of(map.get(&0, 0).ok()?.iter()))
}
