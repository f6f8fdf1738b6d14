//! UDP datagrams with numbers between two pods, and what became of them and of their order.

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use weft_lab::{Pod, uninterrupted, wait_until};

/// How long the receiver waits for what may still come.
const DRAIN: Duration = Duration::from_millis(300);

/// Receive buffer of a stream in bytes: losses are to happen on the way, not here.
const BUFFER: usize = 32 << 20;

/// How long a number of datagrams may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Datagrams at once after the sender was held up: few enough for every queue on the way.
const BURST: u64 = 16;

/// Bytes of a datagram.
const LEN: usize = 64;

/// What came.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Received {
    pub(crate) count: u64,
    /// How many of them came after one with a higher number.
    pub(crate) late: u64,
    /// The longest time between two of them.
    pub(crate) gap: Duration,
}

/// Receive until `done` and nothing comes any more. `so_far` learns of each.
pub(crate) fn receive(socket: &UdpSocket, done: &AtomicBool, so_far: &AtomicU64) -> Received {
    let (mut received, mut highest) = (Received::default(), 0);
    let mut last = None;
    let mut bytes = [0; 2048];
    loop {
        match uninterrupted(|| socket.recv(&mut bytes)) {
            Ok(_) => {
                let number = u64::from_be_bytes(*bytes.first_chunk().unwrap());
                received.count += 1;
                received.late += u64::from(number < highest);
                let now = Instant::now();
                let gap = last.replace(now).map_or(Duration::ZERO, |last| now - last);
                received.gap = received.gap.max(gap);
                highest = highest.max(number);
                so_far.store(received.count, Ordering::Relaxed);
            }
            Err(_) if done.load(Ordering::SeqCst) => return received,
            Err(_) => {}
        }
    }
}

/// A stream of numbered datagrams, until [`Numbered::finish`].
pub(crate) struct Numbered {
    /// Datagrams per second, or 0 for silence.
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    so_far: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Received>,
}

/// What became of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) late: u64,
    pub(crate) lost: u64,
}

impl Numbered {
    /// Start one of `rate` datagrams a second, or fewer if the machine is busy.
    pub(crate) fn start(from: &Pod, to: &Pod, rate: u64) -> Numbered {
        Numbered::within(from, to, rate, u64::MAX)
    }

    /// The same with at most `window` datagrams on their way, so that a machine that is busy with
    /// something else loses none by that.
    pub(crate) fn within(from: &Pod, to: &Pod, rate: u64, window: u64) -> Numbered {
        let open = |pod: &Pod| {
            let socket = pod.ns.enter(|| UdpSocket::bind((pod.address, 0)));
            socket.unwrap().unwrap()
        };
        let (sender, receiver) = (open(from), open(to));
        set_socket_recv_buffer_size_force(&receiver, BUFFER).unwrap();
        receiver.set_read_timeout(Some(DRAIN)).unwrap();
        sender.connect(receiver.local_addr().unwrap()).unwrap();
        let rate = Arc::new(AtomicU64::new(rate));
        let [stop, done] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let so_far = Arc::new(AtomicU64::new(0));
        Numbered {
            sender: std::thread::spawn({
                let (rate, stop, arrived) = (rate.clone(), stop.clone(), so_far.clone());
                let most = move || arrived.load(Ordering::Relaxed).saturating_add(window);
                let is_due = move |next| next < most();
                move || send(&sender, &rate, &stop, is_due)
            }),
            receiver: std::thread::spawn({
                let (done, so_far) = (done.clone(), so_far.clone());
                move || receive(&receiver, &done, &so_far)
            }),
            rate,
            stop,
            done,
            so_far,
        }
    }

    /// Send so many a second from now on.
    pub(crate) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::SeqCst);
    }

    /// Wait until so many more have arrived.
    pub(crate) fn await_more(&self, count: u64) {
        let read = || self.so_far.load(Ordering::Relaxed);
        let goal = read() + count;
        let arrived = wait_until(PATIENCE, || read() >= goal);
        let missing = goal.saturating_sub(read());
        assert!(arrived, "{missing} of {count} datagrams did not arrive");
    }

    /// Stop and sum up.
    pub(crate) fn finish(self) -> Outcome {
        self.finish_timed().0
    }

    /// The same, and the longest time in which none arrived.
    pub(crate) fn finish_timed(self) -> (Outcome, Duration) {
        self.stop.store(true, Ordering::SeqCst);
        let sent = self.sender.join().unwrap();
        self.done.store(true, Ordering::SeqCst);
        let Received { count, late, gap } = self.receiver.join().unwrap();
        let outcome = Outcome {
            sent,
            late,
            lost: sent.saturating_sub(count),
        };
        (outcome, gap)
    }
}

/// Send at the rate in force until `stop`, each as soon as its number is due; how many went.
fn send(
    socket: &UdpSocket,
    rate: &AtomicU64,
    stop: &AtomicBool,
    is_due: impl Fn(u64) -> bool,
) -> u64 {
    let mut bytes = [0; LEN];
    let mut next = 0u64;
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let elapsed = last.elapsed();
        let rate = rate.load(Ordering::SeqCst);
        let due = (elapsed.as_secs_f64() * rate as f64) as u64;
        if due == 0 || !is_due(next) {
            // Short of what is slept in the end, by the timers' slack.
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        last += match due {
            // What was missed is not made up for.
            BURST.. => elapsed,
            due => Duration::from_secs_f64(due as f64 / rate as f64),
        };
        for _ in 0..due.min(BURST) {
            bytes[..8].copy_from_slice(&next.to_be_bytes());
            // What is refused counts as lost.
            let _ = socket.send(&bytes);
            next += 1;
        }
    }
    next
}
