//! UDP datagrams with numbers between two pods, and what became of them and of their order.

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use std::io;
use std::net::UdpSocket;
use std::ops::Range;
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

/// The same where few are on their way at a time, all by one call.
const BATCH: u64 = 64;

/// How long a sender sleeps when nothing is due: short of what is slept in the end, by the timers' slack.
const NAP: Duration = Duration::from_micros(50);

/// The same of one that sends in batches.
const BATCH_NAP: Duration = Duration::from_micros(300);

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
        Numbered::of(from, to, rate, |socket, rate, stop, _| {
            send(
                rate,
                stop,
                (BURST, NAP),
                |_| true,
                |numbers| {
                    for number in numbers {
                        // What is refused counts as lost.
                        let _ = socket.send(&datagram(number));
                    }
                },
            )
        })
    }

    /// The same with at most `window` datagrams on their way, so that a machine that is busy with
    /// something else loses none by that. They leave the socket in batches, which the kernel cuts
    /// before the pod's device if that takes no super-packets of UDP (see [`cut_in_pods`]).
    pub(crate) fn within(from: &Pod, to: &Pod, rate: u64, window: u64) -> Numbered {
        Numbered::of(from, to, rate, move |socket, rate, stop, arrived| {
            let is_due = |next| next < arrived.load(Ordering::Relaxed).saturating_add(window);
            let batches = Batches::over(socket);
            send(rate, stop, (BATCH, BATCH_NAP), is_due, |numbers| {
                // What is refused counts as lost.
                let _ = batches.send(numbers);
            })
        })
    }

    fn of(
        from: &Pod,
        to: &Pod,
        rate: u64,
        send: impl FnOnce(UdpSocket, &AtomicU64, &AtomicBool, &AtomicU64) -> u64 + Send + 'static,
    ) -> Numbered {
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
                move || send(sender, &rate, &stop, &arrived)
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

/// Have the kernel cut super-packets of UDP that leave this pod before its device, so that each
/// datagram goes its way by itself.
pub(crate) fn cut_in_pods<'a>(pods: impl IntoIterator<Item = &'a Pod>) {
    for pod in pods {
        let words = ["ethtool", "-K", "eth0", "tx-udp-segmentation", "off"];
        pod.ns.run(&words).unwrap();
    }
}

/// The datagram with this number.
pub(crate) fn datagram(number: u64) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Sends numbered datagrams as one packet, which is cut wherever it can go on no other way (UDP GSO).
pub(crate) struct Batches {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Batches {
    /// Over a connected socket.
    pub(crate) fn over(socket: UdpSocket) -> Batches {
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        // To be waited for where its buffer is full.
        socket.set_nonblocking(false).unwrap();
        Batches { socket, state }
    }

    /// Send those with these numbers, 64 at most.
    pub(crate) fn send(&self, numbers: Range<u64>) -> io::Result<()> {
        let contents: Vec<u8> = numbers.flat_map(datagram).collect();
        let transmit = Transmit {
            destination: self.socket.peer_addr()?,
            ecn: None,
            contents: &contents,
            segment_size: Some(LEN),
            src_ip: None,
        };
        self.state
            .try_send(UdpSockRef::from(&self.socket), &transmit)
    }
}

/// Send at the rate in force until `stop`, at most so many at once as soon as they are due, and look
/// again after a nap; how many went.
fn send(
    rate: &AtomicU64,
    stop: &AtomicBool,
    (burst, nap): (u64, Duration),
    is_due: impl Fn(u64) -> bool,
    mut post: impl FnMut(Range<u64>),
) -> u64 {
    let mut next = 0u64;
    let mut last = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        let elapsed = last.elapsed();
        let rate = rate.load(Ordering::SeqCst);
        let due = (elapsed.as_secs_f64() * rate as f64) as u64;
        if due == 0 || !is_due(next) {
            std::thread::sleep(nap);
            continue;
        }
        last += match due {
            // What was missed is not made up for.
            due if due >= burst => elapsed,
            due => Duration::from_secs_f64(due as f64 / rate as f64),
        };
        let end = next + due.min(burst);
        post(next..end);
        next = end;
    }
    next
}
