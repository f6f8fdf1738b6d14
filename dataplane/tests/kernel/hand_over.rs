//! Workers that take each other's place on the same descriptors, as those of two processes do.

use crate::commands::ip;
use crate::packets::noise;
use crate::traffic::{connect, udp_pair};
use crate::tunnel::{Family, Node, Offload, Tunnel, Vtep, config, dataplane};
use socket2::Socket;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use weft_dataplane::publish::Publisher;
use weft_dataplane::stats::{Count, WorkerStats};
use weft_dataplane::sys::port::Port;
use weft_dataplane::sys::tap::Tap;
use weft_dataplane::sys::tun::{Offloads, Queues, Tun};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::worker::{Description, EngineKind, Holdings, Workers};
use weft_lab::{isolated, skips_test_without_namespaces, uninterrupted, wait_until};

/// An engine, and for how long its workers look for packets before they sleep.
type Kind = (EngineKind, Duration);

const RING: Kind = (EngineKind::Ring, Duration::ZERO);
const POLL: Kind = (EngineKind::Poll, Duration::ZERO);
const SPINNING: Kind = (EngineKind::Poll, Duration::from_micros(50));

/// How often workers take each other's place.
const HAND_OVERS: usize = 50;

/// Datagrams of a stream that may be under way: fewer than any queue or buffer holds, however long
/// nobody reads, so that none is lost but by workers.
const WINDOW: u64 = 100;

/// How long to wait before something is looked at again, so that others have the processor.
const PAUSE: Duration = Duration::from_micros(50);

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of a stream's last datagram.
const LAST: u64 = u64::MAX;

/// What another process would get: the description, and duplicates of the descriptors.
fn passed_on(holdings: &Holdings) -> (Description, Vec<OwnedFd>) {
    let descriptors = holdings.descriptors().into_iter();
    let duplicates = descriptors.map(|fd| fd.try_clone_to_owned().unwrap());
    (holdings.describe(), duplicates.collect())
}

/// Workers of this kind on `holdings`, parked.
fn parked(node: &Node, holdings: Holdings, publisher: &Publisher, (engine, spin): Kind) -> Workers {
    let start = || {
        let config = config(Family::V4, node.number, Wire::Vxlan);
        dataplane(engine, spin).start(holdings, config, publisher)
    };
    node.ns.enter(start).unwrap().unwrap()
}

/// A successor's workers, parked: they have adopted what those of the node hold.
fn successor(node: &Node, kind: Kind) -> Workers {
    let (workers, publisher) = node.weft.as_ref().unwrap();
    let (told, descriptors) = passed_on(workers.holdings());
    let adopt = || Holdings::adopt(&told, descriptors).unwrap();
    let adopted = node.ns.enter(adopt).unwrap();
    assert_eq!(adopted.describe(), told);
    parked(node, adopted, publisher, kind)
}

/// How long the workers of a node took to halt, and the others then to read a first packet.
struct Gap {
    halt: Duration,
    first: Duration,
}

/// Let `next` have the place of the workers of `node`.
fn take_place(node: &mut Node, next: Workers) -> Gap {
    let (old, publisher) = node.weft.take().unwrap();
    assert_eq!(old.failure(), None);
    let start = Instant::now();
    old.halt();
    let halt = start.elapsed();
    let start = Instant::now();
    next.go();
    while reads(&next) == 0 {
        assert!(start.elapsed() < PATIENCE, "nothing is read");
        std::thread::sleep(PAUSE);
    }
    let first = start.elapsed();
    drop(old.stop());
    node.weft = Some((next, publisher));
    Gap { halt, first }
}

/// What workers have read from the TUN and the receive sockets.
fn reads(workers: &Workers) -> u64 {
    let reads = |stats: &WorkerStats| stats.get(Count::TunReads) + stats.get(Count::Receives);
    workers.stats().map(reads).sum()
}

