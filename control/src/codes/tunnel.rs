//! Of the devices, their sockets and the workers.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "Tunnel devices and workers",
    codes: &[
        Code {
            id: "W0501",
            lines: &["flannel.1 was removed: making it anew"],
            cause: "Somebody deleted the device.",
            remedy: "Nothing: it comes back within a second. If it goes on, find out who does it.",
        },
        Code {
            id: "W0502",
            lines: &[
                "flannel.1 was set down: bringing it up again",
                "flannel.1 was renamed to <name>: calling it flannel.1 again",
            ],
            cause: "Somebody set the device down, or gave it another name.",
            remedy: "Nothing. If it goes on, find out who does it.",
        },
        Code {
            id: "W0503",
            lines: &["weft.1 had lost its address or settings ...: it has them again"],
            cause: "Somebody flushed addresses or wrote `rp_filter` of all devices.",
            remedy: "Nothing. If it goes on, find out who does it.",
        },
        Code {
            id: "W0504",
            lines: &["checksum offload of flannel.1 was turned off, ..."],
            cause: "A udev rule with `tx-checksum-ip-generic off`, made for a fault of kernel VXLAN, most likely.",
            remedy: "Nothing: weft turns it on again each time; better remove the rule.",
        },
        Code {
            id: "W0505",
            lines: &["flannel.1: ...; trying again each second"],
            cause: "The device cannot be made anew or looked after; the agent ends when that lasts a minute.",
            remedy: "The line says why: remove the reason. `flannel.1 is as it should be again` follows.",
        },
        Code {
            id: "W0506",
            lines: &["...; trying again", "flannel.1: ...; trying again"],
            cause: "A look at the device, its addresses, the routes or the peers came to nothing: the kernel's answer is in the line.",
            remedy: "It is tried again each 10 seconds. If it goes on, remove the reason.",
        },
        Code {
            id: "W0507",
            lines: &["flannel.1: ...; making it anew"],
            cause: "The workers could not go on with what they had from the run before.",
            remedy: "Nothing; packets were lost for a moment.",
        },
        Code {
            id: "W0508",
            lines: &[
                "the device has 2 queues from the run before, not 4 as -queues says: that takes a stop and a start",
            ],
            cause: "A device that is handed over keeps its queues.",
            remedy: "Stop the agent, and start it again, when packets may wait.",
        },
        Code {
            id: "W0509",
            lines: &[
                "...; flanneld cannot make its device beside one that was set aside; ...",
                "the kernel VXLAN device flannel.1 could not be put back in full: ...",
            ],
            cause: "A kernel device could not be removed or put back.",
            remedy: "Remove it by hand before flanneld starts: `ip link del flannel-old0`.",
        },
        Code {
            id: "W0510",
            lines: &["flannel.7 of an earlier backend stays: another process holds it"],
            cause: "The device of another backend or network is in use.",
            remedy: "End that process.",
        },
        Code {
            id: "W0511",
            lines: &[
                "...; a later run will not know the device as its own",
                "...; devices of an earlier backend may be left",
                "...; routes to other nodes may be left of an earlier backend",
            ],
            cause: "The kernel refused to mark, list or remove what an earlier run made.",
            remedy: "Look with `ip -d link` and `ip route`, and remove what is left.",
        },
        Code {
            id: "W0512",
            lines: &[
                "Linux <release> is of a version that corrupts UDP trains (7.0 to 7.1.4): ...",
            ],
            cause: "A fault of that kernel: weft sends single datagrams, which costs speed.",
            remedy: "Another [kernel version](kernel-versions.md). With a repaired one of that number: `-udp-gso=on`.",
        },
        Code {
            id: "W0513",
            lines: &["<reason>: using the poll engine"],
            cause: "With `-engine=auto`: this kernel has no io_uring that will do, or does not allow it.",
            remedy: "Leave it; or a newer kernel, `sysctl kernel.io_uring_disabled=0`, or a seccomp profile that allows io_uring.",
        },
        Code {
            id: "W0514",
            lines: &["send buffers have <n> bytes only, ..."],
            cause: "The agent may not go past `net.core.wmem_max`; a full queue can then cost other nodes frames.",
            remedy: "Raise `net.core.wmem_max`, or give the agent `CAP_NET_ADMIN` outside of a user namespace.",
        },
        Code {
            id: "W0515",
            lines: &["frames to these nodes (number lost so far) could not leave, ...: <peers>"],
            cause: "The queue of the device towards them is full, or the kernel refuses them. At most a line a minute, and each peer once in ten minutes.",
            remedy: "`tc -s qdisc`; `ip route get <peer>`; the counters `drop_queue_full` and `drop_send_failed` tell which it is.",
        },
        Code {
            id: "W0516",
            lines: &["the kernel refused a UDP train: ..."],
            cause: "Trains to one peer, or of more than 64 frames, are not sent for a while: see [packet](packet.md#refusals).",
            remedy: "Nothing; before Linux 6.9 a newer kernel spares it.",
        },
        Code {
            id: "W0517",
            lines: &[
                "the kernel takes no UDP trains, which needs Linux 4.18: ...",
                "the kernel merges no received datagrams into trains, which needs Linux 5.0: ...",
                "the kernel lets the TUN device have no TCP super-packets: ...",
                "the kernel lets the TUN device have no UDP super-packets, which needs Linux 6.2: ...",
                "the kernel takes no program that gives each pod its queue of the TUN device, which needs CAP_BPF and Linux 5.2: ...",
            ],
            cause: "The kernel is older than the line says, or a sandbox keeps it from weft. Traffic goes on, at some cost; without the program for queues a pod that floods by many flows costs other pods of its node packets.",
            remedy: "A newer kernel, or the capability that the line names; or leave it. See [kernel versions](kernel-versions.md).",
        },
        Code {
            id: "W0518",
            lines: &["the kernel refuses a super-packet on the TUN device: ..."],
            cause: "Single packets are written to pods, or shorter super-packets, for a while; `merges_refused` counts.",
            remedy: "Nothing; please report it if the counter goes on to grow.",
        },
        Code {
            id: "W0519",
            lines: &["super-packets to <peers> do not get out whole (<cause>): ..."],
            cause: "For the peers named, a FORWARD chain stops what comes from the device `weft.<VNI>`, or the route to them leaves by another device; or the line names `rp_filter=1`: then BPF is refused, or frames do not leave as they are (IPsec, source NAT).",
            remedy: "Allow forwarding from that device; it is tried again each minute, and `... leave whole again` follows. Or leave it: trains carry the traffic.",
        },
        Code {
            id: "W0520",
            lines: &[
                "the kernel refuses whole super-packets, or the packet socket that watches them leave ...",
                "super-packets are cut before they leave: ...",
            ],
            cause: "Tunnel GSO cannot be had: the TAP cannot be made, `CAP_NET_RAW` is missing, or the kernel refuses. Traffic goes on, at some cost.",
            remedy: "Give the agent the capability, or silence it with `-tunnel-gso=off`.",
        },
        Code {
            id: "W0521",
            lines: &[
                "flannel.1 exists and is not a TUN device (...); remove it: ip link del flannel.1",
                "link flannel.1 exists and is not a TUN with several queues, ...",
            ],
            cause: "Something else has the device's name. The end, with status 1.",
            remedy: "Remove it, if nobody needs it: `ip link del flannel.1`.",
        },
        Code {
            id: "W0522",
            lines: &[
                "flannel.1 was replaced by a kernel VXLAN device; stop the flanneld that made it, or this agent",
            ],
            cause: "flanneld was started while the agent ran. The end, with status 1.",
            remedy: "Stop one of the two.",
        },
        Code {
            id: "W0523",
            lines: &[
                "UDP port 8472 is in use by a kernel VXLAN device ... or another agent ...",
                "flannel.1 cannot be taken over: the kernel VXLAN device ... has UDP port 8472, too, ...",
            ],
            cause: "Another VXLAN device is on this port, or another agent, most often this one, which runs already. The end, with status 1.",
            remedy: "`ip -d link show type vxlan`; `ss -lunp sport = :8472`. If it is another network's, give one of the two another `Backend.Port`.",
        },
        Code {
            id: "W0524",
            lines: &[
                "flannel.1 is in use by another agent of this host, whose network has VNI 1, too (alias ...): ...",
                "TUN device flannel.1 is in use by another process: stop the other agent first",
            ],
            cause: "A second agent with the same VNI in this network namespace. The end, with status 1.",
            remedy: "Stop the other one, or give one of the two networks another `Backend.VNI`.",
        },
        Code {
            id: "W0525",
            lines: &[
                "no TUN device: /dev/net/tun does not exist; ...",
                "no permission to create TUN device flannel.1: ...",
            ],
            cause: "The module is not loaded, or the container has not the device or the capability. The end, with status 1.",
            remedy: "`modprobe tun`; pass the device into the container; `CAP_NET_ADMIN` and access to `/dev/net/tun`.",
        },
        Code {
            id: "W0526",
            lines: &[
                "flannel0 and the next ... names for the device are taken by others; remove one: ip link del NAME",
            ],
            cause: "With the `udp` backend: no name is left. The end, with status 1.",
            remedy: "Remove one of these devices.",
        },
        Code {
            id: "W0527",
            lines: &[
                "flannel.1 was removed while it was being set up; start again",
                "the kernel VXLAN device flannel.1 was removed or made anew, or has another MAC, since the lease was asked for; start again",
            ],
            cause: "Somebody changes the device while the agent starts. The end, with status 1.",
            remedy: "Start again; if it goes on, find out who does it.",
        },
        Code {
            id: "W0528",
            lines: &["io_uring refused (...): it needs Linux 6.7 or later, ..."],
            cause: "`-engine=ring` was asked for; the kernel is older, `kernel.io_uring_disabled` is set, or a seccomp profile forbids it (Docker's default is one). The end, with status 1.",
            remedy: "Leave `-engine` at `auto`, which then takes the poll engine; or a newer kernel; `sysctl kernel.io_uring_disabled=0`; a profile that allows `io_uring_setup`, `io_uring_enter`, `io_uring_register`.",
        },
        Code {
            id: "W0529",
            lines: &["-cpus names CPUs that this process may not use: ..."],
            cause: "The list goes past the machine, or past the cpuset of the unit or the container. The end, with status 1.",
            remedy: "Name others, or leave `-cpus` at `auto`.",
        },
        Code {
            id: "W0530",
            lines: &["a packet worker failed: ...", "starting workers: ..."],
            cause: "The line says what the kernel answered. The end, with status 1.",
            remedy: "Start again; please report it if it comes back.",
        },
        Code {
            id: "W0531",
            lines: &["TUN device flannel.1: ...", "UDP socket on ...: ..."],
            cause: "The kernel refuses a step of the setup. The end, with status 1.",
            remedy: "The line names the step and the kernel's answer; see [what it needs](running.md#what-it-needs).",
        },
        Code {
            id: "W0532",
            lines: &[
                "what goes to each peer and comes from it is not counted: ...; trying again each minute (-metrics-peer-traffic=false silences this)",
            ],
            cause: "`-metrics-peer-traffic` was asked for, and the kernel takes no programs on the underlay device: it is older than 6.6, or the agent lacks CAP_BPF, CAP_NET_ADMIN or CAP_PERFMON.",
            remedy: "Nothing for traffic: only these counters are missing. Grant what the line names, or leave the flag out.",
        },
    ],
    retired: &[],
};
