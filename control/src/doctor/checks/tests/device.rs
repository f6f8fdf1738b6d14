//! The tunnel's device and port.

use super::facts::{Case, Failure, Fine, Unknown, Warning, off, tunnel};

pub(super) const CASES: &[Case] = &[
    (
        "device",
        |f| {
            f.host.links.remove(1);
        },
        Failure,
        "there is no flannel.1",
        "anew",
    ),
    (
        "device",
        |f| f.host.links[1].up = false,
        Failure,
        "is down",
        "ip link set dev flannel.1 up",
    ),
    (
        "device",
        |f| f.host.links[1].carrier = false,
        Failure,
        "no carrier",
        "restart",
    ),
    (
        "device",
        |f| f.host.links[1].mtu = 1500,
        Failure,
        "is 1500, not 1450",
        "ip link set dev flannel.1 mtu 1450",
    ),
    (
        "device",
        |f| f.host.links[1].kind = Some("vxlan".to_owned()),
        Failure,
        "no TUN device but vxlan",
        "find out whose it is",
    ),
    (
        "device",
        |f| f.host.links[1].addresses.clear(),
        Failure,
        "has not its address, 10.5.1.0",
        "ip address add 10.5.1.0/32 dev flannel.1",
    ),
    (
        "device",
        |f| tunnel(f).remakes = 3,
        Warning,
        "anew 3 times",
        "ip monitor",
    ),
    (
        "mtu",
        |f| f.host.links[0].mtu = 1400,
        Failure,
        "up to 1500 bytes, and eth0 takes 1400",
        "ip link set dev eth0 mtu 1500",
    ),
    (
        "mtu",
        |f| {
            f.host.links.remove(0);
        },
        Unknown,
        "there is no eth0",
        "",
    ),
    (
        "port",
        |f| f.host.vxlan = vec![("vx0".to_owned(), true)],
        Failure,
        "vx0 has it",
        "ip link delete vx0",
    ),
    (
        "port",
        |f| f.host.vxlan = vec![("vx0".to_owned(), false)],
        Warning,
        "vx0 wants it",
        "ip link delete vx0",
    ),
    (
        "port",
        |f| f.host.sockets = vec!["process 7 (x)".to_owned()],
        Warning,
        "process 7 (x)",
        "ss -lunp",
    ),
    (
        "port",
        |f| {
            f.agent = Err(String::new());
            f.host.sockets = vec!["process 7 (x)".to_owned()]
        },
        Failure,
        "process 7 (x)",
        "ss -lunp",
    ),
    (
        "programs",
        |f| f.host.programs = vec![("eth0".to_owned(), "cil_from_netdev".to_owned())],
        Warning,
        "cil_from_netdev on eth0",
        "clsact",
    ),
    (
        "programs",
        |f| {
            f.host.programs = vec![("eth0".to_owned(), "x".to_owned())];
            off(f)
        },
        Fine,
        "x on eth0",
        "",
    ),
    (
        "gro",
        |f| f.host.gro = Some(false),
        Warning,
        "GRO of eth0 is off",
        "ethtool -K eth0 gro on",
    ),
    (
        "gro",
        |f| {
            f.host.gro = Some(false);
            f.host.links[0].kind = Some("veth".to_owned())
        },
        Fine,
        "is a veth",
        "",
    ),
    ("gro", |f| f.host.gro = None, Unknown, "does not tell", ""),
];