/// Ends streams when it is dropped, however a test ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Send numbers until `end` is raised, at most [`WINDOW`] more than were `seen`.
fn send(sender: &Socket, seen: &AtomicU64, end: &AtomicBool) {
    let mut next = 0;
    while !end.load(Ordering::Relaxed) {
        if next - seen.load(Ordering::Relaxed) >= WINDOW {
            std::thread::sleep(PAUSE);
            continue;
        }
        sender.send(&u64::to_be_bytes(next)).unwrap();
        next += 1;
    }
    sender.send(&LAST.to_be_bytes()).unwrap();
}

/// Receive numbers up to the last: how many, none of which was missing or out of order.
fn receive(receiver: &UdpSocket, seen: &AtomicU64) -> u64 {
    let mut expected = 0;
    loop {
        let mut number = [0; 8];
        let received = uninterrupted(|| receiver.recv(&mut number));
        received.unwrap_or_else(|error| panic!("number {expected} does not come: {error}"));
        let number = u64::from_be_bytes(number);
        if number == LAST {
            return expected;
        }
        assert_eq!(number, expected, "lost, or out of order");
        expected += 1;
        seen.store(expected, Ordering::Relaxed);
    }
}

/// Two nodes of weft.
fn tunnel((engine, _): Kind) -> Tunnel {
    Tunnel::new(Family::V4, [Vtep::Weft(engine); 2], Offload::All)
}

/// Have workers of both kinds in turn take each other's place, while streams run both ways.
fn hand_over_under_load(kinds: [Kind; 2]) {
    if skips_test_without_namespaces() {
        return;
    }
    let mut tunnel = tunnel(kinds[1]);
    let [a, b] = &mut tunnel.nodes;
    let pairs = [udp_pair(Family::V4, a, b), udp_pair(Family::V4, b, a)];
    let (end, seen) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
    let (end, seen) = (&end, &seen);
    let mut gaps = Vec::new();
    std::thread::scope(|scope| {
        let streams = pairs.iter().zip(seen).map(|((sender, receiver), seen)| {
            scope.spawn(move || send(sender, seen, end));
            scope.spawn(move || receive(receiver, seen))
        });
        let streams: Vec<_> = streams.collect();
        let running = End(end);
        let failed = || streams.iter().any(|stream| stream.is_finished());
        for kind in kinds.into_iter().cycle().take(HAND_OVERS) {
            let next = successor(a, kind);
            // Those that run may not miss anything meanwhile.
            let before = seen.each_ref().map(|seen| seen.load(Ordering::Relaxed));
            let goes_on = || {
                let now = seen.each_ref().map(|seen| seen.load(Ordering::Relaxed));
                now[0] > before[0] + 2 * WINDOW && now[1] > before[1] + 2 * WINDOW
            };
            while !goes_on() && !failed() {
                std::thread::sleep(PAUSE);
            }
            if failed() {
                break;
            }
            assert_eq!(reads(&next), 0, "parked workers read");
            gaps.push(take_place(a, next));
        }
        drop(running);
        for stream in streams {
            assert!(stream.join().unwrap() > HAND_OVERS as u64 * 2 * WINDOW);
        }
    });
    tunnel.assert_no_errors();
    report(kinds, &mut gaps);
}

