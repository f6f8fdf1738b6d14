//! Two nodes, each the other's only peer.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use weft_dataplane::fastpath::{Config, Entries, FastPath, FastPathError, Former, Policy};
use weft_dataplane::route::table::{NewPeer, Overlay, Route, Table};
use weft_dataplane::sys::egress::Device;
use weft_dataplane::sys::tc::{Direction, tcx_programs};
use weft_dataplane::sys::tun::{Offloads, Queues, Tun};
use weft_dataplane::wire::ethernet::MacAddr;
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::wire::vxlan::Vni;
use weft_lab::{Namespace, wait_until};

pub(crate) const PORT: u16 = 8472;

/// The port of what talks through the tunnel.
pub(crate) const INNER_PORT: u16 = 7000;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Underlay address of a node.
pub(crate) fn underlay(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, number)
}

/// The address of a node in the tunnel.
pub(crate) fn inner(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, number, 1)
}

pub(crate) fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, number])
}

/// Run `test` on a thread of its own whose mounts nobody else sees, with a BPF file system.
pub(crate) fn isolated(test: impl FnOnce(&Path) + Send) {
    weft_lab::isolated(|| {
        weft_lab::netns::isolate_mounts().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mount =
            |words: &[&str]| weft_lab::run(Command::new("mount").args(words).arg(dir.path()));
        if let Err(error) = mount(&["-t", "bpf", "bpf"]) {
            weft_lab::skip(&format!("there is no BPF here: {error}"));
            return;
        }
        let unmounted = Unmounted(dir.path());
        test(dir.path());
        drop(unmounted);
    });
}

/// Unmounts before the folder is removed, also when a test fails.
struct Unmounted<'a>(&'a Path);

impl Drop for Unmounted<'_> {
    fn drop(&mut self) {
        let _ = weft_lab::run(Command::new("umount").arg(self.0));
    }
}

/// A network namespace with devices, without a fast path yet.
pub(crate) struct Node {
    pub(crate) ns: Namespace,
    pub(crate) number: u8,
    pub(crate) wire: Wire,
    /// Holds the device.
    tun: Mutex<Option<Tun>>,
    bpffs: PathBuf,
}

/// Nodes 1 and 2, joined by `eth0`.
pub(crate) fn nodes(bpffs: &Path, wire: Wire) -> [Node; 2] {
    let nodes = [1, 2].map(|number| Node {
        ns: Namespace::unnamed().unwrap(),
        number,
        wire,
        tun: Mutex::new(None),
        bpffs: bpffs.to_owned(),
    });
    for node in &nodes {
        for (key, value) in [
            ("all/rp_filter", "0"),
            ("default/rp_filter", "0"),
            ("all/forwarding", "1"),
        ] {
            let key = format!("net/ipv4/conf/{key}");
            node.ns.sysctl(&key, value).unwrap();
        }
        node.ns
            .sysctl("net/ipv6/conf/all/disable_ipv6", "1")
            .unwrap();
    }
    join(&nodes, 77);
    nodes.iter().for_each(Node::make_tunnel);
    nodes
}

/// Join both nodes by devices of this index.
pub(crate) fn join([a, b]: &[Node; 2], index: u32) {
    let peer = format!("peer name eth0 index {index} netns {}", b.ns.name());
    a.ns.ip(&format!("link add eth0 index {index} type veth {peer}"))
        .unwrap();
    for node in [a, b] {
        let address = underlay(node.number);
        node.ns
            .ip(&format!("addr add {address}/24 dev eth0"))
            .unwrap();
        node.ns.ip("link set eth0 up").unwrap();
    }
    // Neighbours are known, so that nothing waits for them.
    let other = underlay(b.number).to_string();
    a.ns.run(&["ping", "-c", "1", "-w", "10", &other]).unwrap();
}

impl Node {
    /// Make the TUN device, in the place of the one that there was.
    pub(crate) fn make_tunnel(&self) {
        let number = self.number;
        let offloads = Offloads {
            tso: true,
            uso: true,
        };
        let mut place = self.tun.lock().unwrap();
        *place = None;
        let made = self.ns.enter(|| {
            let _ = weft_lab::ip("link del flannel.1");
            // A program that another test starts may hold the old one for a moment.
            let mut opened = None;
            wait_until(LIMIT, || {
                opened = Tun::open("flannel.1", Queues::shared(1), offloads).ok();
                opened.is_some()
            });
            let tun = opened.unwrap();
            for words in [
                format!("addr add {}/32 dev flannel.1", inner(number)),
                "link set flannel.1 mtu 1400 up".to_owned(),
                "route add 10.244.0.0/16 dev flannel.1".to_owned(),
            ] {
                weft_lab::ip(&words).unwrap();
            }
            tun
        });
        *place = Some(made.unwrap());
    }

    pub(crate) fn config(&self) -> Config {
        config(self.number, &self.bpffs)
    }

    pub(crate) fn table(&self) -> Table {
        table(self.number, self.wire)
    }

    /// Load the programs and put them in place; they take all that they can.
    pub(crate) fn start(
        &self,
        change: impl FnOnce(&mut Config),
    ) -> Result<FastPath, FastPathError> {
        let all = Policy {
            all: true,
            super_packets: true,
            mtu: 1500,
        };
        self.start_with(all, change)
    }

    pub(crate) fn start_with(
        &self,
        policy: Policy,
        change: impl FnOnce(&mut Config),
    ) -> Result<FastPath, FastPathError> {
        let mut config = self.config();
        change(&mut config);
        self.ns
            .enter(|| start(config, &self.table(), policy))
            .unwrap()
    }

