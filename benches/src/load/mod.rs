//! Load between two pods, and what it costs.

pub mod cpu;
pub mod flood;
pub mod iperf;
pub mod pingpong;
pub mod rounds;

use crate::lab::{Pod, Result};
use cpu::{CpuTimes, ProcessTimes};
use std::time::Duration;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Workload {
    /// iperf3, one TCP stream, first pod to second.
    Tcp1,
    /// iperf3, one TCP stream, second pod to first.
    Tcp1Reverse,
    /// iperf3, four TCP streams.
    Tcp4,
    /// iperf3, four TCP streams, second pod to first.
    Tcp4Reverse,
    /// 64-byte UDP datagrams from a sender that hands the kernel 32 a call.
    Udp64,
    /// One UDP datagram back and forth.
    PingPong,
}

impl Workload {
    /// All of them, in the order of the report's rows.
    pub const ALL: [Workload; 6] = [
        Workload::Tcp1,
        Workload::Tcp1Reverse,
        Workload::Tcp4,
        Workload::Tcp4Reverse,
        Workload::Udp64,
        Workload::PingPong,
    ];

    /// Name and unit for people.
    pub fn name(self) -> &'static str {
        match self {
            Workload::Tcp1 => "TCP 1 stream, Gbit/s",
            Workload::Tcp1Reverse => "TCP 1 reverse, Gbit/s",
            Workload::Tcp4 => "TCP 4 streams, Gbit/s",
            Workload::Tcp4Reverse => "TCP 4 reverse, Gbit/s",
            Workload::Udp64 => "UDP 64 B, kpps",
            Workload::PingPong => "UDP one way, us",
        }
    }

    /// Whether a smaller value is the better one.
    pub fn lower_is_better(self) -> bool {
        self == Workload::PingPong
    }

    /// Put this load on the path between two pods for `time` and measure. `watched` are the
    /// processes whose CPU time is accounted by itself.
    pub fn measure(
        self,
        from: &Pod,
        to: &Pod,
        time: Duration,
        watched: &[u32],
    ) -> Result<Measurement> {
        let (cpu, processes) = (CpuTimes::now()?, ProcessTimes::of(watched)?);
        let mut result = match self {
            Workload::Tcp1 => tcp(from, to, time, 1, false),
            Workload::Tcp1Reverse => tcp(from, to, time, 1, true),
            Workload::Tcp4 => tcp(from, to, time, 4, false),
            Workload::Tcp4Reverse => tcp(from, to, time, 4, true),
            Workload::Udp64 => udp(from, to, time),
            Workload::PingPong => ping_pong(from, to, time),
        }?;
        result.cpu = CpuTimes::now()?.since(&cpu);
        result.processes = ProcessTimes::of(watched)?.since(&processes);
        Ok(result)
    }
}

/// What one run of a workload gave.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    /// In the unit of [`Workload::name`].
    pub value: f64,
    /// Application bytes delivered, in Gbit.
    pub gbits: f64,
    /// TCP segments sent again; zero for UDP.
    pub retransmits: u64,
    /// What the whole machine spent meanwhile.
    pub cpu: CpuTimes,
    /// What the watched processes spent meanwhile.
    pub processes: ProcessTimes,
}

impl Measurement {
    /// Core-seconds of the whole machine per Gbit delivered.
    pub fn core_seconds_per_gbit(&self) -> f64 {
        self.cpu.busy() / self.gbits
    }
}

fn tcp(from: &Pod, to: &Pod, time: Duration, streams: u32, reverse: bool) -> Result<Measurement> {
    let result = iperf::run(from, to, time, streams, reverse)?;
    Ok(Measurement {
        value: result.bits_per_second / 1e9,
        gbits: result.bits / 1e9,
        retransmits: result.retransmits,
        ..Measurement::default()
    })
}

fn udp(from: &Pod, to: &Pod, time: Duration) -> Result<Measurement> {
    let result = flood::run(from, to, time, 64)?;
    Ok(Measurement {
        value: result.delivered as f64 / result.seconds / 1e3,
        gbits: result.delivered as f64 * 64.0 * 8.0 / 1e9,
        ..Measurement::default()
    })
}

fn ping_pong(from: &Pod, to: &Pod, time: Duration) -> Result<Measurement> {
    let result = pingpong::run(from, to, time)?;
    Ok(Measurement {
        value: result.median_us,
        gbits: result.exchanges as f64 * 2.0 * (pingpong::PAYLOAD * 8) as f64 / 1e9,
        ..Measurement::default()
    })
}
