//! The kernel.

use super::facts::{Case, Failure, Fine, Unknown, Warning, off, set, tunnel, workers};

pub(super) const CASES: &[Case] = &[
    (
        "kernel",
        |f| f.host.release = "3.2.0".to_owned(),
        Failure,
        "several queues",
        "newer kernel",
    ),
    (
        "kernel",
        |f| f.host.release = "5.10.0-30-amd64".to_owned(),
        Warning,
        "goes without the fast path (5.13)",
        "newer kernel",
    ),
    (
        "kernel",
        |f| f.host.release = "6.8.0".to_owned(),
        Fine,
        "tunnel GSO (6.17)",
        "",
    ),
    (
        "kernel",
        |f| f.host.release = "x".to_owned(),
        Unknown,
        "no version",
        "",
    ),
    (
        "udp-gso",
        |f| f.host.corrupts_udp_gso = true,
        Failure,
        "corrupts trains",
        "-udp-gso=auto",
    ),
    (
        "udp-gso",
        |f| {
            f.host.corrupts_udp_gso = true;
            workers(f)
                .capabilities
                .insert("udp_gso".to_owned(), "off".to_owned());
        },
        Warning,
        "single datagrams",
        "7.1.5",
    ),
    (
        "tun",
        |f| f.host.tun = Some("no such file".to_owned()),
        Failure,
        "no such file",
        "modprobe tun",
    ),
    (
        "io-uring",
        |f| set(f, "kernel/io_uring_disabled", "2"),
        Warning,
        "is 2",
        "as hardening does",
    ),
    (
        "offloads",
        |f| {
            workers(f)
                .capabilities
                .insert("tso".to_owned(), "refused".to_owned());
        },
        Warning,
        "tso of flannel.1 is refused",
        "the log",
    ),
    (
        "fast-path",
        |f| {
            tunnel(f).fast_path.state = "refused".to_owned();
            tunnel(f).fast_path.reason = Some("no CAP_BPF".to_owned())
        },
        Warning,
        "flannel.1 has none: no CAP_BPF",
        "fast-path.md",
    ),
    (
        "fast-path",
        |f| {
            f.host.bpffs = false;
            tunnel(f).fast_path.reason = Some("nothing can be pinned".to_owned())
        },
        Warning,
        "nothing can be pinned",
        "mount -t bpf bpf /sys/fs/bpf",
    ),
    ("fast-path", off, Fine, "not wanted", ""),
];
