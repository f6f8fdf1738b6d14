//! Of the Kubernetes API as the store of leases.

use super::{Code, Topic};

pub(super) const TOPIC: Topic = Topic {
    title: "Kubernetes",
    codes: &[
        Code {
            id: "W1001",
            lines: &[
                "the API server unreachable: <server>: <reason>; retrying",
                "the API server still unreachable: <server>: <reason>; retrying",
            ],
            cause: "The API server is down or overloaded, its URL is wrong, or a firewall is between. Said once for each outage, and once for each other reason, at most 10 times. Packets go on meanwhile; new nodes are missing.",
            remedy: "Put that right: the agent tries on by itself, and says when the API server answers.",
        },
        Code {
            id: "W1002",
            lines: &[
                "the API server refused to list nodes: nodes is forbidden: ...; its ClusterRole needs the rule apiGroups [...], resources [...], verbs [...]",
                "the API server refused to ...: Unauthorized; the token or certificate is not one of this cluster's, or has expired",
                "the API server refused to get nodes: HTTP status 404, and no reason that the API would give: is this an API server?",
                "the API server's list of nodes cannot be read: ...",
            ],
            cause: "The API server answers, and says no: a rule of RBAC is missing, the credentials are not valid, or a web server or a proxy answers in its place. Said once for each reason, and tried again.",
            remedy: "Add the rule that the line names to the ClusterRole of the agent's user, put its token right, or the URL.",
        },
        Code {
            id: "W1003",
            lines: &[
                "-kube-subnet-mgr does not know its node: set NODE_NAME, or both POD_NAME and POD_NAMESPACE",
                "-kube-subnet-mgr finds no service account, as outside of a pod (...): give -kubeconfig-file or -kube-api-url",
                "... (-kubeconfig-file) cannot be used: ...",
                "... (-kubeconfig-file) gets its credentials from a program (...), which weft does not run: ...",
                "the token file ... does not hold one token",
                "...; what was read before stays in use",
            ],
            cause: "The way to the API server, or what tells it who asks, cannot be used: at a start the end, with status 1; later what was read before stays in use.",
            remedy: "Put the file or the environment right that the line names. Files are read again by themselves.",
        },
        Code {
            id: "W1004",
            lines: &["no network config: /etc/kube-flannel/net-conf.json (-net-config-path) ..."],
            cause: "The file with the network config is not there, or is no text.",
            remedy: "Mount the ConfigMap with `net-conf.json`, or name the file with `-net-config-path`. It is looked at again each second.",
        },
        Code {
            id: "W1005",
            lines: &[
                "node <node>: it has no podCIDR yet, the kube-controller-manager gives one with --allocate-node-cidrs; waiting for it",
                "node <node>: its podCIDR 10.9.1.0/24 is not inside Network 10.244.0.0/16; waiting for it",
                "node <node> is not in the cluster yet; waiting for it",
                "pod <namespace>/<pod> is on no node yet; waiting for it",
            ],
            cause: "This node cannot have a subnet before the cluster knows it and has given it one of each family of the network.",
            remedy: "Look at `kubectl get node <node> -o jsonpath={.spec.podCIDRs}`; give the controller manager `--allocate-node-cidrs=true` and the `--cluster-cidr` of Network.",
        },
        Code {
            id: "W1006",
            lines: &[
                "node <node>: flannel.alpha.coreos.com/public-ip-overwrite ... is no IPv4 address; it is told its own address",
                "node <node>: flannel.alpha.coreos.com/node-public-ip ... is no IPv4 address; it is not used",
            ],
            cause: "Somebody has given this node an annotation with an address that is none.",
            remedy: "Put the annotation right with `kubectl annotate node`, and start the agent again.",
        },
        Code {
            id: "W1007",
            lines: &["an event of the API server cannot be read: ...; passed over"],
            cause: "What the API server, or a proxy before it, has sent is no event of a watch.",
            remedy: "Look at what is between the agent and the API server. A list later puts right what was missed.",
        },
        Code {
            id: "W1008",
            lines: &[
                "node <node>: public-ip \"10.0.0\" is no IPv4 address; skipped",
                "node <node>: backend-data: VtepMAC is missing; keeping what was known of it",
                "node <node>: spec.podCIDRs has 3 entries: there may be one of IPv4 and one of IPv6; skipped",
                "node <node>: it advertises 10.0.0.5, as this node does; skipped",
                "a node whose name cannot be read: ...; skipped",
            ],
            cause: "Another node's annotations or podCIDRs give no peer. Once for each reason. What was known of a node before stays in use.",
            remedy: "Put the annotations right: the agent on that node writes them when it starts.",
        },
        Code {
            id: "W1009",
            lines: &[
                "nodes <node> and <node> have the same podCIDR 10.244.1.0-24: its packets go to the one that was written last",
            ],
            cause: "A node was made anew under another name, or podCIDRs were given by hand.",
            remedy: "Delete the node that is gone, or give one of the two another podCIDR.",
        },
        Code {
            id: "W1010",
            lines: &[
                "node <node> is no longer in the cluster: other nodes send it nothing; going on until it is back",
            ],
            cause: "Somebody has deleted the Node object of this node.",
            remedy: "Let its kubelet register it again, or take the node out of service.",
        },
        Code {
            id: "W1011",
            lines: &[
                "node <node> runs Windows, where flannel takes no VNI but 4096 and no Port but 4789",
            ],
            cause: "A node of the network runs Windows.",
            remedy: "Nothing, if the network config has `VNI` 4096 and `Port` 4789; else pods there cannot be reached.",
        },
        Code {
            id: "W1012",
            lines: &[
                "the annotation flannel.alpha.coreos.com/node-public-ip of <node> wants this node to advertise 10.0.0.7",
            ],
            cause: "The annotation was changed between two looks at it.",
            remedy: "Nothing: the agent starts with the new address.",
        },
        Code {
            id: "W1013",
            lines: &["the cluster has given this node another podCIDR: start again to use it"],
            cause: "The Node was deleted and made again, and has another podCIDR. The agent starts anew with it by itself; pods of the old subnet are cut off.",
            remedy: "Start the pods of this node again.",
        },
    ],
    retired: &[],
};
