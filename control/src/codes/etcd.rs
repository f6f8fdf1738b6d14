//! Of the stores: etcd, or a file with all leases; and of the network config in them.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "etcd, the subnets file and the network config",
    codes: &[
        Code {
            id: "W0201",
            lines: &[
                "etcd unreachable: <server>: <reason>; retrying",
                "etcd still unreachable: <server>: <reason>; retrying",
            ],
            cause: "A wrong endpoint, etcd is down, or a firewall is between. `is this etcd?`: a web server or a proxy answers in its place. Said once for each outage, and once for each other reason, at most 10 times.",
            remedy: "Put that right: the agent tries on by itself, and says when etcd answers.",
        },
        Code {
            id: "W0202",
            lines: &[
                "etcd refused to ...: permission denied; user \"weft\" needs ...",
                "etcd refused to ...: etcdserver: mvcc: database space exceeded; ...",
                "etcd refused to list leases: the value of key \"...\" is longer than 256 MiB and no lease; delete it",
            ],
            cause: "etcd answers, and says no: a missing permission, its quota is used up, or a value that cannot be a lease. Said once for each reason, and tried again.",
            remedy: "The line says which permission, quota or key it is. A lost lease is back within seconds after that.",
        },
        Code {
            id: "W0203",
            lines: &["etcd has no users turned on: -etcd-username is not used"],
            cause: "etcd lets everybody in.",
            remedy: "Turn users on (`etcdctl auth enable`), or leave `-etcd-username` out.",
        },
        Code {
            id: "W0204",
            lines: &[
                "http://10.0.0.1:2379 is used without TLS: the certificates given count for https:// only",
            ],
            cause: "Certificates are given, and an endpoint says `http://`.",
            remedy: "Write `https://` in `-etcd-endpoints`, or leave the certificates out.",
        },
        Code {
            id: "W0205",
            lines: &[
                "-etcd-certfile is given without -etcd-keyfile: no client certificate is used",
                "-etcd-password is given without -etcd-username: no user is used",
                "blanks and empty entries in -etcd-endpoints are left out",
            ],
            cause: "A setting for etcd that counts only together with another one, or a list with empty entries.",
            remedy: "Give both, or leave it out.",
        },
        Code {
            id: "W0206",
            lines: &["... (-etcd-certfile) ...; what was read before stays in use"],
            cause: "A certificate, key or CA file has changed and is missing or malformed by now.",
            remedy: "Put the file right: it is read again when it has changed.",
        },
        Code {
            id: "W0207",
            lines: &["etcd's history is another than before: listing all leases again"],
            cause: "etcd was restored from a backup, or replaced.",
            remedy: "Nothing, if that was done on purpose: [leases](leases.md#watching-the-others) tells what becomes of those that are missing.",
        },
        Code {
            id: "W0208",
            lines: &[
                "ignoring etcd key \"...\": it names no subnet",
                "ignoring the value of lease <key> in etcd: ...",
            ],
            cause: "Something else than leases is under the prefix, or a lease was written by hand or by something that is not flannel. Each key is told once.",
            remedy: "Delete the key, or mend its value.",
        },
        Code {
            id: "W0209",
            lines: &[
                "more than 1000 keys in etcd cannot be used: no others are named here, but weft leases list names them all",
            ],
            cause: "Something writes keys that are no leases under the prefix.",
            remedy: "Find out what does, and delete the keys that `weft leases list` names.",
        },
        Code {
            id: "W0210",
            lines: &["no etcd endpoint is given", "... (-etcd-certfile) ..."],
            cause: "How etcd is to be reached cannot be used: an endpoint, or a file with a certificate or key. The agent ends with status 1.",
            remedy: "The line says which setting it is and what is wrong with it.",
        },
        Code {
            id: "W0211",
            lines: &[
                "no network config in etcd: key <key> not found; ...",
                "the network config under <key> is not UTF-8 text",
            ],
            cause: "Nothing that could be one is stored under `<prefix>/config`. It is looked for again each second.",
            remedy: "Store one with the command in the line, or give the right `-etcd-prefix`.",
        },
        Code {
            id: "W0212",
            lines: &[
                "network config is not a JSON object: ...",
                "network config: <key> is missing: <rule>",
                "network config: <key> <value>: <rule>",
            ],
            cause: "A value breaks the rule that the line tells, or asks for a backend that is [not there](../README.md#what-is-not-there-yet).",
            remedy: "Change the config, or leave this node to flanneld.",
        },
        Code {
            id: "W0213",
            lines: &[
                "out of subnets: every subnet of length 24 between ... and ... is leased; ...",
            ],
            cause: "Each subnet between SubnetMin and SubnetMax has a lease.",
            remedy: "Delete leases of nodes that are gone (`weft leases release`), or enlarge Network.",
        },
        Code {
            id: "W0214",
            lines: &["lost ... races for a subnet to other nodes; start again"],
            cause: "Other nodes were faster to write each subnet that was free, as when very many start at once.",
            remedy: "Start again.",
        },
        Code {
            id: "W0215",
            lines: &["/etc/weft/peers.toml holds no lease for ...; waiting for it"],
            cause: "With `-subnets-file`: none of its entries is for an address of this host.",
            remedy: "Add the entry that the line tells, or start with the `-iface` or `-public-ip` that an entry has.",
        },
        Code {
            id: "W0216",
            lines: &["/etc/weft/peers.toml: line 7: ...; keeping what it held before"],
            cause: "The subnets file was changed and cannot be used as it is.",
            remedy: "Mend the file; `... can be read again` follows.",
        },
        Code {
            id: "W0217",
            lines: &[
                "the network config in /etc/weft/peers.toml has changed: it counts from the next start on, and so do the leases beside it",
            ],
            cause: "The node goes on with the config that it was started with, and with the leases that the file had under it.",
            remedy: "Start again to use the new one.",
        },
        Code {
            id: "W0218",
            lines: &["/etc/weft/peers.toml: line 7: ...; looking again each second"],
            cause: "The subnets file cannot be read, or breaks a rule: the node waits, and looks again each second.",
            remedy: "The line says where and why; see [without etcd](running.md#without-etcd).",
        },
        Code {
            id: "W0219",
            lines: &["the watch on the other nodes' leases ended by itself; start again"],
            cause: "The store no longer tells of other nodes, which it should not do.",
            remedy: "Start again, and please report it with the lines before.",
        },
        Code {
            id: "W0220",
            lines: &["the network config has changed meanwhile"],
            cause: "Somebody stored another one while this node asked for a lease.",
            remedy: "Start again, unless the agent goes on by itself with the new one.",
        },
    ],
    retired: &[],
};
