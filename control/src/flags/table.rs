//! Every flag: its name, type, default and what is to be said of it.

use std::fmt::Write;

/// One flag.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The default as it would be written on the command line.
    pub(super) default: &'static str,
    pub(super) help: &'static str,
    pub(super) status: Status,
}

/// The type of a flag's value, as Go's `flag` package has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Text,
    /// Text; each further value is added.
    Repeated,
}

/// Whether a flag does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Works,
    /// flanneld has it, weft does not yet. The value that asks for nothing is accepted.
    Later {
        inert: &'static str,
    },
    /// As `Later`, and the value must not be shown.
    LaterSecret,
}

const fn works(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help,
        status: Status::Works,
    }
}

/// A flag of flanneld's that is not there yet; its default is what asks for nothing.
const fn later(name: &'static str, kind: Kind, default: &'static str) -> Flag {
    Flag {
        name,
        kind,
        default,
        help: "",
        status: Status::Later { inert: default },
    }
}

use Kind::{Bool, Int, Repeated, Text};

/// flanneld's flags in the order of its help text, then weft's own.
pub(super) static TABLE: [Flag; 44] = [
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
    later("etcd-keyfile", Text, ""),
    later("etcd-certfile", Text, ""),
    later("etcd-cafile", Text, ""),
    later("etcd-username", Text, ""),
    Flag {
        status: Status::LaterSecret,
        ..later("etcd-password", Text, "")
    },
    works(
        "iface",
        Repeated,
        "",
        "external interface, by name or by address; may be repeated, the first that matches is used",
    ),
    later("iface-regex", Repeated, ""),
    later("iface-can-reach", Text, ""),
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
    later("public-ipv6", Text, ""),
    works(
        "subnet-lease-renew-margin",
        Int,
        "60",
        "minutes before its end that the lease is renewed, 1 to 1439",
    ),
    later("ip-masq", Bool, "false"),
    later("ip-masq-fully-random-disable", Bool, "false"),
    later("kube-subnet-mgr", Bool, "false"),
    later("kube-api-url", Text, ""),
    later("kubeconfig-file", Text, ""),
    later("kube-annotation-prefix", Text, "flannel.alpha.coreos.com"),
    later("net-config-path", Text, "/etc/kube-flannel/net-conf.json"),
    later("set-node-network-unavailable", Bool, "true"),
    later("healthz-ip", Text, "0.0.0.0"),
    later("healthz-port", Int, "0"),
    later("iptables-resync", Int, "5"),
    // flanneld's default is true. Asking for it by name must not go unheard.
    Flag {
        default: "true",
        ..later("iptables-forward-rules", Bool, "false")
    },
    later("ip-blackhole-route", Bool, "false"),
    works("version", Bool, "false", "print the version and exit"),
    works("v", Int, "0", "log verbosity: 0 info, 1 and above debug"),
    later("vmodule", Text, ""),
    later("log_backtrace_at", Text, ""),
    works(
        "state-dir",
        Text,
        "/var/lib/weft",
        "directory where the MAC address is kept across restarts",
    ),
    works(
        "queues",
        Int,
        "0",
        "TUN queues, each with two workers; 0: one for every two cores, at most 8",
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
        Bool,
        "true",
        "send trains with UDP segmentation offload",
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
    works("help", Bool, "false", "print this text and exit"),
];

/// The flag of this name.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    TABLE.iter().find(|flag| flag.name == name)
}

/// The name most like `name` among flags that work.
pub(super) fn nearest(name: &str) -> &'static str {
    let known = TABLE.iter().filter(|flag| flag.status == Status::Works);
    known
        .min_by_key(|flag| strsim::damerau_levenshtein(flag.name, name))
        .map_or("help", |flag| flag.name)
}

/// What `-help` prints.
pub(super) fn help() -> String {
    let mut text = String::from("Usage: weft agent [flags]\n\n");
    let (works, later): (Vec<&Flag>, Vec<&Flag>) =
        TABLE.iter().partition(|flag| flag.status == Status::Works);
    for flag in works {
        let value = match flag.kind {
            Bool => "",
            Int => " int",
            Text | Repeated => " string",
        };
        let default = match (flag.kind, flag.default) {
            (Bool, "false") | (_, "") => String::new(),
            (_, default) => format!(" (default {default})"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  -{}{value}\n        {}{default}",
            flag.name, flag.help
        );
    }
    let names: Vec<&str> = later.iter().map(|flag| flag.name).collect();
    let _ = writeln!(
        text,
        "\nflanneld's flags that are not there yet: {}",
        names.join(", ")
    );
    text.push_str("\nA flag that is not given is taken from FLANNELD_<NAME>, such as FLANNELD_ETCD_ENDPOINTS.\n");
    text
}
