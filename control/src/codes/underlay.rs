//! Of the host, and the interface that carries the outer packets.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "The host and the underlay interface",
    codes: &[
        Code {
            id: "W0401",
            lines: &["cannot ...: ... (run as root or with CAP_NET_ADMIN)"],
            cause: "The kernel refuses a question or a change: most often a missing capability. At the start, the end with status 1.",
            remedy: "Run as root, or give the agent what [it needs](running.md#what-it-needs).",
        },
        Code {
            id: "W0402",
            lines: &[
                "no usable interface: ...",
                "...; mend it, or name another with -iface",
            ],
            cause: "What `-iface`, `-iface-regex` or `-iface-can-reach` names matches nothing, or cannot carry packets: the line says why for each.",
            remedy: "Name another interface, or mend that one.",
        },
        Code {
            id: "W0403",
            lines: &[
                "... is on no interface of this host; if it is translated by a NAT, say with -iface which interface to use",
                "... is an address of flannel.1, which is of the pods' network; advertise one of the underlay",
            ],
            cause: "`-public-ip` or `-public-ipv6` does not say which interface carries the packets.",
            remedy: "Name the interface with `-iface`, or advertise another address.",
        },
        Code {
            id: "W0404",
            lines: &[
                "... is on ..., ... on ...: IPv4 and IPv6 need the same interface; name it with -iface",
            ],
            cause: "The two default routes, or the two public addresses, are of different interfaces.",
            remedy: "Name one that has both families with `-iface`.",
        },
        Code {
            id: "W0405",
            lines: &[
                "there is no IPv4 default route to take the interface from; ...",
                "the IPv4 default route names no interface; name one with -iface",
            ],
            cause: "Nothing says which interface is meant: two hosts on one cable, for instance.",
            remedy: "The line names the interfaces that will do: `-iface=eth0`.",
        },
        Code {
            id: "W0406",
            lines: &["flag ... has no effect: the network config does not enable IPv6"],
            cause: "A flag is for a family of addresses that pods have none of.",
            remedy: "Leave it out, or enable the family in the network config.",
        },
        Code {
            id: "W0407",
            lines: &[
                "eth0 has only the link-local IPv6 address ..., which nodes on other links cannot send to",
            ],
            cause: "The underlay interface has no other IPv6 address.",
            remedy: "Nothing if all nodes are on one link; else give it a routed address.",
        },
        Code {
            id: "W0408",
            lines: &[
                "an IPv4 default route leads through flannel.1, which is of the pods' network: ...",
                "... is reached through flannel.1, which is of the pods' network: ...",
            ],
            cause: "Something asks for addresses on a device of the pods' network, such as a DHCP client. The route does not count, but what the host itself sends by it is lost.",
            remedy: "Remove the route, and have that program leave the device alone.",
        },
        Code {
            id: "W0409",
            lines: &[
                "10.5.0.5 of eth0 lies inside Network ...: packets to other nodes may be routed into the tunnel",
            ],
            cause: "The addresses of nodes and those of pods overlap.",
            remedy: "Choose another Network.",
        },
        Code {
            id: "W0410",
            lines: &[
                "Network 10.0.0.0/16 cannot go through a tunnel: this host is in 10.0.0.0/16 with eth0, ...",
            ],
            cause: "The tunnel's route would cut the host off. The end, with status 1.",
            remedy: "Choose another Network.",
        },
        Code {
            id: "W0411",
            lines: &[
                "eth0 has no usable IPv6 address, which the network's IPv6 pods need; ...",
                "the lease has no IPv6 subnet although the network has IPv6",
            ],
            cause: "The network config enables a family that this node, or its lease, has not. The end, with status 1.",
            remedy: "Add an address, name another interface with `-iface`, or disable the family in the network config.",
        },
        Code {
            id: "W0412",
            lines: &[
                "... as MTU of the IPv4 tunnel (... minus 50 for the tunnel's headers) is not between 576 and ...; ...",
            ],
            cause: "The MTU of the underlay, or `Backend.MTU`, leaves no room for packets. The end, with status 1.",
            remedy: "Set `Backend.MTU` in the network config, or choose another interface with `-iface`.",
        },
        Code {
            id: "W0413",
            lines: &[
                "Backend.MTU 9000 is more than the MTU 1500 of eth0: full-sized packets will be fragmented",
            ],
            cause: "The config asks for longer packets than the interface carries.",
            remedy: "Make `Backend.MTU` smaller, or the MTU of the interface larger.",
        },
        Code {
            id: "W0414",
            lines: &["eth0 is down: no packets to other nodes leave through it"],
            cause: "The underlay interface is down, `gone`, or `without a carrier`.",
            remedy: "Bring it back; `eth0 is up again` follows.",
        },
        Code {
            id: "W0415",
            lines: &["eth0 has lost 10.0.0.5: no packets leave from it, ..."],
            cause: "Somebody removed the address that packets leave from. The node is not ready.",
            remedy: "Put the address back (`... is there again` follows), or start again to take another one.",
        },
        Code {
            id: "W0416",
            lines: &["the MTU of eth0 is 1400 and was 1500 at the start, ..."],
            cause: "The tunnel and `subnet.env` go by the MTU of the start.",
            remedy: "Start again to take the new one, unless `the MTU of eth0 is 1500 again` follows.",
        },
        Code {
            id: "W0417",
            lines: &[
                "the IPv4 default route leads through eth1, and led through eth0 at the start: ...",
            ],
            cause: "The underlay was chosen by that route. Packets to other nodes still have the old source.",
            remedy: "Start again to take the other interface, unless `the IPv4 default route leads through no other interface than eth0 again` follows.",
        },
        Code {
            id: "W0418",
            lines: &[
                "eth0 was renamed to eth7: the node goes on with it; a flag that names it needs the new name at the next start",
            ],
            cause: "Somebody, such as a udev rule, gave the underlay interface another name.",
            remedy: "Give the new name in `-iface`, if it has the old one.",
        },
        Code {
            id: "W0419",
            lines: &[
                "net.ipv4.ip_forward is 0: packets between pods and other nodes are not forwarded until it is 1; ...",
            ],
            cause: "What pods send stays on the node until somebody sets it; or `net.ipv6.conf.all.forwarding`.",
            remedy: "Run the `sysctl -w` that the line ends with, unless Docker or the CNI plugin sets it when it starts.",
        },
        Code {
            id: "W0420",
            lines: &[
                "/proc/sys/net/bridge/bridge-nf-call-iptables is missing: without the kernel module br_netfilter (modprobe br_netfilter) the firewall does not see what pods on one bridge send to each other",
            ],
            cause: "The module is not loaded. Network policies and services may not hold between pods of one node.",
            remedy: "`modprobe br_netfilter`, and have it loaded at boot.",
        },
    ],
    retired: &[],
};
