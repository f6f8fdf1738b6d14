//! Traffic that runs while something else happens, and what became of it.

use crate::traffic::{connect, content};
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weft_lab::{Pod, uninterrupted};

/// Time between two datagrams, or two writes of the stream.
const PACE: Duration = Duration::from_millis(5);

/// The shortest time that says anything.
const AT_LEAST: Duration = Duration::from_secs(1);

/// How long an answer may take.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// The longest silence of the stream that is not called a stall. Far above the pace, and
/// that of a busy machine, but below what a lost route costs.
const STALL: Duration = Duration::from_secs(2);

/// Datagrams echoed and a TCP stream between two pods, until [`Probe::finish`].
pub(crate) struct Probe {
    start: Instant,
    /// Ask no more, send no more.
    stop: Arc<AtomicBool>,
    /// Answer no more.
    silence: Arc<AtomicBool>,
    echo: JoinHandle<()>,
    asker: JoinHandle<(u64, BTreeSet<u64>)>,
    sender: JoinHandle<usize>,
    receiver: JoinHandle<(usize, Duration)>,
}

impl Probe {
    /// Start both between two pods that reach each other.
    pub(crate) fn start(from: &Pod, to: &Pod) -> Probe {
        let [stop, silence] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let bind = |pod: &Pod| {
            let socket = pod.ns.enter(|| UdpSocket::bind((pod.address, 0)));
            let socket = socket.unwrap().unwrap();
            socket.set_read_timeout(Some(PACE)).unwrap();
            socket
        };
        let (client, server) = (bind(from), bind(to));
        client.connect(server.local_addr().unwrap()).unwrap();
        let (mut tx, mut rx) = connect(from, to);
        let flag = || stop.clone();
        Probe {
            start: Instant::now(),
            echo: std::thread::spawn({
                let silence = silence.clone();
                move || echo(&server, &silence)
            }),
            asker: std::thread::spawn({
                let stop = flag();
                move || ask(&client, &stop)
            }),
            sender: std::thread::spawn({
                let stop = flag();
                move || send(&mut tx, &stop)
            }),
            receiver: std::thread::spawn(move || receive(&mut rx)),
            stop,
            silence,
        }
    }

    /// Stop, and expect that no datagram was lost and the stream came through unaltered
    /// and without a stall.
    pub(crate) fn finish(self) {
        self.finish_losing(0);
    }

    /// As [`Probe::finish`], but as many datagrams may be lost as are sent before it is a stall.
    pub(crate) fn finish_with_gap(self) {
        self.finish_losing((STALL.as_millis() / PACE.as_millis()) as usize);
    }

    fn finish_losing(self, at_most: usize) {
        std::thread::sleep(AT_LEAST.saturating_sub(self.start.elapsed()));
        self.stop.store(true, Ordering::SeqCst);
        let (asked, lost) = self.asker.join().unwrap();
        self.silence.store(true, Ordering::SeqCst);
        self.echo.join().unwrap();
        let sent = self.sender.join().unwrap();
        let (received, silence) = self.receiver.join().unwrap();
        assert!(
            sent > 0 && asked > 0,
            "{sent} bytes and {asked} datagrams sent"
        );
        let losses = lost.len();
        assert!(losses <= at_most, "{losses} datagrams lost: {lost:?}");
        assert_eq!(sent, received, "bytes of the stream");
        assert!(silence < STALL, "the stream was silent for {silence:?}");
    }
}

/// Answer until nobody waits for an answer any more.
fn echo(socket: &UdpSocket, silence: &AtomicBool) {
    let mut buffer = [0; 64];
    while !silence.load(Ordering::SeqCst) {
        match uninterrupted(|| socket.recv_from(&mut buffer)) {
            Ok((len, from)) => {
                // A refusal shows as a lost datagram on the other side.
                let _ = socket.send_to(&buffer[..len], from);
            }
            Err(error) => assert!(is_timeout(&error), "{error}"),
        }
    }
}

/// Send numbers and cross off those that come back; how many, and the rest.
fn ask(socket: &UdpSocket, stop: &AtomicBool) -> (u64, BTreeSet<u64>) {
    let mut open = BTreeSet::new();
    let mut next = 0u64;
    let mut last = Instant::now();
    loop {
        let stopping = stop.load(Ordering::SeqCst);
        if stopping && (open.is_empty() || last.elapsed() > LAST_ANSWERS) {
            return (next, open);
        }
        if !stopping && last.elapsed() >= PACE {
            last = Instant::now();
            // An ICMP error of an earlier datagram may be reported here; it stays open.
            let _ = socket.send(&next.to_be_bytes());
            open.insert(next);
            next += 1;
        }
        let mut buffer = [0; 8];
        if socket.recv(&mut buffer).is_ok() {
            open.remove(&u64::from_be_bytes(buffer));
        }
    }
}

/// Send the stream at its pace; the number of bytes.
fn send(stream: &mut impl Write, stop: &AtomicBool) -> usize {
    let mut buffer = vec![0; 32 << 10];
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        content(99, sent, &mut buffer);
        stream.write_all(&buffer).unwrap();
        sent += buffer.len();
        std::thread::sleep(PACE);
    }
    sent
}

/// Compare the stream to its end; number of bytes and the longest silence.
fn receive(stream: &mut impl Read) -> (usize, Duration) {
    let mut buffer = vec![0; 64 << 10];
    let mut expected = buffer.clone();
    let (mut received, mut longest) = (0, Duration::ZERO);
    loop {
        let before = Instant::now();
        let len = uninterrupted(|| stream.read(&mut buffer)).unwrap();
        longest = longest.max(before.elapsed());
        if len == 0 {
            return (received, longest);
        }
        content(99, received, &mut expected[..len]);
        assert!(
            buffer[..len] == expected[..len],
            "the stream differs from byte {received} on"
        );
        received += len;
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
