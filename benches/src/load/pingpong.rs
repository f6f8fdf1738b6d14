//! One UDP datagram at a time, back and forth: latency without load.

use crate::lab::{Error, Pod, Result};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes of each datagram.
pub const PAYLOAD: usize = 64;

/// After this long without a reply the datagram counts as lost.
const REPLY_LIMIT: Duration = Duration::from_millis(200);

/// Round trips kept; further ones only count.
const MAX_SAMPLES: usize = 1 << 20;

/// What a ping-pong gave. Times are one way, that is half a round trip, as sockperf says it.
#[derive(Clone, Copy, Debug)]
pub struct PingPong {
    /// Round trips completed.
    pub exchanges: u64,
    /// Datagrams without a reply.
    pub lost: u64,
    /// Median one-way time in microseconds.
    pub median_us: f64,
    /// 99th percentile in microseconds.
    pub p99_us: f64,
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
    nanos: Vec<u64>,
    exchanges: u64,
    lost: u64,
}

impl Trips {
    fn summary(mut self) -> Result<PingPong> {
        if self.nanos.is_empty() {
            let lost = self.lost;
            return Err(Error::new(format!("UDP ping-pong: {lost} sent, no reply")));
        }
        self.nanos.sort_unstable();
        let one_way = |quantile: f64| {
            let index = (self.nanos.len() - 1) as f64 * quantile;
            self.nanos[index as usize] as f64 / 2e3
        };
        Ok(PingPong {
            exchanges: self.exchanges,
            lost: self.lost,
            median_us: one_way(0.5),
            p99_us: one_way(0.99),
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
    let mut trips = Trips {
        nanos: Vec::with_capacity(MAX_SAMPLES),
        exchanges: 0,
        lost: 0,
    };
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
            trips.exchanges += 1;
            if trips.nanos.len() < MAX_SAMPLES {
                trips.nanos.push(start.elapsed().as_nanos() as u64);
            }
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
        assert!(result.median_us > 0.0 && result.median_us <= result.p99_us);
    }

    #[test]
    fn silence_is_an_error() {
        let trips = Trips {
            nanos: Vec::new(),
            exchanges: 0,
            lost: 3,
        };
        let error = trips.summary().unwrap_err().to_string();
        assert_eq!(error, "UDP ping-pong: 3 sent, no reply");
    }

    #[test]
    fn times_are_half_a_round_trip() {
        let trips = Trips {
            nanos: (1..=101).rev().map(|us| us * 1000).collect(),
            exchanges: 101,
            lost: 0,
        };
        let result = trips.summary().unwrap();
        assert_eq!(result.median_us, 25.5);
        assert_eq!(result.p99_us, 50.0);
    }
}
