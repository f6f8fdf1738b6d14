//! The rules, and the exceptions with their reasons.

/// The crates, and the files that they begin in.
pub(crate) const CRATES: &[(&str, &str)] = &[
    ("weft", "src/main.rs"),
    ("weft-control", "control/src/lib.rs"),
    ("weft-dataplane", "dataplane/src/lib.rs"),
    ("weft-tuning", "tuning/src/lib.rs"),
    ("weft-benches", "benches/src/lib.rs"),
    ("weft-lab", "benches/lab/src/lib.rs"),
    ("weft-cni", "deploy/cni/src/lib.rs"),
];

/// Libraries every module of which has a line in [`MODULES`].
pub(crate) const LAYERED: &[&str] = &["weft_control", "weft_dataplane", "weft_tuning"];

/// What a module, with all that is inside of it, may know of its own crate besides itself.
pub(crate) const MODULES: &[(&str, &[&str])] = &[
    // Plain functions over bytes: no file descriptor, no clock, no memory after construction.
    ("weft_dataplane::stats", &[]),
    ("weft_dataplane::wire", &[]),
    (
        "weft_dataplane::offload",
        &["weft_dataplane::wire", "weft_dataplane::stats"],
    ),
    (
        "weft_dataplane::route",
        &["weft_dataplane::wire", "weft_dataplane::stats"],
    ),
    // What threads share. The epochs are in `sys`, where unsafe code is, and know no table.
    (
        "weft_dataplane::publish",
        &["weft_dataplane::route", "weft_dataplane::sys"],
    ),
    (
        "weft_dataplane::mtu",
        &["weft_dataplane::wire", "weft_dataplane::route"],
    ),
    ("weft_dataplane::caps", &["weft_dataplane::offload"]),
    // Every system call, and none of the loops that make them.
    (
        "weft_dataplane::sys",
        &[
            "weft_dataplane::caps",
            "weft_dataplane::mtu",
            "weft_dataplane::offload",
            "weft_dataplane::stats",
            "weft_dataplane::wire",
        ],
    ),
    // eBPF programs and their loader; workers know nothing of it.
    (
        "weft_dataplane::fastpath",
        &[
            "weft_dataplane::offload",
            "weft_dataplane::route",
            "weft_dataplane::stats",
            "weft_dataplane::sys",
            "weft_dataplane::wire",
        ],
    ),
    (
        "weft_dataplane::worker",
        &[
            "weft_dataplane::caps",
            "weft_dataplane::mtu",
            "weft_dataplane::offload",
            "weft_dataplane::publish",
            "weft_dataplane::route",
            "weft_dataplane::stats",
            "weft_dataplane::sys",
            "weft_dataplane::wire",
        ],
    ),
    // Texts and values, without a host and without a store.
    ("weft_control::text", &[]),
    ("weft_control::codes", &[]),
    ("weft_control::wire", &[]),
    ("weft_control::suspend", &[]),
    ("weft_control::family", &[]),
    ("weft_control::release", &[]),
    ("weft_control::notify", &[]),
    // What a node is doing, as data; and as Prometheus has it.
    (
        "weft_control::status",
        &["weft_control::family", "weft_control::text"],
    ),
    ("weft_control::metrics", &["weft_control::status"]),
    ("weft_control::json", &["weft_control::text"]),
    (
        "weft_control::config",
        &[
            "weft_control::family",
            "weft_control::json",
            "weft_control::text",
            "weft_control::wire",
        ],
    ),
    (
        "weft_control::lease",
        &[
            "weft_control::config",
            "weft_control::family",
            "weft_control::json",
            "weft_control::text",
            "weft_control::wire",
        ],
    ),
    // The host and the stores of leases, which do not know each other.
    (
        "weft_control::host",
        &[
            "weft_control::family",
            "weft_control::lease",
            "weft_control::text",
            "weft_control::wire",
        ],
    ),
    (
        "weft_control::subnets",
        &[
            "weft_control::config",
            "weft_control::family",
            "weft_control::json",
            "weft_control::lease",
            "weft_control::status",
            "weft_control::suspend",
            "weft_control::text",
            "weft_control::wire",
        ],
    ),
    // Where both meet: what a store says, on the disk.
    (
        "weft_control::remembered",
        &[
            "weft_control::config",
            "weft_control::family",
            "weft_control::host",
            "weft_control::lease",
            "weft_control::status",
            "weft_control::subnets",
            "weft_control::suspend",
            "weft_control::text",
        ],
    ),
    ("weft_control::connections", &[]),
    // How many files may be open is the host's business.
    (
        "weft_control::http",
        &[
            "weft_control::connections",
            "weft_control::host",
            "weft_control::metrics",
            "weft_control::status",
            "weft_control::text",
        ],
    ),
    // What two agents say to each other, and the descriptors that go with it.
    (
        "weft_control::hand_over",
        &["weft_control::notify", "weft_control::text"],
    ),
    (
        "weft_control::backend",
        &[
            "weft_control::config",
            "weft_control::family",
            "weft_control::hand_over",
            "weft_control::host",
            "weft_control::lease",
            "weft_control::release",
            "weft_control::status",
            "weft_control::subnets",
            "weft_control::text",
            "weft_control::wire",
        ],
    ),
    // What is asked for and answered is the backend's.
    (
        "weft_control::socket",
        &[
            "weft_control::backend",
            "weft_control::connections",
            "weft_control::hand_over",
            "weft_control::status",
        ],
    ),
    (
        "weft_control::agent",
        &[
            "weft_control::backend",
            "weft_control::config",
            "weft_control::family",
            "weft_control::hand_over",
            "weft_control::host",
            "weft_control::http",
            "weft_control::lease",
            "weft_control::notify",
            "weft_control::release",
            "weft_control::remembered",
            "weft_control::socket",
            "weft_control::status",
            "weft_control::subnets",
            "weft_control::text",
            "weft_control::wire",
        ],
    ),
    // Echo requests, for whoever wants to know who answers.
    ("weft_control::probe", &["weft_control::family"]),
    // Each way to a node: the agent at its socket counts what took which.
    (
        "weft_control::ping",
        &[
            "weft_control::family",
            "weft_control::probe",
            "weft_control::socket",
            "weft_control::status",
            "weft_control::text",
        ],
    ),
    // What is seen of a node, and what each check makes of it.
    (
        "weft_control::doctor",
        &[
            "weft_control::family",
            "weft_control::host",
            "weft_control::ping",
            "weft_control::probe",
            "weft_control::socket",
            "weft_control::status",
            "weft_control::text",
        ],
    ),
    // Each node to each other.
    (
        "weft_control::connectivity",
        &[
            "weft_control::family",
            "weft_control::ping",
            "weft_control::probe",
            "weft_control::status",
        ],
    ),
    // At the top: nothing but the command knows the command line.
    (
        "weft_control::flags",
        &[
            "weft_control::agent",
            "weft_control::backend",
            "weft_control::subnets",
            "weft_control::text",
        ],
    ),
    // What is said of knobs, and the host that has them; a plan is a function of both.
    ("weft_tuning::cpus", &[]),
    ("weft_tuning::knob", &["weft_tuning::cpus"]),
    ("weft_tuning::catalog", &["weft_tuning::cpus"]),
    ("weft_tuning::profile", &["weft_tuning::catalog"]),
    ("weft_tuning::ethtool", &["weft_tuning::knob"]),
    (
        "weft_tuning::host",
        &["weft_tuning::ethtool", "weft_tuning::knob"],
    ),
    (
        "weft_tuning::facts",
        &[
            "weft_tuning::catalog",
            "weft_tuning::cpus",
            "weft_tuning::host",
            "weft_tuning::knob",
        ],
    ),
    (
        "weft_tuning::plan",
        &[
            "weft_tuning::catalog",
            "weft_tuning::cpus",
            "weft_tuning::facts",
            "weft_tuning::knob",
            "weft_tuning::profile",
        ],
    ),
    // Changes, whoever plans them.
    ("weft_tuning::journal", &["weft_tuning::knob"]),
    (
        "weft_tuning::change",
        &["weft_tuning::journal", "weft_tuning::knob"],
    ),
];

