//! What goes to each peer and comes from it (`dataplane/bpf/traffic.bpf.c`): counted by two programs
//! on the underlay device, which carry nothing, and whatever way a packet takes.

use super::error::During;
use super::programs::{load_one, missing, program};
use super::{FastPathError, index_of};
use crate::sys::tc::{self, Direction};
use aya::maps::{MapData, PerCpuHashMap, PerCpuValues};
use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, TcAttachType};
use aya::util::nr_cpus;
use aya::{Ebpf, EbpfLoader};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

static OBJECT: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/traffic.bpf.o"));

/// What is counted of a peer on one core: packets and bytes that were sent, and that came.
type Counts = [u64; 4];

/// The programs, where they belong, and in what order among others there: what others drop is not
/// sent, and what others take has come.
const PLACES: [(&str, TcAttachType); 2] = [
    ("weft_sent", TcAttachType::Egress),
    ("weft_received", TcAttachType::Ingress),
];

/// Packets, and their bytes with all headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets; of a super-packet those that become of it.
    pub packets: u64,
    /// Bytes, with headers from the Ethernet header on; of a super-packet they count once.
    pub bytes: u64,
}

/// What a peer and this node have sent each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The peer's underlay address.
    pub peer: IpAddr,
    /// What this node has sent to it.
    pub sent: Tally,
    /// What it has sent, whether or not it was admitted.
    pub received: Tally,
}

impl Traffic {
    /// Bytes of both directions.
    pub fn bytes(&self) -> u64 {
        self.sent.bytes.saturating_add(self.received.bytes)
    }
}

/// Counts what crosses an underlay device, for as long as it lives.
pub struct PeerTraffic {
    programs: Ebpf,
    counts: PerCpuHashMap<MapData, [u8; 16], Counts>,
    peers: BTreeSet<IpAddr>,
    device: u32,
    links: Vec<FdLink>,
}

impl PeerTraffic {
    /// Count what crosses `device` from and to this port of peers, who are still to be named. It takes
    /// tcx links (Linux 6.6).
    pub fn start(device: &str, port: u16) -> Result<PeerTraffic, FastPathError> {
        let step = "loading the programs that count";
        let mut programs = EbpfLoader::new()
            .override_global("port", &port.to_be(), true)
            .load(OBJECT)
            .during(step)?;
        for (name, _) in PLACES {
            load_one(program(&mut programs, name)?).during(step)?;
        }
        let counts = programs.take_map("peers").ok_or_else(missing)?;
        let mut traffic = PeerTraffic {
            programs,
            counts: counts.try_into().during(step)?,
            peers: BTreeSet::new(),
            device: 0,
            links: Vec::new(),
        };
        traffic.move_to(device)?;
        Ok(traffic)
    }

    /// Count what crosses this device from now on, beside what was counted so far.
    pub fn move_to(&mut self, device: &str) -> Result<(), FastPathError> {
        let step = format!("attaching to {device}");
        self.links.clear();
        self.device = index_of(device)?;
        for (name, direction) in PLACES {
            let order = match direction {
                TcAttachType::Ingress => LinkOrder::first(),
                TcAttachType::Egress | TcAttachType::Custom(_) => LinkOrder::last(),
            };
            let program = program(&mut self.programs, name)?;
            let options = TcAttachOptions::TcxOrder(order);
            let link = program.attach_with_options(device, direction, options);
            let link = program.take_link(link.during(&step)?).during(&step)?;
            self.links.push(link.try_into().during(&step)?);
        }
        Ok(())
    }

    /// Whether the programs are on the device of this name: it may be another by now, and others may
    /// have taken them off.
    pub fn is_on(&mut self, device: &str) -> bool {
        let is_there = |place| self.is_there(place) == Some(true);
        PLACES.into_iter().all(is_there) && index_of(device).is_ok_and(|index| index == self.device)
    }

    fn is_there(&mut self, (name, direction): (&str, TcAttachType)) -> Option<bool> {
        let direction = match direction {
            TcAttachType::Egress => Direction::Egress,
            TcAttachType::Ingress | TcAttachType::Custom(_) => Direction::Ingress,
        };
        let own = program(&mut self.programs, name).ok()?.info().ok()?.id();
        let there = tc::tcx_programs(self.device, direction).ok()?;
        Some(there.contains(&own))
    }

    /// Count these peers, as far as there is room, and no others.
    pub fn count(&mut self, peers: BTreeSet<IpAddr>) -> Result<(), FastPathError> {
        let step = "the table of what peers send";
        for gone in self.peers.difference(&peers) {
            // It is not there if there was no room.
            let _ = self.counts.remove(&key(*gone));
        }
        let cores = cores()?;
        let mut outcome = Ok(());
        for new in peers.difference(&self.peers) {
            let zero = PerCpuValues::try_from(vec![Counts::default(); cores]).during(step)?;
            let inserted = self.counts.insert(key(*new), zero, 0).during(step);
            outcome = outcome.and(inserted);
        }
        self.peers = peers;
        outcome
    }

    /// What has been counted of each peer.
    pub fn read(&self) -> Vec<Traffic> {
        let all = self.counts.iter().filter_map(Result::ok);
        let traffic = all.map(|(key, cores)| {
            let sum = |number: usize| cores.iter().map(|core| core[number]).sum();
            Traffic {
                peer: IpAddr::V6(key.into()).to_canonical(),
                sent: Tally {
                    packets: sum(0),
                    bytes: sum(1),
                },
                received: Tally {
                    packets: sum(2),
                    bytes: sum(3),
                },
            }
        });
        traffic.collect()
    }
}

fn cores() -> Result<usize, FastPathError> {
    nr_cpus().map_err(|(file, error)| FastPathError::new(file, &error))
}

fn key(peer: IpAddr) -> [u8; 16] {
    let addr: Ipv6Addr = match peer {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    };
    addr.octets()
}
