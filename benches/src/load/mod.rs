//! Load between two pods, and what it costs.

pub mod connect;
pub mod cpu;
pub mod figure;
pub mod flood;
pub mod iperf;
pub mod pingpong;
pub mod rounds;
pub mod segments;
mod sink;

pub use figure::Figure;

use cpu::{CpuTimes, ProcessTimes};
use pingpong::RoundTrip;
use std::time::Duration;
use weft_lab::{Error, Pod, Result, wait_until};

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Workload {
    /// iperf3, one TCP stream, first pod to second.
    Tcp1,
    /// iperf3, one TCP stream, second pod to first.
    Tcp1Reverse,
    /// iperf3, one TCP stream each way at the same time.
    Tcp1Both,
    /// iperf3, four TCP streams.
    Tcp4,
    /// iperf3, four TCP streams, second pod to first.
    Tcp4Reverse,
    /// iperf3, sixteen TCP streams.
    Tcp16,
    /// 64-byte UDP datagrams from a sender that hands the kernel 32 a call.
    Udp64,
    /// The same with 512 bytes.
    Udp512,
    /// The same with 1,400 bytes.
    Udp1400,
    /// One UDP datagram back and forth.
    PingPong,
    /// The same beside a TCP stream in the same direction.
    PingPongTcp1,
    /// TCP connections, made, accepted and closed.
    Connect,
}

impl Workload {
    /// All of them, in the order of reports.
    pub const ALL: [Workload; 12] = [
        Workload::Tcp1,
        Workload::Tcp1Reverse,
        Workload::Tcp1Both,
        Workload::Tcp4,
        Workload::Tcp4Reverse,
        Workload::Tcp16,
        Workload::Udp64,
        Workload::Udp512,
        Workload::Udp1400,
        Workload::PingPong,
        Workload::PingPongTcp1,
        Workload::Connect,
    ];

    /// Those that tell the most in a short time.
    pub const FEW: [Workload; 6] = [
        Workload::Tcp1,
        Workload::Tcp1Reverse,
        Workload::Tcp4,
        Workload::Tcp4Reverse,
        Workload::Udp64,
        Workload::PingPong,
    ];