/// That a module may know another crate, or a part of it.
pub(crate) struct Border {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    pub(crate) why: &'static str,
}

/// Where crates meet.
pub(crate) const BORDERS: &[Border] = &[
    Border {
        from: "weft",
        to: "weft_control",
        why: "the command is made of both libraries, and of the lab for its demo and bench",
    },
    Border {
        from: "weft",
        to: "weft_benches",
        why: "as above",
    },
    Border {
        from: "weft",
        to: "weft_lab",
        why: "as above",
    },
    Border {
        from: "weft",
        to: "weft_tuning",
        why: "weft tune",
    },
    Border {
        from: "weft::tune",
        to: "weft_dataplane::worker",
        why: "where an agent's workers would be, which interrupts are to keep away from",
    },
    Border {
        from: "weft_benches",
        to: "weft_lab",
        why: "loads run in the lab's namespaces",
    },
    Border {
        from: "weft_benches",
        to: "weft_dataplane",
        why: "replays drive the workers' own code over packets in memory",
    },
    Border {
        from: "weft_control::wire",
        to: "weft_dataplane::wire",
        why: "MAC addresses and VNIs are one type each, which the rest of control takes from here",
    },
    Border {
        from: "weft_control::backend::tunnel",
        to: "weft_dataplane",
        why: "the one part of control that speaks to the dataplane",
    },
    Border {
        from: "weft_control::doctor::gather",
        to: "weft_dataplane::fastpath",
        why: "programs of others beside ours",
    },
    Border {
        from: "weft_control::doctor::gather",
        to: "weft_dataplane::sys",
        why: "what only a system call tells: features of a device, the state of the clock",
    },
    Border {
        from: "weft_control::metrics",
        to: "weft_dataplane::stats",
        why: "names of counters, and what they mean",
    },
];

