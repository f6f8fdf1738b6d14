//! Lines that say all there is to say, and need no entry on a page.

pub(crate) const UNLISTED: &[&str] = &[
    // What `-remove` has done and left alone.
    "what flanneld has, too, stays, as {seen}: firewall rules, routes and subnet.env",
    "{} stays: flanneld uses it",
    "the MAC addresses in {dir} stay: they may be those of the agent of {others}",
    "{name} stays: it is of the agent with the network and the file {of}",
    "there was nothing to remove",
    "all that is this agent's alone is removed",
    "seen by -remove from here on",
    // What is left of an earlier run, with the reason.
    "{error}; routes to other nodes may be left of an earlier backend",
    "{error}; a later run will not know the device as its own",
    "{error}; devices of an earlier backend may be left",
    "{error}; blackhole routes of an earlier lease may be left",
    // What has been set up or taken away.
    "{subnet} has a blackhole route",
    "removed the route {}",
    "serving /healthz, /readyz and /metrics on {address}",
    "counters: no tunnel, the kernel carries the packets",
    // Warnings with their remedy.
    "/{path} is missing: without the kernel module br_netfilter (modprobe br_netfilter) the firewall does not see what pods on one bridge send to each other",
    "{flag} has no effect: the network config does not enable {family}",
    "{} has only the link-local IPv6 address {addr}, which nodes on other links cannot send to",
    "{} holds no local unicast MAC address; replacing it with a new one",
    "cannot send {text} to NOTIFY_SOCKET {socket}: {error}",
    // Whose reason has an entry.
    "{reason}; looking again each second",
];
