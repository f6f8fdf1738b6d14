use super::*;
use proptest::prelude::*;
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;

fn run(args: &[&str]) -> Result<Command, FlagError> {
    parse(args.iter().map(|arg| arg.to_string()), |_| None)
}

fn options(args: &[&str]) -> AgentOptions {
    match run(args) {
        Ok(Command::Run { options, .. }) => *options,
        other => panic!("{args:?}: {other:?}"),
    }
}

fn error(args: &[&str]) -> String {
    let error = run(args).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// The outcome with these environment variables.
fn with_env(args: &[&str], env: &[(&str, &str)]) -> (AgentOptions, Vec<String>) {
    let look_up = |name: &str| {
        let found = env.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| value.to_string())
    };
    match parse(args.iter().map(|arg| arg.to_string()), look_up) {
        Ok(Command::Run {
            options, warnings, ..
        }) => (*options, warnings),
        other => panic!("{args:?}: {other:?}"),
    }
}

#[test]
fn defaults_are_flannelds() {
    let options = options(&[]);
    assert_eq!(
        options,
        AgentOptions {
            etcd: EtcdOptions {
                endpoints: vec![
                    "http://127.0.0.1:4001".into(),
                    "http://127.0.0.1:2379".into()
                ],
                prefix: "/coreos.com/network".into(),
                ..EtcdOptions::default()
            },
            interface: InterfaceOptions::default(),
            firewall: FirewallOptions {
                ip_masq: false,
                random_fully: true,
                forward_rules: true,
                resync: Duration::from_secs(5),
            },
            blackhole_route: false,
            healthz: HealthzOptions {
                host: "0.0.0.0".into(),
                port: 0,
            },
            subnets_file: None,
            subnet_file: "/run/flannel/subnet.env".into(),
            renew_margin: Duration::from_secs(3600),
            verbosity: 0,
            state_dir: "/var/lib/weft".into(),
            queues: None,
            engine: Engine::Auto,
            admit: Admit::Strict,
            tx_sockets: None,
            outer_df: false,
            tso: true,
            uso: true,
            udp_gso: true,
            udp_gro: true,
            spin: Duration::ZERO,
            tunnel_gso: TunnelGso::Auto,
        }
    );
    assert_eq!(options.log_level(), Level::INFO);
}

#[test]
fn both_dashes_and_both_ways_to_give_a_value() {
    for args in [
        &["-etcd-prefix=/x"][..],
        &["--etcd-prefix=/x"],
        &["-etcd-prefix", "/x"],
        &["--etcd-prefix", "/x"],
        &["-etcd-prefix=/a", "-etcd-prefix=/x"],
    ] {
        assert_eq!(options(args).etcd.prefix, "/x", "{args:?}");
    }
    // As in Go, whatever follows is the value.
    assert_eq!(options(&["-etcd-prefix", "-v"]).etcd.prefix, "-v");
    assert_eq!(options(&["-etcd-prefix=a=b"]).etcd.prefix, "a=b");
}

#[test]
fn booleans_take_a_value_only_after_an_equals_sign() {
    for (arg, on) in [
        ("-tso", true),
        ("-tso=1", true),
        ("-tso=T", true),
        ("-tso=True", true),
        ("-tso=0", false),
        ("-tso=f", false),
        ("-tso=FALSE", false),
        ("--tso=false", false),
    ] {
        assert_eq!(options(&[arg]).tso, on, "{arg}");
    }
    assert_eq!(
        error(&["-tso", "false"]),
        r#"unexpected argument "false": flags start with a dash"#
    );
    assert_eq!(
        error(&["-tso=yes"]),
        r#"invalid value "yes" for flag -tso: must be true or false"#
    );
}

