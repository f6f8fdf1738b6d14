//! Every flag: its name, type, default and what is to be said of it.

use super::flag::{By, Flag, Kind, Status};
use crate::text;

const fn works(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help,
        status: Status::Works,
    }
}

/// A flag of klog's that has no counterpart.
const fn klog(name: &'static str) -> Flag {
    Flag {
        status: Status::NoEffect("-v sets the verbosity of the whole agent"),
        ..works(name, Text, "", "")
    }
}

use Kind::{Bool, Int, Repeated, Switch, Text};

/// flanneld's flags in the order of its help text, then weft's own.
pub(super) static TABLE: [Flag; 60] = [
    works(
        "etcd-endpoints",
        Text,
        "http://127.0.0.1:4001,http://127.0.0.1:2379",
        "comma-separated list of etcd servers",
    ),
    works(
        "etcd-prefix",
        Text,
        "/coreos.com/network",
        "path in etcd of the network config and the leases",
    ),
    works("etcd-keyfile", Text, "", "file with the client's key, PEM"),
    works(
        "etcd-certfile",
        Text,
        "",
        "file with the client's certificate, PEM",
    ),
    works(
        "etcd-cafile",
        Text,
        "",
        "file with the certificates that etcd servers are checked against, PEM",
    ),
    works("etcd-username", Text, "", "user name for etcd"),
    Flag {
        status: Status::Secret,
        ..works(
            "etcd-password",
            Text,
            "",
            "password for etcd; FLANNELD_ETCD_PASSWORD keeps it out of the process list",
        )
    },
    works(
        "iface",
        Repeated,
        "",
        "external interface, by name or by address; may be repeated, the first that matches is used",
    ),
    works(
        "iface-regex",
        Repeated,
        "",
        "external interface, by a regular expression for its address, else for its name; may be repeated, tried after all -iface",
    ),
    works(
        "iface-can-reach",
        Text,
        "",
        "external interface, by an address that is reached through it; tried last",
    ),
    works(
        "subnet-file",
        Text,
        "/run/flannel/subnet.env",
        "file that container runtimes read subnet and MTU from",
    ),
    works(
        "public-ip",
        Text,
        "",
        "IPv4 address that other nodes send to",
    ),
    works(
        "public-ipv6",
        Text,
        "",
        "IPv6 address that other nodes send to",
    ),
    works(
        "subnet-lease-renew-margin",
        Int,
        "60",
        "minutes before its end that the lease is renewed, 1 to 1439",
    ),
    works(
        "ip-masq",
        Bool,
        "false",
        "masquerade what pods send out of the network",
    ),
    works(
        "ip-masq-fully-random-disable",
        Bool,
        "false",
        "masquerade without choosing ports fully at random",
    ),
    works(
        "kube-subnet-mgr",
        Bool,
        "false",
        "take the node's subnet from the Kubernetes API, and not from etcd",
    ),
    works(
        "kube-api-url",
        Text,
        "",
        "URL of the API server, in place of what the kubeconfig or the pod says",
    ),
    works(
        "kubeconfig-file",
        Text,
        "",
        "kubeconfig with the way to the API server; neither this nor a URL: the pod's service account",
    ),
    works(
        "kube-annotation-prefix",
        Text,
        "flannel.alpha.coreos.com",
        "what the names of the nodes' annotations begin with",
    ),
    works(
        "net-config-path",
        Text,
        "/etc/kube-flannel/net-conf.json",
        "file with the network config, with -kube-subnet-mgr",
    ),
    works(
        "set-node-network-unavailable",
        Bool,
        "true",
        "set the node's condition NetworkUnavailable to False, with -kube-subnet-mgr",
    ),
    works(
        "healthz-ip",
        Text,
        "0.0.0.0",
        "address, or name of a host, that /healthz, /readyz and /metrics are served on; 0.0.0.0 or ::, all of both families",
    ),
    works(
        "healthz-port",
        Int,
        "0",
        "port that /healthz, /readyz and /metrics are served on; 0: they are not",
    ),
    works(
        "iptables-resync",
        Int,
        "5",
        "seconds between two looks whether firewall rules and blackhole routes are there",
    ),
    works(
        "iptables-forward-rules",
        Bool,
        "true",
        "accept forwarded packets from and to the network",
    ),
    works(
        "ip-blackhole-route",
        Bool,
        "false",
        "keep a blackhole route for the node's own subnet",
    ),
    works("version", Bool, "false", "print the version and exit"),
    works("v", Int, "0", "log verbosity: 0 info, 1 and above debug"),
    works(
        "log-format",
        Text,
        "text",
        "what a line of the log is: text, or a JSON object (json)",
    ),
    klog("vmodule"),
    klog("log_backtrace_at"),
    works(
        "subnets-file",
        Text,
        "",
        "JSON or TOML file with the network config and all leases, in place of etcd",
    ),
    works(
        "state-dir",
        Text,
        "/var/lib/weft",
        "directory where the MAC address, and what etcd or the API server has said, are kept across restarts",
    ),
    works(
        "use-ended-lease",
        Bool,
        "false",
        "while etcd does not answer a start, go on with the lease of the last run although it has ended: another node may have its subnet",
    ),
    works(
        "socket-dir",
        Text,
        "/run/weft",
        "directory of the agent's local socket, over which weft status and weft fast-path reach it; empty: it has none",
    ),
    works(
        "linger",
        Bool,
        "false",
        "once another agent has taken over, stay until that one ends or a signal comes, for managers that start again what has ended",
    ),
    works(
        "metrics-peers",
        Int,
        "32",
        "how many of the peers that lose frames, and of those that are counted, /metrics and weft status name, 0 to 256",
    ),
    works(
        "metrics-peer-traffic",
        Bool,
        "false",
        "count what goes to each peer and comes from it, by two eBPF programs on the underlay device (Linux 6.6)",
    ),
    works(
        "queues",
        Int,
        "0",
        "TUN queues, each with two workers; 0: one for every four cores, two from four cores on, at most 8",
    ),
    works(
        "cpus",
        Text,
        "auto",
        "cores that workers are pinned to: a list such as 0-3,8, none, or auto: a core for each worker where as many are left",
    ),
    works(
        "engine",
        Text,
        "auto",
        "what moves packets: ring (io_uring), poll (epoll), or auto: ring where the kernel has it",
    ),
    works(
        "admit",
        Text,
        "strict",
        "whom to take packets from: strict (live peers, their own subnets) or loose",
    ),
    works(
        "tx-sockets",
        Int,
        "0",
        "sockets to send from, each with its own source port; 0: 8",
    ),
    works(
        "outer-df",
        Bool,
        "false",
        "set DF on packets to other nodes, and learn the MTU of the path to each",
    ),
    works(
        "tso",
        Bool,
        "true",
        "take TCP super-packets from the TUN device",
    ),
    works(
        "uso",
        Bool,
        "true",
        "take UDP super-packets from the TUN device",
    ),
    works(
        "udp-gso",
        Switch,
        "auto",
        "send trains with UDP segmentation offload: on, off, or auto (off on Linux 7.0 to 7.1.4, which corrupts them)",
    ),
    works(
        "udp-gro",
        Bool,
        "true",
        "receive trains with UDP receive offload",
    ),
    works(
        "spin-us",
        Int,
        "0",
        "microseconds that idle workers look for packets before they sleep, 0 to 1000; takes the poll engine",
    ),
    works(
        "tunnel-gso",
        Text,
        "auto",
        "send TCP super-packets whole (Linux 6.17): auto (where the underlay device takes them), on or off",
    ),
    works(
        "fast-path",
        Text,
        "auto",
        "let eBPF programs in the kernel carry packets: auto (those that are cheaper there), on (all that they can) or off",
    ),
    works(
        "fast-path-hook",
        Text,
        "auto",
        "how the programs are attached: tcx (Linux 6.6), clsact, or auto: tcx where the kernel has it",
    ),
    works(
        "fast-path-trains",
        Text,
        "auto",
        "leave TCP super-packets to the workers, which send them in trains: auto (over devices that cut them and merge what comes), on or off",
    ),
    works(
        "fast-path-lifetime",
        Int,
        "60",
        "minutes that the programs go on with their last peers when no agent runs, 1 to 10080",
    ),
    works(
        "bpffs",
        Text,
        "/sys/fs/bpf",
        "where the BPF file system is mounted, under which the programs are kept when the agent ends",
    ),
    works(
        "remove",
        Bool,
        "false",
        "take away what an agent with the same flags has left on this host, and exit",
    ),
    works(
        "remove-state",
        Bool,
        "false",
        "with -remove: -subnet-file and the MAC addresses in -state-dir, too",
    ),
    works(
        "drain",
        Bool,
        "false",
        "with -remove and -kube-subnet-mgr: the node's annotations, too, and NetworkUnavailable is set to True",
    ),
    works("help", Bool, "false", "print this text and exit"),
];

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    TABLE.iter().find(|flag| flag.name == name)
}

/// The name that `name` may be a slip of, among flags that do something.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let known = TABLE.iter().filter(|flag| flag.does_something());
    text::nearest(name, known.map(|flag| flag.name))
}

/// What to say of a flag whose value changes nothing though it is not the default.
pub(super) fn no_effect(flag: &Flag, value: &str, by: By) -> Option<String> {
    match flag.status {
        Status::NoEffect(why) if !flag.is_default(value) => {
            Some(format!("{} has no effect: {why}", flag.called(by)))
        }
        _ => None,
    }
}
