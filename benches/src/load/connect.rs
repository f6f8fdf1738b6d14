//! TCP connections made and closed again, as many as go.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use weft_lab::{Error, Pod, Result};

/// Connections under way at any time.
pub const AT_ONCE: usize = 8;

/// A connection that takes longer has failed: a lost SYN is sent again after one second.
const LIMIT: Duration = Duration::from_secs(2);

/// What a run gave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Connections {
    /// Made, accepted and closed on both sides.
    pub completed: u64,
    /// Refused, reset or too slow.
    pub failed: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Connect from one pod to the other for `time`. The accepting side closes at once; the other
/// waits for that and closes, too, and so the ports that rest afterwards are the server's.
pub fn run(from: &Pod, to: &Pod, time: Duration) -> Result<Connections> {
    let failed = |e: io::Error| Error::because("TCP connections", e);
    let listener = to
        .ns
        .enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))?
        .map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let server = SocketAddr::from((to.address, port));
    let result = from.ns.enter(|| cycle(&listener, server, time))?;
    let result = result.map_err(failed)?;
    if result.completed == 0 {
        let count = result.failed;
        return Err(Error::new(format!("TCP connections: all {count} failed")));
    }
    Ok(result)
}

/// Accept on one thread and connect on [`AT_ONCE`] others.
fn cycle(listener: &TcpListener, server: SocketAddr, time: Duration) -> io::Result<Connections> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| accept(listener, &done));
        let start = Instant::now();
        let clients: Vec<_> = (0..AT_ONCE)
            .map(|_| scope.spawn(move || connect(server, start + time)))
            .collect();
        let mut sum = Connections::default();
        for client in clients {
            let (completed, failed) = client.join().unwrap_or_default();
            sum.completed += completed;
            sum.failed += failed;
        }
        sum.seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        wake(listener)?;
        // It ends: either it has accepted since, or shutdown has woken it.
        accepting.join().unwrap_or(Ok(()))?;
        Ok(sum)
    })
}

/// End a blocking accept, from whichever namespace: shut the listener down.
fn wake(listener: &TcpListener) -> io::Result<()> {
    rustix::net::shutdown(listener, rustix::net::Shutdown::Read).map_err(io::Error::from)
}

fn accept(listener: &TcpListener, done: &AtomicBool) -> io::Result<()> {
    while !done.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => drop(stream),
            Err(_) if done.load(Ordering::Relaxed) => break,
            // A connection that was reset while it waited.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Completed and failed connections until `end`.
fn connect(server: SocketAddr, end: Instant) -> (u64, u64) {
    let (mut completed, mut failed) = (0, 0);
    while Instant::now() < end {
        match once(server) {
            Ok(()) => completed += 1,
            Err(_) => failed += 1,
        }
    }
    (completed, failed)
}

fn once(server: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_over_loopback_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let result = cycle(&listener, server, Duration::from_millis(100)).unwrap();
        assert!(result.completed > 10 && result.failed == 0, "{result:?}");
        assert!(result.seconds >= 0.1);
    }

    #[test]
    fn refusals_are_failures() {
        // An address and a port that nobody is given by chance.
        let server = SocketAddr::from(([127, 99, 0, 1], 1));
        let (completed, failed) = connect(server, Instant::now() + Duration::from_millis(20));
        assert_eq!(completed, 0);
        assert!(failed > 0);
    }
}