#[test]
fn all_settings_are_read() {
    let options = options(&[
        "-iface=eth0",
        "-iface",
        "10.0.0.5",
        "-iface-regex=^eth[0-9]$",
        "-iface-regex=10\\.0\\.",
        "-iface-can-reach=10.0.0.9",
        "-public-ip=192.0.2.7",
        "-public-ipv6=2001:db8::7",
        "-ip-masq",
        "-ip-masq-fully-random-disable",
        "-iptables-forward-rules=false",
        "-iptables-resync=30",
        "-ip-blackhole-route",
        "-healthz-ip=::1",
        "-healthz-port=8471",
        "-subnets-file=/tmp/peers.toml",
        "-subnet-file=/tmp/subnet.env",
        "-subnet-lease-renew-margin=0x10",
        "-state-dir=/tmp/state",
        "-queues=2",
        "-engine=ring",
        "-admit=loose",
        "-tx-sockets=4",
        "-outer-df",
        "-uso=false",
        "-udp-gso=false",
        "-udp-gro=false",
        "-v=1",
    ]);
    let interface = InterfaceOptions {
        iface: vec!["eth0".into(), "10.0.0.5".into()],
        iface_regex: vec!["^eth[0-9]$".into(), r"10\.0\.".into()],
        can_reach: "10.0.0.9".parse().ok(),
        public_ip: "192.0.2.7".parse().ok(),
        public_ipv6: "2001:db8::7".parse().ok(),
    };
    assert_eq!(options.interface, interface);
    let firewall = FirewallOptions {
        ip_masq: true,
        random_fully: false,
        forward_rules: false,
        resync: Duration::from_secs(30),
    };
    assert_eq!(options.firewall, firewall);
    assert!(options.blackhole_route);
    assert_eq!(options.healthz.address(), Some("[::1]:8471".to_owned()));
    assert_eq!(options.subnets_file, Some("/tmp/peers.toml".into()));
    assert_eq!(options.subnet_file, PathBuf::from("/tmp/subnet.env"));
    assert_eq!(options.renew_margin, Duration::from_secs(16 * 60));
    assert_eq!(options.state_dir, PathBuf::from("/tmp/state"));
    assert_eq!((options.queues, options.tx_sockets), (Some(2), Some(4)));
    assert_eq!(
        (options.engine, options.admit),
        (Engine::Ring, Admit::Loose)
    );
    assert!(options.outer_df);
    assert!(!options.uso && !options.udp_gso && !options.udp_gro && options.tso);
    assert_eq!(options.log_level(), Level::DEBUG);
}

#[test]
fn etcd_servers_and_credentials() {
    let options = options(&[
        "-etcd-endpoints=http://10.0.0.1:2379,https://etcd:2379,unix:///run/etcd,10.0.0.2:2379",
        "-etcd-keyfile=/key",
        "-etcd-certfile=/cert",
        "-etcd-cafile=/ca",
        "-etcd-username=weft",
        "-etcd-password=hunter2",
    ]);
    let etcd = EtcdOptions {
        endpoints: [
            "http://10.0.0.1:2379",
            "https://etcd:2379",
            "unix:///run/etcd",
            "10.0.0.2:2379",
        ]
        .map(str::to_owned)
        .to_vec(),
        prefix: "/coreos.com/network".into(),
        key_file: Some("/key".into()),
        cert_file: Some("/cert".into()),
        ca_file: Some("/ca".into()),
        username: "weft".into(),
        password: Secret::new("hunter2"),
    };
    assert_eq!(options.etcd, etcd);
    assert_eq!(options.etcd.password.reveal(), "hunter2");
}

#[test]
fn half_a_certificate_pair_is_taken_as_flanneld_does() {
    let half = options(&["-etcd-keyfile=/key"]).etcd;
    assert_eq!((half.key_file, half.cert_file), (Some("/key".into()), None));
    let half = options(&["-etcd-certfile=/cert"]).etcd;
    assert_eq!(
        (half.key_file, half.cert_file),
        (None, Some("/cert".into()))
    );
}