    pub(crate) fn is_in_place(&self, fast_path: &FastPath) -> bool {
        self.ns.enter(|| fast_path.is_in_place()).unwrap()
    }

    pub(crate) fn remove(&self, fast_path: FastPath) {
        self.ns.enter(|| fast_path.remove()).unwrap().unwrap();
    }

    /// Where what is attached is pinned.
    pub(crate) fn pins(&self, bpffs: &Path) -> PathBuf {
        let namespace = || fs::metadata("/proc/thread-self/ns/net").unwrap().ino();
        let namespace = self.ns.enter(namespace).unwrap().to_string();
        bpffs.join("weft").join(namespace).join("flannel+1")
    }

    /// A socket in the tunnel.
    pub(crate) fn inside(&self) -> UdpSocket {
        let socket = self
            .ns
            .enter(|| UdpSocket::bind((inner(self.number), INNER_PORT)));
        socket.unwrap().unwrap()
    }

    /// A socket on the underlay.
    pub(crate) fn outside(&self) -> UdpSocket {
        let socket = self
            .ns
            .enter(|| UdpSocket::bind((underlay(self.number), 0)));
        socket.unwrap().unwrap()
    }

    /// Run a program inside; its output.
    pub(crate) fn run(&self, words: &str) -> String {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.ns.run(&words).unwrap()
    }
}

/// The tcx programs on the underlay and on the TUN device.
pub(crate) fn programs(node: &Node) -> [Vec<u32>; 2] {
    let of = |name, direction| {
        let index = Device::named(name).unwrap().index().unwrap();
        tcx_programs(index, direction).unwrap()
    };
    let both = || {
        [
            of("eth0", Direction::Ingress),
            of("flannel.1", Direction::Egress),
        ]
    };
    node.ns.enter(both).unwrap()
}

/// Take away what earlier agents have left that no pin leads to.
pub(crate) fn take_off_others(node: &Node, fast_path: &FastPath) -> Former {
    node.ns.enter(|| fast_path.take_off_others()).unwrap()
}

/// What the programs of a node are told of it.
pub(crate) fn config(number: u8, bpffs: &Path) -> Config {
    Config {
        device: "flannel.1".to_owned(),
        underlay: "eth0".to_owned(),
        local: underlay(number),
        port: PORT,
        lifetime: Duration::from_secs(3600),
        bpffs: bpffs.to_owned(),
        hook: None,
    }
}

pub(crate) fn overlay(number: u8, wire: Wire) -> Overlay {
    Overlay {
        wire,
        vni: Vni::new(1).unwrap(),
        local_mac: mac(number),
        network_v4: Some("10.244.0.0/16".parse().unwrap()),
        subnet_len_v4: 24,
        own_v4: Some(format!("10.244.{number}.0/24").parse().unwrap()),
        ..Overlay::default()
    }
}

pub(crate) fn table(number: u8, wire: Wire) -> Table {
    let other = 3 - number;
    let route = Route {
        prefix: format!("10.244.{other}.0/24").parse().unwrap(),
        peer: NewPeer {
            addr: (underlay(other), PORT).into(),
            mac: mac(other),
        },
    };
    Table::build(overlay(number, wire), &[route]).unwrap()
}

/// Load the programs in the calling thread's namespace and put them in place.
pub(crate) fn start(
    config: Config,
    table: &Table,
    policy: Policy,
) -> Result<FastPath, FastPathError> {
    let mut fast_path = FastPath::load(config, table.overlay())?;
    fast_path.set_policy(policy)?;
    fast_path.publish(&Entries::of(table), |_| None)?;
    fast_path.attach()?;
    Ok(fast_path)
}

/// Whether a packet gets from one node to the other by the fast path of both.
pub(crate) fn passes(from: &Node, to: &Node) -> bool {
    let (sender, receiver) = (from.inside(), to.inside());
    receiver
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    let _ = sender.send_to(b"packet", (inner(to.number), INNER_PORT));
    weft_lab::uninterrupted(|| receiver.recv(&mut [0; 16])).is_ok()
}

/// Packets on the way at most, in a flood: less than any queue holds.
const WINDOW: u64 = 50;

/// Send packets from one node to the other while `change` runs, as many as get through; how many
/// were sent and how many arrived.
pub(crate) fn flood(from: &Node, to: &Node, change: impl FnOnce()) -> (u64, u64) {
    let (sender, receiver) = (from.inside(), to.inside());
    receiver
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let (received, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let receive = || {
        while !done.load(Ordering::Relaxed) {
            match receiver.recv(&mut [0; 64]) {
                Ok(_) => drop(received.fetch_add(1, Ordering::Relaxed)),
                Err(error) if is_pause(&error) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let changed = AtomicBool::new(false);
    let send = || {
        let mut sent = 0_u64;
        while !changed.load(Ordering::Relaxed) {
            let arrived = || sent - received.load(Ordering::Relaxed) < WINDOW;
            if !arrived() && !wait_until(LIMIT, arrived) {
                break;
            }
            sender
                .send_to(&sent.to_be_bytes(), (inner(to.number), INNER_PORT))
                .unwrap();
            sent += 1;
        }
        wait_until(Duration::from_secs(2), || {
            sent == received.load(Ordering::Relaxed)
        });
        done.store(true, Ordering::Relaxed);
        sent
    };
    std::thread::scope(|scope| {
        scope.spawn(receive);
        let sending = scope.spawn(send);
        assert!(wait_until(LIMIT, || received.load(Ordering::Relaxed) > 0));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(change));
        changed.store(true, Ordering::Relaxed);
        let sent = sending.join().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        (sent, received.load(Ordering::Relaxed))
    })
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}
