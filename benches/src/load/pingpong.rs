//! One UDP datagram at a time, back and forth: latency without load.

use hdrhistogram::Histogram;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weft_lab::{Error, Pod, Result};

/// Bytes of each datagram.
pub const PAYLOAD: usize = 64;

/// After this long without a reply the datagram counts as lost.
const REPLY_LIMIT: Duration = Duration::from_millis(200);

/// Longest round trip that the histogram holds, in nanoseconds: the limit and some more.
const LONGEST: u64 = 1_000_000_000;

/// Digits that the histogram keeps of each time.
const DIGITS: u8 = 3;

/// What a ping-pong gave.
#[derive(Clone, Copy, Debug)]
pub struct PingPong {
    /// Round trips completed.
    pub exchanges: u64,
    /// Datagrams without a reply.
    pub lost: u64,
    /// How long they took.
    pub round_trip: RoundTrip,
}

/// Quantiles of the time there and back, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// Half of them took no longer.
    pub median_us: f64,
    /// 99 of 100 took no longer.
    pub p99_us: f64,
    /// 999 of 1,000 took no longer.
    pub p999_us: f64,
}

/// Exchange datagrams between two pods for `time`.
pub fn run(from: &Pod, to: &Pod, time: Duration) -> Result<PingPong> {
    let open = |pod: &Pod| -> Result<UdpSocket> {
        pod.ns
            .enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?
            .map_err(|e| Error::because("cannot open a UDP socket", e))
    };
    let (client, server) = (open(from)?, open(to)?);
    let failed = |e: io::Error| Error::because("UDP ping-pong", e);
    let port = server.local_addr().map_err(failed)?.port();
    client.connect((to.address, port)).map_err(failed)?;
    exchange(&client, &server, time).map_err(failed)?.summary()
}

/// Round-trip times in nanoseconds.
struct Trips {
    nanos: Histogram<u64>,
    lost: u64,
}

impl Trips {
    fn new() -> io::Result<Trips> {
        let nanos = Histogram::new_with_bounds(1, LONGEST, DIGITS).map_err(io::Error::other)?;
        Ok(Trips { nanos, lost: 0 })
    }

    fn summary(&self) -> Result<PingPong> {
        if self.nanos.is_empty() {
            let lost = self.lost;
            return Err(Error::new(format!("UDP ping-pong: {lost} sent, no reply")));
        }
        let quantile = |quantile: f64| self.nanos.value_at_quantile(quantile) as f64 / 1e3;
        Ok(PingPong {
            exchanges: self.nanos.len(),
            lost: self.lost,
            round_trip: RoundTrip {
                median_us: quantile(0.5),
                p99_us: quantile(0.99),
                p999_us: quantile(0.999),
            },
        })
    }
}

fn exchange(client: &UdpSocket, server: &UdpSocket, time: Duration) -> io::Result<Trips> {
    client.set_read_timeout(Some(REPLY_LIMIT))?;
    server.set_read_timeout(Some(Duration::from_millis(50)))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| serve(server, &done));
        let trips = ask(client, Instant::now() + time);
        done.store(true, Ordering::Relaxed);
        trips
    })
}

/// Send everything back until `done`.
fn serve(socket: &UdpSocket, done: &AtomicBool) {
    let mut buffer = [0; PAYLOAD];
    while !done.load(Ordering::Relaxed) {
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            // A reply that cannot be sent is one that the client finds lost.
            let _ = socket.send_to(&buffer[..len], from);
        }
    }
}

fn ask(socket: &UdpSocket, end: Instant) -> io::Result<Trips> {
    let mut trips = Trips::new()?;
    let mut datagram = [0; PAYLOAD];
    let mut number = 0u64;
    loop {
        let start = Instant::now();
        if start >= end {
            return Ok(trips);
        }
        number += 1;
        datagram[..8].copy_from_slice(&number.to_be_bytes());
        socket.send(&datagram)?;
        if await_reply(socket, number, start)? {
            trips
                .nanos
                .saturating_record(start.elapsed().as_nanos() as u64);
        } else {
            trips.lost += 1;
        }
    }
}

/// Whether the reply of this number came in time; late ones of earlier numbers are skipped.
fn await_reply(socket: &UdpSocket, number: u64, start: Instant) -> io::Result<bool> {
    let mut buffer = [0; PAYLOAD];
    while start.elapsed() < REPLY_LIMIT {
        match socket.recv(&mut buffer) {
            Ok(PAYLOAD) if buffer[..8] == number.to_be_bytes() => return Ok(true),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers() {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let trips = exchange(&client, &server, Duration::from_millis(50)).unwrap();
        let result = trips.summary().unwrap();
        assert!(result.exchanges > 10 && result.lost == 0);
        let RoundTrip {
            median_us,
            p99_us,
            p999_us,
        } = result.round_trip;
        assert!(median_us > 0.0 && median_us <= p99_us && p99_us <= p999_us);
    }

    #[test]
    fn silence_is_an_error() {
        let mut trips = Trips::new().unwrap();
        trips.lost = 3;
        let error = trips.summary().unwrap_err().to_string();
        assert_eq!(error, "UDP ping-pong: 3 sent, no reply");
    }

    #[test]
    fn quantiles_are_those_of_the_times() {
        let mut trips = Trips::new().unwrap();
        for us in 1..=1000 {
            trips.nanos.record(us * 1000).unwrap();
        }
        let result = trips.summary().unwrap();
        assert_eq!(result.exchanges, 1000);
        let RoundTrip {
            median_us,
            p99_us,
            p999_us,
        } = result.round_trip;
        for (found, expected) in [(median_us, 500.0), (p99_us, 990.0), (p999_us, 999.0)] {
            let error: f64 = (found - expected) / expected;
            assert!(error.abs() < 2e-3, "{found} for {expected}");
        }
    }
}
