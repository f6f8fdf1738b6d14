//! Of leases: this node's, what it remembers, and those of the others.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "Leases, and what a node remembers",
    codes: &[
        Code {
            id: "W0301",
            lines: &[
                "etcd has not answered within 20 ms: starting with the lease and the peers of 3m12s ago",
            ],
            cause: "The store is down or slow: the node goes by [what it remembers](leases.md#what-a-node-remembers), so that new nodes are missing.",
            remedy: "Look after etcd; the agent is put right by itself.",
        },
        Code {
            id: "W0302",
            lines: &["what /var/lib/weft/net-coreos.com-network.state remembers is not used: ..."],
            cause: "The line says why: the lease in it has ended, the flags are others, or the file is of no use. The node waits for its store.",
            remedy: "Bring etcd, or the API server, back; or, if the lease has ended and no other node can have the subnet, start with `-use-ended-lease`.",
        },
        Code {
            id: "W0303",
            lines: &[
                "cannot write /var/lib/weft/net-coreos.com-network.state: ...; a start without etcd would find nothing; trying again",
            ],
            cause: "The directory is full, read-only or missing.",
            remedy: "Mend the directory, or choose another one with `-state-dir`.",
        },
        Code {
            id: "W0304",
            lines: &[
                "cannot remove /var/lib/weft/net-coreos.com-network.state: ...; it is outdated: remove it",
            ],
            cause: "The lease in the file is over, and the file cannot be removed.",
            remedy: "Remove it, before the agent starts without its store.",
        },
        Code {
            id: "W0305",
            lines: &["the lease 10.5.34.0-24 that was remembered is outdated: ..."],
            cause: "The store says something else than this node remembered. `starting anew with what etcd says` (or `the API server`) follows, and pods of the old subnet are cut off.",
            remedy: "If the subnet is another one by now, start the pods of this node again.",
        },
        Code {
            id: "W0306",
            lines: &[
                "etcd has not confirmed the lease and the other nodes, which are of 3m12s ago",
            ],
            cause: "Said upon `SIGUSR1`: the store has not answered since the start.",
            remedy: "Look after etcd, or the API server.",
        },
        Code {
            id: "W0307",
            lines: &[
                "the reservation <key> of this node cannot be used (...) and is left alone; ...",
            ],
            cause: "The network config does not allow the reserved subnet, or another lease overlaps it.",
            remedy: "Delete the [reservation](leases.md#reservations), or change it.",
        },
        Code {
            id: "W0308",
            lines: &["the lease <key> of this node gives way to <key>: ..."],
            cause: "The network config does not allow the old subnet, or an older lease overlaps it.",
            remedy: "Start the pods of this node again: they have addresses of the old subnet.",
        },
        Code {
            id: "W0309",
            lines: &[
                "the lease 10.5.34.0-24 was deleted; it was still free and is this node's again",
            ],
            cause: "Somebody deleted the key of a node that runs; or it `has expired` in an outage.",
            remedy: "Nothing. To take a node out, stop its agent first.",
        },
        Code {
            id: "W0310",
            lines: &[
                "somebody else writes the lease 10.5.34.0-24 (MAC ...): do two nodes advertise 10.0.0.5?",
            ],
            cause: "Two nodes have the same `-public-ip`, as behind NAT, or two agents run on one.",
            remedy: "Give each its own `-public-ip` or `-iface`; see [who a node is](leases.md#who-a-node-is).",
        },
        Code {
            id: "W0311",
            lines: &[
                "leases no longer in etcd's list: 2; their nodes have 30 s to write them again before they are let go",
            ],
            cause: "After an interruption, etcd lists fewer leases than before, as when it is [restored](leases.md#watching-the-others).",
            remedy: "Nothing, if those nodes are gone; else see that their agents reach etcd.",
        },
        Code {
            id: "W0312",
            lines: &[
                "lease 10.5.34.0-24 of 10.0.0.6: ...; skipped",
                "lease 10.5.34.0-24 of 10.0.0.6: ... lies inside its subnet; ...",
            ],
            cause: "Another node's lease gives no peer, such as one of another backend; or two leases overlap, and the more specific one gets the packets. Once for each reason.",
            remedy: "Put that node or its lease right; [which leases count](leases.md#watching-the-others).",
        },
        Code {
            id: "W0313",
            lines: &[
                "lease 10.5.34.0-24 of 10.0.0.6 has this node's MAC ...: the two drop each other's packets; ...",
            ],
            cause: "Both nodes were made of one disk, or their MAC file was copied.",
            remedy: "Start the agent of one of them again: it takes another MAC.",
        },
        Code {
            id: "W0314",
            lines: &[
                "lease 10.5.34.0-24 of 10.5.34.9: this node routes 10.5.34.9 into flannel.1, a tunnel: nothing is sent to it, as it would come back; ...",
            ],
            cause: "The address that the other node advertises lies where this node's tunnel leads to, as when addresses of nodes lie inside Network.",
            remedy: "`-public-ip` there, a more specific route to that address here, or another Network. `... is outside the tunnel again` follows.",
        },
        Code {
            id: "W0315",
            lines: &[
                "MAC ... is in the lease <key> of <node>, too, as if one disk were a copy of the other's: flannel.1 has ... from here on, ...",
            ],
            cause: "This node was made of [a copy of the other's disk](leases.md#copies-of-a-disk).",
            remedy: "Nothing: it has a MAC of its own from here on. If the line is the last one, remove the MAC file and start again.",
        },
        Code {
            id: "W0316",
            lines: &[
                "cannot keep the MAC address in /var/lib/weft/flannel.1.mac: ...; in this run the node has ...",
                "cannot keep the MAC address in /var/lib/weft/flannel.1.mac: ...; trying again",
            ],
            cause: "The directory is full, read-only or missing. In this run the node has the MAC of its lease, that of the kernel's device, or a new one.",
            remedy: "Mend the directory, or choose another one with `-state-dir`; it is tried again.",
        },
        Code {
            id: "W0317",
            lines: &[
                "/var/lib/weft/flannel.1.mac holds no local unicast MAC address; replacing it with a new one",
            ],
            cause: "The file was damaged or written by hand.",
            remedy: "Nothing; or write the MAC that the node is to have, and start again.",
        },
        Code {
            id: "W0318",
            lines: &[
                "the lease was revoked: 10.5.34.0/24 is no longer this node's; start again to take a new lease",
            ],
            cause: "With `-subnets-file`: this node's entry was removed. The end, with status 1.",
            remedy: "Put the file right and start again.",
        },
        Code {
            id: "W0319",
            lines: &[
                "this node's entry in the subnets file has another ...: start again to use it",
            ],
            cause: "With `-subnets-file`: the entry was changed while the node ran. The end, with status 1.",
            remedy: "Start again.",
        },
        Code {
            id: "W0320",
            lines: &["what was remembered of the lease is outdated: start again to use it"],
            cause: "The store says something else than this node remembered. The end, with status 1.",
            remedy: "Start again.",
        },
        Code {
            id: "W0321",
            lines: &[
                "the subnet is leased by 10.0.0.9: 10.5.34.0/24 is no longer this node's; ...",
            ],
            cause: "This node was away for longer than its lease lived, or somebody overwrote the key. The end, with status 1.",
            remedy: "Start again to take a new lease; check `PublicIP` of both nodes.",
        },
        Code {
            id: "W0322",
            lines: &[
                "the lease 10.5.32.0-22, whose value cannot be read, overlaps the subnet: ...",
            ],
            cause: "The own lease was lost meanwhile, and what cannot be read may be another node's. The end, with status 1.",
            remedy: "Delete that lease or mend its value, and start again.",
        },
    ],
    retired: &[],
};
