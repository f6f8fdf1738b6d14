//! Of the firewall's rules and the kernel's routes.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "Firewall and routes",
    codes: &[
        Code {
            id: "W0701",
            lines: &["the firewall rules are not written after 5 s ..."],
            cause: "Another program holds the lock of iptables, most likely. The node goes on without the rules.",
            remedy: "Find out which program it is; they are tried again.",
        },
        Code {
            id: "W0702",
            lines: &["firewall: iptables nat: rule \"...\" is missing; restored"],
            cause: "A check found rules changed or removed and repaired them, or could not. The same in the next check is not said again.",
            remedy: "Find out which program changes them, if it goes on.",
        },
        Code {
            id: "W0703",
            lines: &[
                "what pods send out of the network is not masqueraded: ...; trying again",
                "no rules that let packets of pods through FORWARD: ...; trying again",
            ],
            cause: "The rules of `-ip-masq` or `-iptables-forward-rules` cannot be written; the line says why. Tried again with each check.",
            remedy: "Install the program, or load the kernel module, that the line asks for; or leave the flag out.",
        },
        Code {
            id: "W0704",
            lines: &[
                "cannot remove the nftables rules of an earlier start (nft): ...; trying again",
            ],
            cause: "Rules of the other flavour are left of an earlier start, and cannot be removed.",
            remedy: "Remove the reason that the line tells, or the rules by hand.",
        },
        Code {
            id: "W0705",
            lines: &["cannot masquerade: there is no iptables in PATH; ..."],
            cause: "`-ip-masq`, and the program is missing. The end, with status 1.",
            remedy: "Install the package that the line names, or leave out `-ip-masq`.",
        },
        Code {
            id: "W0706",
            lines: &[
                "no route to 10.5.34.0/24: ...",
                "not routing 10.5.34.0/24 via 10.0.0.6: that is a network of this host",
                "cannot set the route to 10.5.34.0/24: ...; trying again",
                "eth0 is down or gone: no routes through it; trying again",
            ],
            cause: "With host-gw or `DirectRouting`: the node is not on the link, the host is in that network itself, an address of a node lies in it, or the kernel refuses the route.",
            remedy: "The line says which it is. Between networks, use vxlan.",
        },
        Code {
            id: "W0707",
            lines: &["the route to 10.5.0.0/16 went through another device; ..."],
            cause: "It was of a former config, for instance; it is removed if it would have won over weft's.",
            remedy: "Nothing, unless another program sets it again.",
        },
        Code {
            id: "W0708",
            lines: &["cannot set the blackhole route to 10.5.34.0/24: ...; trying again"],
            cause: "With `-ip-blackhole-route`: the kernel refuses it. Packets to addresses that no pod has may leave the node.",
            remedy: "Remove the reason that the line tells.",
        },
        Code {
            id: "W0709",
            lines: &[
                "...; blackhole routes of an earlier lease may be left",
                "...: it drops what goes to that node",
                "...: it drops what goes to the node's own pods",
            ],
            cause: "A blackhole route of an earlier lease, or of flanneld, cannot be listed or removed.",
            remedy: "`ip route show type blackhole`, and remove it by hand.",
        },
    ],
    retired: &[],
};
