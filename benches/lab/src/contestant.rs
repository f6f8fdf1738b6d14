//! Who takes part: the ways of pod traffic that are measured against each other.

use super::ovs::Ovs;
use super::{Path, tools};

/// One way between two nodes, with a name.
#[derive(Debug, PartialEq, Eq)]
pub struct Contestant {
    /// Name on a command line and in files.
    pub key: &'static str,
    /// Name for people.
    pub name: &'static str,
    /// What it is, in one line.
    pub about: &'static str,
    /// Which way traffic takes.
    pub path: Path,
    /// Flags for the agents where they carry it.
    pub flags: &'static [&'static str],
}

/// All contestants, in the order of reports.
pub static CONTESTANTS: &[Contestant] = &[
    beside(
        "direct",
        "direct",
        "routed between the nodes, no tunnel",
        Path::Direct,
    ),
    beside(
        "kernel",
        "kernel VXLAN",
        "the kernel's VXLAN device, as flannel sets it up",
        Path::Kernel,
    ),
    weft(
        "weft",
        "weft",
        "as it is by default (-fast-path=auto -engine=auto)",
        &[],
    ),
    weft(
        "weft-userspace",
        "weft userspace",
        "weft without its fast path",
        &["-fast-path=off"],
    ),
    weft(
        "weft-bpf",
        "weft bpf",
        "weft that leaves to its fast path all that it can take",
        &["-fast-path=on"],
    ),
    weft(
        "weft-ring",
        "weft ring",
        "weft on io_uring, without its fast path",
        &["-fast-path=off", "-engine=ring"],
    ),
    weft(
        "weft-poll",
        "weft poll",
        "weft on epoll, recvmmsg and sendmmsg, without its fast path",
        &["-fast-path=off", "-engine=poll"],
    ),
    weft(
        "weft-trains",
        "weft, trains",
        "weft that cuts all super-packets itself",
        &["-fast-path=off", "-tunnel-gso=off"],
    ),
    weft(
        "weft-spin",
        "weft, spinning",
        "weft without its fast path, whose idle workers look for packets for 100 us before they sleep",
        &["-fast-path=off", "-spin-us=100"],
    ),
    weft(
        "weft-plain",
        "weft, no offload",
        "weft with -fast-path, -tunnel-gso, -tso, -uso, -udp-gso and -udp-gro off",
        &[
            "-fast-path=off",
            "-tunnel-gso=off",
            "-tso=false",
            "-uso=false",
            "-udp-gso=false",
            "-udp-gro=false",
        ],
    ),
    beside(
        "tun-tap",
        "tun-tap",
        "a bare VXLAN forwarder on the tun-tap crate: one packet for each read and each send",
        Path::TunTap,
    ),
    beside(
        "weft-udp",
        "weft udp",
        "weft with the udp backend, agents of its own",
        Path::WeftUdp,
    ),
    beside(
        "udp-proxy",
        "udp proxy",
        "a forwarder like flannel's udp proxy: one packet for each read and each send",
        Path::UdpProxy,
    ),
    beside(
        "flannel-udp",
        "flannel udp",
        "flanneld from PATH with its udp backend",
        Path::FlannelUdp,
    ),
    beside(
        "ovs",
        "Open vSwitch",
        "the userspace datapath of Open vSwitch, as it comes, over a link of its own",
        Path::Ovs,
    ),
];

const fn beside(
    key: &'static str,
    name: &'static str,
    about: &'static str,
    path: Path,
) -> Contestant {
    Contestant {
        key,
        name,
        about,
        path,
        flags: &[],
    }
}

const fn weft(
    key: &'static str,
    name: &'static str,
    about: &'static str,
    flags: &'static [&'static str],
) -> Contestant {
    Contestant {
        key,
        name,
        about,
        path: Path::Weft,
        flags,
    }
}

impl Contestant {
    /// The contestant of this key.
    pub fn of(key: &str) -> Option<&'static Contestant> {
        CONTESTANTS.iter().find(|c| c.key == key)
    }

    /// The way through no tunnel.
    pub fn direct() -> &'static Contestant {
        of_path(Path::Direct)
    }

    /// Kernel VXLAN, which all others are compared with.
    pub fn kernel() -> &'static Contestant {
        of_path(Path::Kernel)
    }

    /// weft as it is by default.
    pub fn weft() -> &'static Contestant {
        of_path(Path::Weft)
    }

    /// Why it cannot run on this machine, as far as that can be told beforehand.
    pub fn unavailable(&self) -> Option<String> {
        match self.path {
            Path::FlannelUdp => {
                let needed = ["flanneld", "etcd", "etcdctl"];
                let missing = needed.into_iter().find(|name| !tools::in_path(name));
                missing.map(|program| format!("{program} is not in PATH"))
            }
            Path::Ovs => Ovs::unavailable(),
            _ => None,
        }
    }
}

/// The first contestant on this path.
fn of_path(path: Path) -> &'static Contestant {
    let first = CONTESTANTS.iter().find(|c| c.path == path);
    first.unwrap_or(&CONTESTANTS[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_and_names_are_unique_and_fit_files() {
        let keys: BTreeSet<_> = CONTESTANTS.iter().map(|c| c.key).collect();
        let names: BTreeSet<_> = CONTESTANTS.iter().map(|c| c.name).collect();
        let all = CONTESTANTS.len();
        assert_eq!((keys.len(), names.len()), (all, all));
        let fits = |key: &str| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(keys.into_iter().all(fits));
    }

    #[test]
    fn the_usual_three_are_found() {
        assert_eq!(Contestant::direct().key, "direct");
        assert_eq!(Contestant::kernel().key, "kernel");
        assert_eq!(Contestant::weft().key, "weft");
        assert_eq!(
            Contestant::of("weft-poll").map(|c| c.name),
            Some("weft poll")
        );
        assert_eq!(Contestant::of("wireguard"), None);
    }
}
