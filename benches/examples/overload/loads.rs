//! What is measured beside a flood.

use crate::HEALTH;
use std::fmt;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weft_benches::load::iperf::{self, Direction};
use weft_benches::load::pingpong::{self, PingPong};
use weft_lab::{Error, Namespace, Pod, Result};

/// How long each is measured.
const TIME: Duration = Duration::from_secs(2);

/// Datagrams of the stream each millisecond.
const EVERY_MS: u64 = 2;

/// What the loads had.
pub(crate) struct Loads {
    /// Datagrams a second of the flood itself.
    pub(crate) flood: f64,
    /// What the agent dropped meanwhile, by name.
    pub(crate) drops: Vec<(String, u64)>,
    sent: u64,
    received: u64,
    ping: Option<PingPong>,
    tcp: f64,
    /// Longest answer of `/healthz`.
    health: Option<Duration>,
}

impl Loads {
    pub(crate) const TITLE: &str = "flood kpps | stream arrived % | round trip median p99 us, lost | TCP Gbit/s | healthz ms at most | drops";

    /// Measure all loads between two pods, and the agent of `health`.
    pub(crate) fn measure(from: &Pod, to: &Pod, health: Option<&Namespace>) -> Result<Loads> {
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| health.map(|ns| longest_answer(ns, &done)));
            let streaming = scope.spawn(|| stream(from, to));
            // Nothing came back.
            let ping = pingpong::run(from, to, TIME).ok();
            let (sent, received) = streaming
                .join()
                .map_err(|_| Error::new("the stream panicked"))??;
            // It may stand still for longer than iperf3 waits.
            let tcp = iperf::run(from, to, TIME, 1, Direction::There);
            done.store(true, Ordering::SeqCst);
            let health = asking.join().map_err(|_| Error::new("healthz panicked"))?;
            Ok(Loads {
                flood: 0.0,
                drops: Vec::new(),
                sent,
                received,
                ping,
                tcp: tcp.map_or(0.0, |tcp| tcp.bits_per_second / 1e9),
                health: health.transpose()?,
            })
        })
    }
}

impl fmt::Display for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = 100.0 * self.received as f64 / self.sent.max(1) as f64;
        write!(f, "{:4.0} | {part:5.1} | ", self.flood / 1e3)?;
        match &self.ping {
            Some(ping) => {
                let trip = ping.round_trip;
                let (median, p99) = (trip.median_us, trip.p99_us);
                write!(f, "{median:6.0} {p99:6.0} {:3}", ping.lost)?;
            }
            None => write!(f, "none")?,
        }
        write!(f, " | {:5.2} | ", self.tcp)?;
        match self.health {
            Some(longest) => write!(f, "{:3.0}", longest.as_secs_f64() * 1e3)?,
            None => write!(f, "  -")?,
        }
        write!(f, " |")?;
        for (name, count) in &self.drops {
            write!(f, " {name}={count}")?;
        }
        Ok(())
    }
}

/// Send datagrams at a modest rate; how many went and came.
fn stream(from: &Pod, to: &Pod) -> Result<(u64, u64)> {
    let failed = |e| Error::because("UDP stream", e);
    let open = |pod: &Pod| {
        let socket = pod
            .ns
            .enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
        socket.map_err(failed)
    };
    let (sender, receiver) = (open(from)?, open(to)?);
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&receiver, 8 << 20);
    let port = receiver.local_addr().map_err(failed)?.port();
    sender.connect((to.address, port)).map_err(failed)?;
    receiver
        .set_read_timeout(Some(Duration::from_millis(300)))
        .map_err(failed)?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let receiving = scope.spawn(|| {
            let (mut received, mut bytes) = (0, [0; 64]);
            loop {
                match receiver.recv(&mut bytes) {
                    Ok(_) => received += 1,
                    Err(_) if done.load(Ordering::SeqCst) => return received,
                    Err(_) => {}
                }
            }
        });
        let (start, mut sent) = (Instant::now(), 0);
        while start.elapsed() < TIME {
            std::thread::sleep(Duration::from_millis(1));
            for _ in 0..EVERY_MS {
                // What is refused counts as lost.
                let _ = sender.send(&[0x55; 64]);
                sent += 1;
            }
        }
        done.store(true, Ordering::SeqCst);
        let received = receiving.join();
        Ok((
            sent,
            received.map_err(|_| Error::new("the stream panicked"))?,
        ))
    })
}

/// Ask for `/healthz` again and again until `done`; how long the slowest answer took.
fn longest_answer(ns: &Namespace, done: &AtomicBool) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    while !done.load(Ordering::SeqCst) {
        let start = Instant::now();
        let answer = ns.enter(|| -> std::io::Result<String> {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, HEALTH))?;
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        let answer = answer.map_err(|e| Error::because("/healthz", e))?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(Error::because("/healthz", answer));
        }
        longest = longest.max(start.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(longest)
}
