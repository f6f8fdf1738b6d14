//! A TCP stream at full speed, until it is ended.

use crate::traffic::{connect, content};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use weft_lab::{Pod, uninterrupted, wait_until};

/// How long a number of bytes may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The bytes of a write.
const WRITE: usize = 64 << 10;

/// A stream whose receiver knows its content beforehand.
pub(crate) struct Stream {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    so_far: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<()>,
}

impl Stream {
    /// Start one between two pods that reach each other.
    pub(crate) fn start(from: &Pod, to: &Pod) -> Stream {
        let (mut client, mut server) = connect(from, to);
        let [stop, paused] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let so_far = Arc::new(AtomicU64::new(0));
        let mut pattern = vec![0; WRITE];
        content(7, 0, &mut pattern);
        let expected = pattern.clone();
        Stream {
            sender: std::thread::spawn({
                let (stop, paused) = (stop.clone(), paused.clone());
                move || send(&mut client, &pattern, &stop, &paused)
            }),
            receiver: std::thread::spawn({
                let so_far = so_far.clone();
                move || compare(&mut server, &expected, &so_far)
            }),
            stop,
            paused,
            so_far,
        }
    }

    /// Wait until so many bytes more have arrived.
    pub(crate) fn await_more(&self, bytes: u64) {
        let read = || self.so_far.load(Ordering::Relaxed);
        let goal = read() + bytes;
        let arrived = wait_until(PATIENCE, || read() >= goal);
        assert!(arrived, "the stream stands at {} of {goal} bytes", read());
    }

    /// Write nothing for as long as this is so.
    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    /// End it and expect all of it to have arrived.
    pub(crate) fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.sender.join().unwrap();
        self.receiver.join().unwrap();
        assert_eq!(self.so_far.load(Ordering::Relaxed), sent, "bytes");
    }
}

/// Send `pattern` over and over until `stop`; the number of bytes.
fn send(stream: &mut impl Write, pattern: &[u8], stop: &AtomicBool, paused: &AtomicBool) -> u64 {
    let mut sent = 0;
    while !stop.load(Ordering::SeqCst) {
        if paused.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        stream.write_all(pattern).unwrap();
        sent += pattern.len() as u64;
    }
    sent
}

/// Compare with `pattern`, over and over.
fn compare(stream: &mut impl Read, pattern: &[u8], so_far: &AtomicU64) {
    let mut buffer = vec![0; WRITE];
    let mut at = 0;
    loop {
        let room = WRITE - at;
        let len = uninterrupted(|| stream.read(&mut buffer[..room])).unwrap();
        if len == 0 {
            return;
        }
        let expected = &pattern[at..at + len];
        assert!(buffer[..len] == *expected, "the stream differs");
        at = (at + len) % WRITE;
        so_far.fetch_add(len as u64, Ordering::Relaxed);
    }
}