/// Write the same bytes again and again until `end` is raised.
fn write(stream: &mut TcpStream, bytes: &[u8], end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        stream.write_all(bytes).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Read these bytes again and again, to the end of the stream: how often they came.
fn read(stream: &mut TcpStream, bytes: &[u8], seen: &AtomicU64) -> u64 {
    let mut space = vec![0; bytes.len()];
    loop {
        let mut first = [0];
        if uninterrupted(|| stream.read(&mut first)).unwrap() == 0 {
            return seen.load(Ordering::Relaxed);
        }
        space[0] = first[0];
        stream.read_exact(&mut space[1..]).unwrap();
        assert!(space == bytes, "a stream was altered");
        seen.fetch_add(1, Ordering::Relaxed);
    }
}

/// The same with connections that carry as much as they can.
fn hand_over_under_bulk(kinds: [Kind; 2]) {
    if skips_test_without_namespaces() {
        return;
    }
    let mut tunnel = tunnel(kinds[1]);
    let [a, b] = &mut tunnel.nodes;
    let bytes = &noise(1 << 20)[..];
    let pairs = [connect(Family::V4, a, b), connect(Family::V4, b, a)];
    let (end, seen) = (AtomicBool::new(false), [const { AtomicU64::new(0) }; 2]);
    let (end, seen) = (&end, &seen);
    let mut gaps = Vec::new();
    std::thread::scope(|scope| {
        for ((mut client, mut server), seen) in pairs.into_iter().zip(seen) {
            scope.spawn(move || write(&mut client, bytes, end));
            scope.spawn(move || read(&mut server, bytes, seen));
        }
        let _running = End(end);
        for kind in kinds.into_iter().cycle().take(HAND_OVERS / 5) {
            let next = successor(a, kind);
            let before = seen.each_ref().map(|seen| seen.load(Ordering::Relaxed));
            let goes_on = || {
                let now = seen.each_ref().map(|seen| seen.load(Ordering::Relaxed));
                now[0] > before[0] && now[1] > before[1]
            };
            assert!(wait_until(PATIENCE, goes_on), "a stream has stopped");
            gaps.push(take_place(a, next));
        }
    });
    report(kinds, &mut gaps);
}

/// Tell how long the gaps were; no test depends on it.
fn report(kinds: [Kind; 2], gaps: &mut [Gap]) {
    let mut times = |of: fn(&Gap) -> Duration| {
        gaps.sort_by_key(of);
        (of(&gaps[gaps.len() / 2]), of(&gaps[gaps.len() - 1]))
    };
    let (halt, first) = (times(|gap| gap.halt), times(|gap| gap.first));
    eprintln!("{kinds:?}: halt {halt:?}, first packet {first:?} (median, longest)");
}

#[test]
fn connections_go_on_through_hand_overs() {
    for kinds in [[RING, RING], [POLL, POLL], [SPINNING, RING]] {
        hand_over_under_bulk(kinds);
    }
}

#[test]
fn rings_hand_over_to_rings_without_a_loss() {
    hand_over_under_load([RING, RING]);
}

#[test]
fn poll_engines_hand_over_to_poll_engines_without_a_loss() {
    hand_over_under_load([POLL, POLL]);
}

#[test]
fn engines_hand_over_to_the_other_kind_without_a_loss() {
    hand_over_under_load([RING, POLL]);
}

#[test]
fn workers_that_spin_hand_over_to_rings_without_a_loss() {
    hand_over_under_load([SPINNING, RING]);
}

/// Nothing that comes while workers are parked is read by them, whether they then go or not.
#[test]
fn what_comes_while_nobody_reads_waits_for_the_next_who_does() {
    if skips_test_without_namespaces() {
        return;
    }
    for [failed, next] in [[RING, POLL], [POLL, RING], [RING, SPINNING]] {
        let mut tunnel = tunnel(next);
        let [a, b] = &mut tunnel.nodes;
        let pairs = [udp_pair(Family::V4, a, b), udp_pair(Family::V4, b, a)];
        let (old, publisher) = a.weft.take().unwrap();
        let holdings = old.stop();
        let (told, descriptors) = passed_on(&holdings);
        let adopt = || Holdings::adopt(&told, descriptors).unwrap();
        let adopted = a.ns.enter(adopt).unwrap();
        let successor = parked(a, adopted, &publisher, failed);
        for (sender, _) in &pairs {
            for number in 0..WINDOW {
                sender.send(&number.to_be_bytes()).unwrap();
            }
            sender.send(&LAST.to_be_bytes()).unwrap();
        }
        assert_eq!(reads(&successor), 0);
        // It fails, and the others go on.
        drop(successor);
        let resumed = parked(a, holdings, &publisher, next);
        resumed.go();
        a.weft = Some((resumed, publisher));
        for (_, receiver) in &pairs {
            assert_eq!(receive(receiver, &AtomicU64::new(0)), WINDOW);
        }
        tunnel.assert_no_errors();
    }
}

const ALL: Offloads = Offloads {
    tso: true,
    uso: true,
};

/// What there is to adopt, of a device of two queues.
fn holdings() -> Holdings {
    let mut config = config(Family::V4, 1, Wire::Vxlan);
    config.local = [127, 0, 0, 1].into();
    let tun = Tun::open("flannel.1", Queues::single(2), ALL).unwrap();
    let tap = Tap::open("weft.1").unwrap();
    dataplane(EngineKind::Poll, Duration::ZERO)
        .open(tun, Some(tap), &config)
        .unwrap()
}

/// A device of the same name in another network namespace, and a socket of the same port.
fn elsewhere() -> (Tun, UdpSocket) {
    let mut made = None;
    isolated(|| {
        let tun = Tun::open("flannel.1", Queues::single(2), ALL).unwrap();
        made = Some((tun, UdpSocket::bind("0.0.0.0:8472").unwrap()));
    });
    made.unwrap()
}

#[test]
fn descriptors_that_are_not_what_is_told_are_refused_by_what_they_are() {
    isolated(|| {
        ip("link set lo up");
        let holdings = holdings();
        let told = holdings.describe();
        let refusal_of = |told: &Description, descriptors| {
            let adopted = Holdings::adopt(told, descriptors);
            adopted.unwrap_err().to_string()
        };
        let refusal = |index: usize, fd: OwnedFd| {
            let (told, mut descriptors) = passed_on(&holdings);
            descriptors[index] = fd;
            refusal_of(&told, descriptors)
        };
        // Queues, TAP, receive sockets, send sockets.
        let of_ours = |index: usize| passed_on(&holdings).1.remove(index);
        let file = File::open("/dev/null").unwrap().into();
        let expected = "TUN queue 0: no descriptor of a TUN or TAP";
        assert_eq!(refusal(0, file), expected);
        let expected = "TUN queue 1: of the TAP weft.1, and no TUN";
        assert_eq!(refusal(1, of_ours(2)), expected);
        let other = Tun::open("flannel.2", Queues::single(1), ALL).unwrap();
        let queue = other.queues()[0].as_fd().try_clone_to_owned().unwrap();
        let expected = "TUN queue 0: of flannel.2, not of flannel.1";
        assert_eq!(refusal(0, queue), expected);
        let elsewhere = elsewhere();
        let queue = elsewhere.0.queues()[0]
            .as_fd()
            .try_clone_to_owned()
            .unwrap();
        let expected = "TUN queue 0: of another network namespace";
        assert_eq!(refusal(0, queue), expected);
        assert_eq!(refusal(1, of_ours(0)), "TUN queue 1: is queue 0 once more");
        let expected = "TAP weft.1: of the TUN flannel.1, and no TAP";
        assert_eq!(refusal(2, of_ours(0)), expected);
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(refusal(3, tcp.into()), "receive socket 0: no UDP socket");
        let udp = UdpSocket::bind("0.0.0.0:9000").unwrap();
        let expected = "receive socket 1: bound to 0.0.0.0:9000, not to 0.0.0.0:8472";
        assert_eq!(refusal(4, udp.into()), expected);
        let expected = "receive socket 0: of another network namespace";
        assert_eq!(refusal(3, elsewhere.1.into()), expected);
        let expected = "receive socket 1: is socket 0 once more";
        assert_eq!(refusal(4, of_ours(3)), expected);
        let sender = 3 + Port::sockets(2);
        let expected = "send socket 0: bound to 0.0.0.0:8472, not to 127.0.0.1";
        assert_eq!(refusal(sender, of_ours(3)), expected);
        let twice = refusal(sender + 1, of_ours(sender));
        assert!(twice.starts_with("send socket 1: has port "), "{twice}");
        let (_, mut descriptors) = passed_on(&holdings);
        let count = descriptors.len();
        descriptors.pop();
        let expected = format!(
            "descriptors of flannel.1: {} came, of {count} that are told of",
            count - 1
        );
        assert_eq!(refusal_of(&told, descriptors), expected);
        for queues in [0, 257, usize::MAX].map(Queues::single) {
            let told = Description {
                queues,
                ..told.clone()
            };
            let refusal = refusal_of(&told, Vec::new());
            assert!(refusal.contains("1 to 256"), "{refusal}");
        }
        ip("link del flannel.1");
        let (_, descriptors) = passed_on(&holdings);
        let expected = "TUN queue 0: its device was removed";
        assert_eq!(refusal_of(&told, descriptors), expected);
    });
}
