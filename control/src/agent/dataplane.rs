//! The agent's only contact with the packet workers: how many of them, how they are started
//! and stopped, what they have counted.

use super::AgentError;
use crate::host::iface::Underlay;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use weft_dataplane::route::publish::Publisher;
use weft_dataplane::stats;
use weft_dataplane::sys::tun::{Offloads, Tun};
use weft_dataplane::worker;

/// Send sockets per worker. Each has a source port of its own, which is what spreads flows
/// over the links and receive queues between two nodes.
const TX_SOCKETS: usize = 8;

/// The most workers started by default; beyond them the TUN's flow table is the limit.
const WORKERS_MAX: usize = 8;

/// How the cores are shared between the workers and everyone else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Workers, each with its own TUN queue and receive socket.
    pub(super) workers: usize,
    /// Whether each worker keeps to one core.
    pub(super) pin: bool,
}

impl Layout {
    /// The layout for this machine.
    pub(super) fn detect() -> Layout {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Layout::of_cores(cores)
    }

    /// Half of the cores carry packets. Workers are pinned only where at least as many cores
    /// again stay free: on a smaller machine the scheduler must be able to move them.
    fn of_cores(cores: usize) -> Layout {
        let workers = (cores / 2).clamp(1, WORKERS_MAX);
        Layout {
            workers,
            pin: cores > workers * 2,
        }
    }
}

/// Create the tunnel device, or attach to the one left by an earlier run.
pub(super) fn open_device(name: &str, layout: Layout) -> Result<Tun, AgentError> {
    let offloads = Offloads {
        tso: true,
        uso: true,
    };
    Ok(Tun::open(name, layout.workers, offloads)?)
}

/// The running workers.
pub(super) struct Dataplane(worker::Dataplane);

impl Dataplane {
    /// Start the workers on `tun`; they take their tables from `publisher`.
    pub(super) fn start(
        tun: Tun,
        layout: Layout,
        underlay: &Underlay,
        port: u16,
        mtu: u32,
        publisher: &Publisher,
    ) -> Result<Dataplane, AgentError> {
        let config = worker::Config {
            queues: layout.workers,
            local: SocketAddr::from((underlay.addr, 0)),
            port,
            mtu: mtu as usize,
            tx_sockets: TX_SOCKETS,
            udp_gso: true,
            udp_gro: true,
            pin: layout.pin,
        };
        let dataplane = worker::Dataplane::start(tun, config, publisher)?;
        Ok(Dataplane(dataplane))
    }

    /// Why a worker ended that nobody stopped.
    pub(super) fn failed(&self) -> Option<String> {
        self.0.failed()
    }

    /// All non-zero counters and drop reasons on one line.
    pub(super) fn counters(&self) -> String {
        let sums = stats::summary(self.0.stats());
        let mut line = String::from("counters:");
        for (name, sum) in sums {
            line.push_str(&format!(" {name}={sum}"));
        }
        line
    }

    /// Stop the workers and wait for them. The device stays, with its address and route.
    pub(super) fn stop(self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_cores_carry_packets() {
        let layout = |cores| {
            let Layout { workers, pin } = Layout::of_cores(cores);
            (workers, pin)
        };
        assert_eq!(layout(1), (1, false));
        assert_eq!(layout(2), (1, false));
        assert_eq!(layout(3), (1, true));
        assert_eq!(layout(8), (4, false));
        assert_eq!(layout(64), (8, true));
    }
}
