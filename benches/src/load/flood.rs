//! As many UDP datagrams as one sending thread can make, 32 in each `sendmmsg`.

use super::sink::Sink;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weft_lab::{Error, Pod, Result};

/// Datagrams of one `sendmmsg`.
const SEND_BATCH: usize = 32;
/// Receive buffer of the sink in bytes: losses are to happen on the path, not here.
const SINK_BUFFER: usize = 32 << 20;
/// How long the sink waits for stragglers.
const DRAIN: Duration = Duration::from_millis(100);

/// What a flood gave.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Datagrams that the kernel took from the sender.
    pub sent: u64,
    /// Datagrams of the right length that reached the sink.
    pub delivered: u64,
    /// How long the sender sent.
    pub seconds: f64,
}

/// Send datagrams of `payload` bytes from one pod to the other for `time`.
pub fn run(from: &Pod, to: &Pod, time: Duration, payload: usize) -> Result<Flood> {
    let open = |pod: &Pod| -> Result<UdpSocket> {
        pod.ns
            .enter(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?
            .map_err(|e| Error::because("cannot open a UDP socket", e))
    };
    let (sender, sink) = (open(from)?, open(to)?);
    prepare(&sender, &sink, to.address).map_err(|e| Error::because("UDP flood", e))?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let counting = scope.spawn(|| count(&sink, payload, &done));
        let start = Instant::now();
        let sent = send(&sender, payload, start + time);
        let seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        let delivered = counting
            .join()
            .map_err(|_| Error::new("the sink panicked"))?;
        Ok(Flood {
            sent: sent.map_err(|e| Error::because("UDP flood", e))?,
            delivered: delivered.map_err(|e| Error::because("UDP sink", e))?,
            seconds,
        })
    })
}

fn prepare(sender: &UdpSocket, sink: &UdpSocket, to: Ipv4Addr) -> io::Result<()> {
    rustix::net::sockopt::set_socket_recv_buffer_size_force(sink, SINK_BUFFER)?;
    sink.set_read_timeout(Some(DRAIN))?;
    let port = sink.local_addr()?.port();
    sender.connect(SocketAddr::from((to, port)))
}

/// Send until `end`; how many went.
fn send(socket: &UdpSocket, payload: usize, end: Instant) -> io::Result<u64> {
    let bytes = vec![0x77; payload];
    let parts = [IoSlice::new(&bytes)];
    let mut controls: [_; SEND_BATCH] = std::array::from_fn(|_| SendAncillaryBuffer::default());
    let mut batch = controls.each_mut().map(|none| MMsgHdr::new(&parts, none));
    let mut sent = 0;
    while Instant::now() < end {
        match sendmmsg(socket, &mut batch, SendFlags::empty()).map_err(io::Error::from) {
            Ok(count) => sent += count as u64,
            Err(e) if is_passing(&e) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(sent)
}

/// Full queues, and ICMP errors that concern an earlier datagram.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    ) || error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Count datagrams of `payload` bytes until `done` and nothing more comes.
fn count(socket: &UdpSocket, payload: usize, done: &AtomicBool) -> io::Result<u64> {
    let mut sink = Sink::new(payload + 1);
    let mut delivered = 0;
    loop {
        match sink.take(socket.as_fd()) {
            Ok(lengths) => delivered += lengths.filter(|&len| len == payload).count() as u64,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                if done.load(Ordering::Relaxed) {
                    return Ok(delivered);
                }
            }
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_over_loopback_is_counted() {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
        sink.set_read_timeout(Some(DRAIN)).unwrap();
        sender.connect(sink.local_addr().unwrap()).unwrap();
        let done = AtomicBool::new(false);
        let (sent, delivered) = std::thread::scope(|scope| {
            let counting = scope.spawn(|| count(&sink, 64, &done));
            let end = Instant::now() + Duration::from_millis(50);
            let sent = send(&sender, 64, end).unwrap();
            sender.send(b"of another length").unwrap();
            done.store(true, Ordering::Relaxed);
            (sent, counting.join().unwrap().unwrap())
        });
        assert!(sent >= SEND_BATCH as u64);
        assert!(delivered > 0 && delivered <= sent);
    }
}
