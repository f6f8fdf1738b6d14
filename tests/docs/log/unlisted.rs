//! Lines that say all there is to say, and need no entry on a page.

pub(crate) const UNLISTED: &[&str] = &[
    // What `-remove` has done and left alone.
    "{} stays: flanneld uses it",
    "the MAC addresses in {dir} stay: they may be those of the agent of {others}",
    "{name} stays: it is of the agent with the network and the file {of}",
    "there was nothing to remove",
    "all that is this agent's alone is removed",
    "seen by -remove from here on",
    // What has been set up or taken away.
    "{subnet} has a blackhole route",
    "removed the route {}",
    "serving /healthz, /readyz and /metrics on {address}",
    "counters: no tunnel, the kernel carries the packets",
];