    /// Name on a command line and in files.
    pub fn key(self) -> &'static str {
        match self {
            Workload::Tcp1 => "tcp1",
            Workload::Tcp1Reverse => "tcp1-reverse",
            Workload::Tcp1Both => "tcp1-both",
            Workload::Tcp4 => "tcp4",
            Workload::Tcp4Reverse => "tcp4-reverse",
            Workload::Tcp16 => "tcp16",
            Workload::Udp64 => "udp64",
            Workload::Udp512 => "udp512",
            Workload::Udp1400 => "udp1400",
            Workload::PingPong => "latency",
            Workload::PingPongTcp1 => "latency-tcp1",
            Workload::Connect => "connect",
        }
    }

    /// Name for people.
    pub fn title(self) -> &'static str {
        match self {
            Workload::Tcp1 => "TCP 1 stream",
            Workload::Tcp1Reverse => "TCP 1 reverse",
            Workload::Tcp1Both => "TCP 1 each way",
            Workload::Tcp4 => "TCP 4 streams",
            Workload::Tcp4Reverse => "TCP 4 reverse",
            Workload::Tcp16 => "TCP 16 streams",
            Workload::Udp64 => "UDP 64 B",
            Workload::Udp512 => "UDP 512 B",
            Workload::Udp1400 => "UDP 1400 B",
            Workload::PingPong => "UDP request/response",
            Workload::PingPongTcp1 => "UDP request/response beside TCP",
            Workload::Connect => "TCP connections",
        }
    }

    /// What it does, in one line.
    pub fn about(self) -> &'static str {
        match self {
            Workload::Tcp1 => "iperf3, one stream from the first pod to the second",
            Workload::Tcp1Reverse => "iperf3 -R, one stream from the second pod to the first",
            Workload::Tcp1Both => "iperf3 --bidir, one stream each way, both added up",
            Workload::Tcp4 => "iperf3 -P 4, all streams added up",
            Workload::Tcp4Reverse => "iperf3 -P 4 -R, all streams added up",
            Workload::Tcp16 => "iperf3 -P 16, all streams added up",
            Workload::Udp64 | Workload::Udp512 | Workload::Udp1400 => {
                "own sender at full speed, 32 datagrams a call; counted where they arrive"
            }
            Workload::PingPong => "64 bytes there and back, one at a time; round trips",
            Workload::PingPongTcp1 => {
                "the same beside one TCP stream from the first pod to the second"
            }
            Workload::Connect => "connect, accept, close; eight at any time",
        }
    }

    /// Whether iperf3 makes it, and leaves its JSON.
    pub fn is_iperf(self) -> bool {
        self.iperf().is_some()
    }

    /// Streams and direction, where iperf3 makes the load.
    fn iperf(self) -> Option<(u32, iperf::Direction)> {
        use iperf::Direction::{Back, Both, There};
        match self {
            Workload::Tcp1 => Some((1, There)),
            Workload::Tcp1Reverse => Some((1, Back)),
            Workload::Tcp1Both => Some((1, Both)),
            Workload::Tcp4 => Some((4, There)),
            Workload::Tcp4Reverse => Some((4, Back)),
            Workload::Tcp16 => Some((16, There)),
            Workload::Udp64
            | Workload::Udp512
            | Workload::Udp1400
            | Workload::PingPong
            | Workload::PingPongTcp1
            | Workload::Connect => None,
        }
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
            Workload::Udp64 => udp(from, to, time, 64),
            Workload::Udp512 => udp(from, to, time, 512),
            Workload::Udp1400 => udp(from, to, time, 1400),
            Workload::PingPong => ping_pong(from, to, time),
            Workload::PingPongTcp1 => ping_pong_beside(from, to, time),
            Workload::Connect => connections(from, to, time),
            _ => {
                let (streams, direction) = self.iperf().unwrap_or((1, iperf::Direction::There));
                tcp(from, to, time, streams, direction)
            }
        }?;
        result.cpu = CpuTimes::now()?.since(&cpu);
        result.processes = ProcessTimes::of(watched)?.since(&processes);
        Ok(result)
    }
}

/// What one run of a workload gave. What a load does not have is zero or none.
#[derive(Clone, Debug, Default)]
pub struct Measurement {
    /// Payload bits delivered, by the time they took.
    pub gbits_per_second: f64,
    /// Payload delivered, in Gbit.
    pub gbits: f64,
    /// Datagrams delivered, answers included, connections completed, or TCP segments sent,
    /// acknowledgements included and super-packets counted as what they are cut into.
    pub count: u64,
    /// What was sent for that: datagrams handed to the kernel, connections tried, segments.
    pub offered: u64,
    /// How long it took.
    pub seconds: f64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Times of single exchanges.
    pub round_trip: Option<RoundTrip>,
    /// What the whole machine spent meanwhile.
    pub cpu: CpuTimes,
    /// What the watched processes spent meanwhile.
    pub processes: ProcessTimes,
    /// The output of iperf3 as it was.
    pub iperf3: Option<String>,
}

impl Measurement {
    /// Core-seconds of the whole machine per Gbit delivered.
    pub fn core_seconds_per_gbit(&self) -> f64 {
        self.cpu.busy() / self.gbits
    }

    /// Core-seconds of the whole machine per million datagrams, connections or TCP segments.
    pub fn core_seconds_per_million(&self) -> f64 {
        self.cpu.busy() / (self.count as f64 / 1e6)
    }

    /// Thousands of datagrams or connections per second.
    pub fn thousands_per_second(&self) -> f64 {
        self.count as f64 / self.seconds / 1e3
    }

    /// The part that was offered and not delivered, in percent.
    pub fn lost_percent(&self) -> f64 {
        100.0 * (1.0 - self.count as f64 / self.offered as f64)
    }
}