#[test]
fn healthz_is_on_with_a_port_only() {
    for (args, address) in [
        (&["-healthz-port=8471"][..], Some("0.0.0.0:8471")),
        (
            &["-healthz-port=8471", "-healthz-ip=127.0.0.1"],
            Some("127.0.0.1:8471"),
        ),
        (&["-healthz-ip=127.0.0.1"], None),
        (&["-healthz-ip=", "-healthz-port=1"], Some("0.0.0.0:1")),
        (
            &["-healthz-ip=localhost", "-healthz-port=1"],
            Some("localhost:1"),
        ),
        (&["-healthz-port=1", "-healthz-port=0"], None),
    ] {
        let healthz = options(args).healthz.address();
        assert_eq!(healthz.as_deref(), address, "{args:?}");
    }
}

#[test]
fn values_that_break_a_rule_are_named() {
    for (arg, rule) in [
        ("-subnet-lease-renew-margin=0", "must be between 1 and 1439"),
        (
            "-subnet-lease-renew-margin=1440",
            "must be between 1 and 1439",
        ),
        ("-subnet-lease-renew-margin=1h", "must be an integer"),
        ("-queues=257", "must be between 0 and 256"),
        ("-engine=dpdk", "must be auto, ring or poll"),
        ("-spin-us=1001", "must be between 0 and 1000"),
        ("-tunnel-gso=maybe", "must be auto, on or off"),
        ("-admit=", "must be strict or loose"),
        ("-public-ip=fd00::1", "must be an IPv4 address"),
        ("-subnet-file=", "must not be empty"),
        ("-public-ipv6=192.0.2.1", "must be an IPv6 address"),
        ("-iface-can-reach=gateway", "must be an IP address"),
        (
            "-iface-regex=eth(",
            "must be a regular expression: unclosed group",
        ),
        ("-iptables-resync=0", "must be at least 1"),
        ("-healthz-port=65536", "must be between 0 and 65535"),
        (
            "-healthz-ip=127.0.0.1:80",
            "must be an IP address or the name of a host",
        ),
        (
            "-etcd-endpoints=etcd://10.0.0.1:2379",
            "etcd:// is none of http://, https:// and unix://",
        ),
        (
            "-etcd-endpoints=http://a:1,",
            "must be a comma-separated list such as http://10.0.0.1:2379",
        ),
    ] {
        let (name, value) = arg.split_once('=').unwrap();
        assert_eq!(
            error(&[arg]),
            format!("invalid value {value:?} for flag {name}: {rule}")
        );
    }
}

