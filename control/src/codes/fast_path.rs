//! Of the fast path.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "The fast path",
    codes: &[
        Code {
            id: "W0601",
            lines: &[
                "no fast path: ...; the workers carry all packets, and it is tried again each minute (-fast-path=off silences this)",
            ],
            cause: "What the kernel refused, such as loading the programs without `CAP_BPF` and `CAP_PERFMON`; an underlay device that is no Ethernet, IPsec policies, `-outer-df`; or somebody has taken it away. Once for each reason.",
            remedy: "See [what it needs](fast-path.md#what-it-needs). Or leave it: the workers carry everything.",
        },
        Code {
            id: "W0602",
            lines: &[
                "the fast path ends with the agent, as it cannot be pinned under /sys/fs/bpf: ...",
            ],
            cause: "The BPF file system is not mounted there, or not writable.",
            remedy: "`mount -t bpf bpf /sys/fs/bpf`, or name another place with `-bpffs`.",
        },
        Code {
            id: "W0603",
            lines: &[
                "2 firewall rules on UDP port 8472 do not see packets on the fast path, such as ...",
            ],
            cause: "Packets on the fast path [pass the host's firewall by](fast-path.md#what-passes-by).",
            remedy: "A rule that lets the port pass: nothing. One that drops it still meets what workers send and receive (floods, trains, what is too long, flows after an upgrade), which is lost: remove it. Where the rules have to hold for all packets, `-fast-path=off`.",
        },
        Code {
            id: "W0604",
            lines: &["the qdisc tbf of flannel.1 does not see packets on the fast path: ..."],
            cause: "Packets on the fast path do not pass the device's queue.",
            remedy: "Put it on the underlay device, or switch the fast path off.",
        },
        Code {
            id: "W0605",
            lines: &["the fast path could not be taken away as a whole: ..."],
            cause: "The line says what stays: it goes on beside the workers.",
            remedy: "[Take it away](fast-path.md#taking-it-away) by hand.",
        },
        Code {
            id: "W0606",
            lines: &[
                "cannot remove the fast path of flannel.7: ...; it may be left of an earlier backend",
            ],
            cause: "What an earlier run made for another backend or network cannot be removed.",
            remedy: "[Take it away](fast-path.md#taking-it-away) by hand.",
        },
        Code {
            id: "W0607",
            lines: &[
                "other programs on flannel.1 see packets first, and if an earlier agent has left them, ...",
                "what an earlier run has left for flannel.1 under /sys/fs/bpf stays: ...",
            ],
            cause: "Programs of an earlier agent may go on beside this one, by the table that they had: they are pinned where this agent cannot reach them, in another mount of the BPF file system or one that is read-only. See [when the agent ends](fast-path.md#when-the-agent-ends).",
            remedy: "Remove `/sys/fs/bpf/weft/<namespace>/<device>` where the earlier agent had it: `<namespace>` is the inode of its network namespace (`stat -Lc %i /proc/<pid of the agent>/ns/net`), and a dot in the device's name is a `+`. What is beside it belongs to other agents and namespaces, and packets go on by it. Or have that place mounted here and named by `-bpffs`; then start again.",
        },
    ],
    retired: &[],
};