/// Circles that are known and borne, with the reason.
pub(crate) const CIRCLES: &[(&[&str], &str)] = &[];

/// What a package may depend on, of the workspace's own.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [&'static str],
    pub(crate) tests_need: &'static [&'static str],
    /// Crates that it stays free of.
    pub(crate) never: &'static [&'static str],
}

/// All packages. None of the libraries depends on what tests need, and the lab on none of them.
pub(crate) const PACKAGES: &[Package] = &[
    Package {
        name: "weft",
        needs: &[
            "weft-benches",
            "weft-control",
            "weft-dataplane",
            "weft-lab",
            "weft-tuning",
        ],
        tests_need: &["weft-lab"],
        never: &[],
    },
    Package {
        name: "weft-control",
        needs: &["weft-dataplane"],
        tests_need: &["weft-lab"],
        never: &[],
    },
    Package {
        name: "weft-dataplane",
        needs: &[],
        tests_need: &["weft-lab"],
        never: &["etcd-client", "rtnetlink", "tokio"],
    },
    Package {
        name: "weft-cni",
        needs: &[],
        tests_need: &["weft-lab"],
        never: &["tokio"],
    },
    Package {
        name: "weft-tuning",
        needs: &[],
        tests_need: &[],
        never: &["tokio"],
    },
    Package {
        name: "weft-lab",
        needs: &[],
        tests_need: &[],
        never: &[],
    },
    Package {
        name: "weft-benches",
        needs: &["weft-dataplane", "weft-lab"],
        tests_need: &[],
        never: &[],
    },
    Package {
        name: "weft-fuzz",
        needs: &["weft-cni", "weft-control", "weft-dataplane"],
        tests_need: &[],
        never: &[],
    },
];

/// Crates that do what another one does here already.
pub(crate) const BANNED: &[(&str, &str)] = &[("nix", "rustix does it")];

/// Files, or folders, that may allow unsafe code.
pub(crate) const UNSAFE: &[(&str, &str)] = &[
    ("dataplane/src/sys/", "all system calls, and epochs"),
    ("dataplane/src/wire/checksum/x86.rs", "vector instructions"),
    (
        "dataplane/src/fastpath/layout.rs",
        "what eBPF programs share with their loader, as plain bytes",
    ),
    (
        "benches/src/load/sink.rs",
        "the receiving end of a flood takes many datagrams in a call, as rustix does not",
    ),
];

/// Types of one name in one crate that nobody takes for each other.
pub(crate) const SAME_NAME: &[(&str, &str, &str)] = &[
    (
        "weft",
        "Args",
        "what a subcommand reads from its command line; each is its module's only type",
    ),
    (
        "weft_dataplane",
        "Packet",
        "views of IPv4 and IPv6 packets, named with their module: ipv4::Packet",
    ),
    (
        "weft_dataplane",
        "Config",
        "what a part is started with, named with its module: fastpath::Config",
    ),
    (
        "weft_dataplane",
        "Outcome",
        "of trying something out, known inside of its own module alone",
    ),
    (
        "weft_dataplane",
        "Peer",
        "layout::Peer is the structure of that name in the programs' C",
    ),
];