#[test]
fn unknown_flags_name_the_nearest() {
    for (arg, message) in [
        (
            "-etcd-endpoint=x",
            "unknown flag -etcd-endpoint; did you mean -etcd-endpoints?",
        ),
        ("--ifaces", "unknown flag -ifaces; did you mean -iface?"),
        ("-V", "unknown flag -V; did you mean -v?"),
        ("---v", "unknown flag --v; did you mean -v?"),
        ("-", "a flag without a name; see -help"),
        ("-=x", "a flag without a name; see -help"),
        ("x", r#"unexpected argument "x": flags start with a dash"#),
        ("-iface", "flag needs an argument: -iface"),
    ] {
        assert_eq!(error(&[arg]), message);
    }
    assert_eq!(FlagError::EXIT_STATUS, 2);
}

#[test]
fn a_double_dash_ends_the_flags() {
    assert_eq!(options(&["-v=1", "--"]), options(&["-v=1"]));
    assert_eq!(
        error(&["--", "-v=1"]),
        r#"unexpected argument "-v=1": flags start with a dash"#
    );
}

#[test]
fn flags_that_are_not_there_yet_say_so() {
    assert_eq!(
        error(&["-kube-subnet-mgr"]),
        "flag -kube-subnet-mgr=true is not there yet: only -kube-subnet-mgr=false is"
    );
    assert_eq!(options(&["-kube-subnet-mgr=F"]), options(&[]));
}

#[test]
fn flags_without_effect_are_accepted_with_a_warning() {
    let (given, warnings) = with_env(
        &[
            "-vmodule=etcd=3",
            "-set-node-network-unavailable",
            "-net-config-path=/net-conf.json",
            "-kube-annotation-prefix=flannel.alpha.coreos.com",
        ],
        &[("FLANNELD_LOG_BACKTRACE_AT", "main.go:1")],
    );
    assert_eq!(given, options(&[]));
    assert_eq!(
        warnings,
        [
            "flag -vmodule has no effect: -v sets the verbosity of the whole agent",
            "flag -net-config-path has no effect: it is for -kube-subnet-mgr",
            "flag -log_backtrace_at has no effect: -v sets the verbosity of the whole agent",
        ]
    );
}

#[test]
fn verbosity_is_any_number() {
    for (arg, verbosity) in [("-v=-1", 0), ("-v=10", 10), ("-v=1000", 255)] {
        assert_eq!(options(&[arg]).verbosity, verbosity, "{arg}");
    }
}

#[test]
fn a_password_is_never_repeated() {
    let env = |name: &str| (name == "FLANNELD_ETCD_PASSWORD").then(|| "hunter2".to_owned());
    for run in [
        run(&["-etcd-password=hunter2", "-iface=a b"]),
        run(&["-etcd-password", "hunter2", "-etcd-keyfile=/key"]),
        run(&["-etcd-endpoints=http://root:hunter2@10.0.0.1:2379"]),
        parse([], env),
        parse(["-v=x".to_owned()], env),
    ] {
        let text = match &run {
            Err(error) => error.to_string(),
            Ok(Command::Run { given, .. }) => given.join(" "),
            Ok(other) => panic!("{other:?}"),
        };
        assert!(!text.contains("hunter2"), "{text}");
        let text = format!("{run:#?}{run:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn what_was_given_is_told() {
    let env = |name: &str| (name == "FLANNELD_IFACE").then(|| "eth0\n".to_owned());
    let args = ["-v", "1", "-etcd-password=x"].map(str::to_owned);
    let Ok(Command::Run { given, .. }) = parse(args, env) else {
        panic!("not run");
    };
    assert_eq!(given, ["-v=1", "-etcd-password=***", r"-iface=eth0\n"]);
}

#[test]
fn environment_counts_where_no_flag_is_given() {
    let env = [
        ("FLANNELD_ETCD_PREFIX", "/env"),
        ("FLANNELD_IFACE", "eth0,eth1"),
        ("FLANNELD_UDP_GSO", "false"),
        ("FLANNELD_SUBNET_FILE", ""),
        ("FLANNELD_V", "2"),
        ("FLANNELD_VERSION", "true"),
        ("FLANNELD_HELP", "true"),
    ];
    let (options, warnings) = with_env(&["-v=0"], &env);
    assert_eq!(options.etcd.prefix, "/env");
    assert_eq!(
        options.interface.iface,
        ["eth0,eth1"],
        "no splitting at commas"
    );
    assert!(!options.udp_gso);
    assert_eq!(
        options.subnet_file,
        PathBuf::from("/run/flannel/subnet.env")
    );
    assert_eq!(options.verbosity, 0);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn every_variable_gives_the_same_options_as_its_flag() {
    use table::Kind::{Bool, Int, Repeated, Text};
    for flag in &table::TABLE {
        if matches!(flag.name, "version" | "help") {
            continue;
        }
        let value = match (flag.name, flag.kind) {
            ("etcd-endpoints", _) => "https://etcd:2379",
            ("iface-can-reach" | "public-ip" | "healthz-ip", _) => "192.0.2.7",
            ("public-ipv6", _) => "2001:db8::7",
            ("subnets-file", _) => "/peers.toml",
            ("engine", _) => "ring",
            ("admit", _) => "loose",
            ("tunnel-gso", _) => "off",
            (_, Bool) if flag.is_default("true") => "false",
            (_, Bool) => "true",
            (_, Int) => "7",
            (_, Text | Repeated) => "/some/thing",
        };
        let variable = flag.name.to_ascii_uppercase().replace('-', "_");
        let variable = format!("FLANNELD_{variable}");
        let by_flag = run(&[&format!("-{}={value}", flag.name)]);
        let by_variable = parse([], |name| (name == variable).then(|| value.to_owned()));
        assert_eq!(by_variable, by_flag);
        match (flag.status, by_flag) {
            (table::Status::Later, by_flag) => assert!(by_flag.is_err(), "{variable}"),
            (
                status,
                Ok(Command::Run {
                    options: set,
                    given,
                    warnings,
                }),
            ) => {
                assert_eq!(given.len(), 1, "{variable}");
                let without_effect = matches!(status, table::Status::NoEffect(_));
                assert_eq!(*set == options(&[]), without_effect, "{variable}");
                assert_eq!(warnings.len(), usize::from(without_effect), "{variable}");
            }
            (_, other) => panic!("{variable}: {other:?}"),
        }
    }
}

#[test]
fn bad_values_in_the_environment_are_ignored_with_a_warning() {
    let (given, warnings) = with_env(
        &[],
        &[
            ("FLANNELD_TSO", "maybe"),
            ("FLANNELD_SUBNET_LEASE_RENEW_MARGIN", "1h"),
        ],
    );
    assert_eq!(given, options(&[]));
    assert_eq!(
        warnings,
        [
            r#"FLANNELD_SUBNET_LEASE_RENEW_MARGIN="1h" is ignored: must be an integer; using the default "60""#,
            r#"FLANNELD_TSO="maybe" is ignored: must be true or false; using the default "true""#,
        ]
    );
}

#[test]
fn version_and_help() {
    assert_eq!(run(&["-version"]), Ok(Command::Version));
    assert_eq!(options(&["-version=false"]), options(&[]));
    for arg in ["-h", "-help", "--help"] {
        let Ok(Command::Help(text)) = run(&[arg]) else {
            panic!("{arg}");
        };
        assert!(text.contains("  -etcd-endpoints string\n"), "{text}");
        assert!(text.contains("not there yet: kube-subnet-mgr\n"), "{text}");
        assert!(text.contains("no effect: kube-api-url, "), "{text}");
    }
}

#[test]
fn every_default_keeps_its_own_rules() {
    for flag in &table::TABLE {
        if flag.kind != table::Kind::Repeated && !matches!(flag.name, "version" | "help") {
            let arg = format!("-{}={}", flag.name, flag.default);
            assert_eq!(options(&[&arg]), options(&[]), "{arg}");
        }
    }
}

#[test]
fn integers_are_gos() {
    for (text, number) in [
        ("60", Some(60)),
        ("+7", Some(7)),
        ("-7", Some(-7)),
        ("010", Some(8)),
        ("0", Some(0)),
        ("0x1F", Some(31)),
        ("0b11", Some(3)),
        ("0o17", Some(15)),
        ("", None),
        ("-", None),
        ("--1", None),
        ("09", None),
        ("1.0", None),
        ("99999999999999999999", None),
    ] {
        assert_eq!(syntax::parse_int(text), number, "{text:?}");
    }
}

proptest! {
    #[test]
    fn any_command_line_is_settings_or_an_error(args in prop::collection::vec("\\PC{0,12}", 0..4)) {
        let _ = parse(args.clone(), |_| Some(args.concat()));
    }

    #[test]
    fn any_value_of_any_flag_is_settings_or_an_error(at in 0..table::TABLE.len(), value in "\\PC{0,12}") {
        let _ = parse([format!("-{}={value}", table::TABLE[at].name)], |_| None);
    }
}

#[test]
fn spinning_and_the_ring_engine_exclude_each_other() {
    assert!(error(&["-engine=ring", "-spin-us=50"]).contains("-engine must be auto or poll"));
    assert_eq!(options(&["-spin-us=50"]).spin, Duration::from_micros(50));
    assert_eq!(options(&["-engine=ring"]).engine, Engine::Ring);
}