fn tcp(
    from: &Pod,
    to: &Pod,
    time: Duration,
    streams: u32,
    direction: iperf::Direction,
) -> Result<Measurement> {
    let before = segments::sent(from)? + segments::sent(to)?;
    let result = iperf::run(from, to, time, streams, direction)?;
    let segments = segments::sent(from)? + segments::sent(to)? - before;
    Ok(Measurement {
        gbits_per_second: result.bits_per_second / 1e9,
        gbits: result.bits / 1e9,
        count: segments,
        offered: segments,
        seconds: time.as_secs_f64(),
        retransmits: result.retransmits,
        iperf3: Some(result.json),
        ..Measurement::default()
    })
}

fn udp(from: &Pod, to: &Pod, time: Duration, payload: usize) -> Result<Measurement> {
    let result = flood::run(from, to, time, payload)?;
    let gbits = result.delivered as f64 * payload as f64 * 8.0 / 1e9;
    Ok(Measurement {
        gbits_per_second: gbits / result.seconds,
        gbits,
        count: result.delivered,
        offered: result.sent,
        seconds: result.seconds,
        ..Measurement::default()
    })
}

fn ping_pong(from: &Pod, to: &Pod, time: Duration) -> Result<Measurement> {
    let result = pingpong::run(from, to, time)?;
    let gbits = result.exchanges as f64 * 2.0 * (pingpong::PAYLOAD * 8) as f64 / 1e9;
    Ok(Measurement {
        gbits_per_second: gbits / time.as_secs_f64(),
        gbits,
        count: result.exchanges * 2,
        offered: (result.exchanges + result.lost) * 2,
        seconds: time.as_secs_f64(),
        round_trip: Some(result.round_trip),
        ..Measurement::default()
    })
}

/// How long a stream may take to get going, and how much longer than a ping-pong it goes on.
const RUN_UP: Duration = Duration::from_secs(2);

/// TCP segments after which a stream is in full flow.
const FLOWING: u64 = 10_000;

/// A ping-pong for `time` while a stream flows.
fn ping_pong_beside(from: &Pod, to: &Pod, time: Duration) -> Result<Measurement> {
    let before = segments::sent(from)?;
    let flows = || segments::sent(from).is_ok_and(|sent| sent - before > FLOWING);
    std::thread::scope(|scope| {
        let stream = scope.spawn(|| tcp(from, to, time + RUN_UP, 1, iperf::Direction::There));
        wait_until(RUN_UP, flows);
        let answers = ping_pong(from, to, time);
        let stream = stream
            .join()
            .map_err(|_| Error::new("the thread of iperf3 panicked"))??;
        Ok(Measurement {
            round_trip: answers?.round_trip,
            iperf3: None,
            ..stream
        })
    })
}

fn connections(from: &Pod, to: &Pod, time: Duration) -> Result<Measurement> {
    let result = connect::run(from, to, time)?;
    Ok(Measurement {
        count: result.completed,
        offered: result.completed + result.failed,
        seconds: result.seconds,
        ..Measurement::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_and_fit_files() {
        for (i, workload) in Workload::ALL.iter().enumerate() {
            let key = workload.key();
            let others = &Workload::ALL[i + 1..];
            assert!(others.iter().all(|other| other.key() != key), "{key}");
            let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            assert!(key.bytes().all(fits), "{key}");
        }
    }

    #[test]
    fn rates_and_costs() {
        let measurement = Measurement {
            gbits: 4.0,
            count: 500_000,
            offered: 1_000_000,
            seconds: 2.0,
            cpu: CpuTimes {
                user: 1.0,
                system: 0.5,
                softirq: 0.5,
                idle: 9.0,
            },
            ..Measurement::default()
        };
        assert_eq!(measurement.core_seconds_per_gbit(), 0.5);
        assert_eq!(measurement.core_seconds_per_million(), 4.0);
        assert_eq!(measurement.thousands_per_second(), 250.0);
        assert_eq!(measurement.lost_percent(), 50.0);
    }
}
