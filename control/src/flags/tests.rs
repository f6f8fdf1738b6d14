mod environment;
mod spelling;

use super::*;
use crate::backend::{
    Admit, BackendOptions, Cpus, FastPathMode, FastPathOptions, Hook, TunnelGso, WorkerOptions,
};
use crate::family::PerFamily;
use crate::host::firewall::FirewallOptions;
use crate::host::iface::InterfaceOptions;
use crate::http::HealthzOptions;
use crate::subnets::etcd::{EtcdOptions, Secret};
use crate::subnets::kube::{AnnotationPrefix, KubeOptions};
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
            socket_dir: Some("/run/weft".into()),
            linger: false,
            metrics_peers: 32,
            renew_margin: Duration::from_secs(3600),
            use_ended_lease: false,
            verbosity: 0,
            log_format: LogFormat::Text,
            backend: BackendOptions {
                peer_traffic: false,
                state_dir: "/var/lib/weft".into(),
                admit: Admit::Strict,
                workers: WorkerOptions {
                    queues: None,
                    cpus: Cpus::Auto,
                    engine: EngineKind::Auto,
                    tx_sockets: None,
                    outer_df: false,
                    tso: true,
                    uso: true,
                    udp_gso: None,
                    udp_gro: true,
                    spin: Duration::ZERO,
                    tunnel_gso: TunnelGso::Auto,
                },
                fast_path: FastPathOptions {
                    mode: FastPathMode::Auto,
                    lifetime: Duration::from_secs(3600),
                    bpffs: "/sys/fs/bpf".into(),
                    hook: None,
                    trains: None,
                },
            },
            remove: false,
            remove_state: false,
            drain: false,
            kube_subnets: false,
            kube: KubeOptions {
                api_url: None,
                kubeconfig: None,
                prefix: AnnotationPrefix::default(),
                net_config: "/etc/kube-flannel/net-conf.json".into(),
                set_condition: true,
                node: NodeRef::default(),
            },
        }
    );
    assert_eq!(options.log_level(), Level::INFO);
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
        "-socket-dir=",
        "-linger",
        "-metrics-peers=0",
        "-metrics-peer-traffic",
        "-queues=2",
        "-engine=ring",
        "-admit=loose",
        "-tx-sockets=4",
        "-outer-df",
        "-uso=false",
        "-udp-gso=false",
        "-udp-gro=false",
        "-fast-path=on",
        "-fast-path-hook=clsact",
        "-fast-path-trains=off",
        "-fast-path-lifetime=5",
        "-bpffs=/tmp/bpf",
        "-v=1",
        "-log-format=json",
    ]);
    let interface = InterfaceOptions {
        iface: vec!["eth0".into(), "10.0.0.5".into()],
        iface_regex: vec!["^eth[0-9]$".into(), r"10\.0\.".into()],
        can_reach: "10.0.0.9".parse().ok(),
        public: PerFamily {
            v4: "192.0.2.7".parse().ok(),
            v6: "2001:db8::7".parse().ok(),
        },
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
    assert_eq!(options.socket_dir, None);
    assert!(options.linger);
    assert_eq!(options.metrics_peers, 0);
    assert_eq!(options.renew_margin, Duration::from_secs(16 * 60));
    let backend = BackendOptions {
        peer_traffic: true,
        state_dir: "/tmp/state".into(),
        admit: Admit::Loose,
        workers: WorkerOptions {
            queues: Some(2),
            engine: EngineKind::Ring,
            tx_sockets: Some(4),
            outer_df: true,
            tso: true,
            uso: false,
            udp_gso: Some(false),
            udp_gro: false,
            ..WorkerOptions::default()
        },
        fast_path: FastPathOptions {
            mode: FastPathMode::On,
            lifetime: Duration::from_secs(300),
            bpffs: "/tmp/bpf".into(),
            hook: Some(Hook::Clsact),
            trains: Some(false),
        },
    };
    assert_eq!(options.backend, backend);
    assert_eq!(options.log_level(), Level::DEBUG);
    assert_eq!(options.log_format, LogFormat::Json);
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
fn other_commands_have_the_agents_flags_of_etcd() {
    let none = etcd_options(|_| None).unwrap();
    assert_eq!(none, options(&[]).etcd);
    let values = [
        ("etcd-endpoints", "https://a:1,b:2"),
        ("etcd-prefix", "/p"),
        ("etcd-keyfile", "/key"),
        ("etcd-certfile", "/cert"),
        ("etcd-cafile", "/ca"),
        ("etcd-username", "weft"),
        ("etcd-password", "hunter2"),
    ];
    let names: Vec<&str> = etcd_flags().map(|flag| flag.name).collect();
    assert_eq!(names, values.map(|(name, _)| name));
    let given = |name: &str| {
        let found = values.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| (value.to_string(), By::Flag))
    };
    let args = values.map(|(name, value)| format!("-{name}={value}"));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    assert_eq!(etcd_options(given).unwrap(), options(&args).etcd);
    let complaint = |by| {
        let bad = || ("http://u:hunter2@a".to_owned(), by);
        let outcome = etcd_options(|name| (name == "etcd-endpoints").then(bad));
        outcome.unwrap_err().to_string()
    };
    let by_flag = complaint(By::Flag);
    assert_eq!(by_flag, error(&["-etcd-endpoints=http://u:hunter2@a"]));
    assert!(!by_flag.contains("hunter2"), "{by_flag}");
    let by_variable = complaint(By::Variable);
    assert!(
        by_variable.contains("for FLANNELD_ETCD_ENDPOINTS: use "),
        "{by_variable}"
    );
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
        (
            "-subnet-file=peers.toml",
            "is where subnet.env is written; for a file with leases: -subnets-file",
        ),
        ("-queues=257", "must be between 0 and 256"),
        ("-engine=dpdk", "must be auto, ring or poll"),
        (
            "-cpus=0-",
            "must be auto, none or a list of CPUs such as 0-3,8",
        ),
        (
            "-cpus=3-1",
            "must be auto, none or a list of CPUs such as 0-3,8",
        ),
        ("-spin-us=1001", "must be between 0 and 1000"),
        ("-tunnel-gso=maybe", "must be auto, on or off"),
        ("-fast-path=maybe", "must be auto, on or off"),
        ("-fast-path-hook=xdp", "must be auto, tcx or clsact"),
        ("-fast-path-trains=", "must be auto, on or off"),
        ("-fast-path-lifetime=0", "must be between 1 and 10080"),
        ("-bpffs=", "must not be empty"),
        ("-udp-gso=maybe", "must be auto, on or off"),
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
        ("-metrics-peers=257", "must be between 0 and 256"),
        ("-metrics-peers=-1", "must be between 0 and 256"),
        (
            "-healthz-ip=127.0.0.1:80",
            "must be an IP address or the name of a host",
        ),
        (
            "-etcd-endpoints=etcd://10.0.0.1:2379",
            "etcd:// is none of http://, https:// and unix://",
        ),
        (
            "-etcd-endpoints= ,",
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
fn verbosity_is_any_number() {
    for (arg, verbosity) in [("-v=-1", 0), ("-v=10", 10), ("-v=1000", 255)] {
        assert_eq!(options(&[arg]).verbosity, verbosity, "{arg}");
    }
}

#[test]
fn every_default_keeps_its_own_rules() {
    for flag in &table::TABLE {
        if flag.kind != flag::Kind::Repeated && !matches!(flag.name, "version" | "help") {
            let arg = format!("-{}={}", flag.name, flag.default);
            assert_eq!(options(&[&arg]), options(&[]), "{arg}");
        }
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
fn cores_are_auto_none_or_a_list_also_by_the_environment() {
    let cpus = |args: &[&str]| options(args).backend.workers.cpus;
    assert_eq!(cpus(&[]), Cpus::Auto);
    assert_eq!(cpus(&["-cpus=none"]), Cpus::None);
    assert_eq!(
        cpus(&["-cpus", "0-3,8"]),
        Cpus::List("0-3,8".parse().unwrap())
    );
    let (options, warnings) = with_env(&[], &[("FLANNELD_CPUS", "1")]);
    assert_eq!(
        options.backend.workers.cpus,
        Cpus::List("1".parse().unwrap())
    );
    assert!(warnings.is_empty());
}

#[test]
fn spinning_and_the_ring_engine_exclude_each_other() {
    assert!(error(&["-engine=ring", "-spin-us=50"]).contains("-engine must be auto or poll"));
    let workers = |arg| options(&[arg]).backend.workers;
    assert_eq!(workers("-spin-us=50").spin, Duration::from_micros(50));
    assert_eq!(workers("-engine=ring").engine, EngineKind::Ring);
}

#[test]
fn a_switch_takes_what_a_boolean_takes_and_auto() {
    for (args, wanted) in [
        (&["-udp-gso"][..], Some(true)),
        (&["-udp-gso=true"], Some(true)),
        (&["-udp-gso=on"], Some(true)),
        (&["-udp-gso=0"], Some(false)),
        (&["-udp-gso=off"], Some(false)),
        (&["-udp-gso=auto"], None),
        (&[], None),
    ] {
        assert_eq!(options(args).backend.workers.udp_gso, wanted, "{args:?}");
    }
}

#[test]
fn state_is_removed_only_with_the_rest() {
    assert!(error(&["-remove-state"]).contains("give both"));
    let both = options(&["-remove", "-remove-state"]);
    assert!(both.remove && both.remove_state);
    assert!(!options(&["-remove"]).remove_state);
}

#[test]
fn the_form_of_the_log_is_known_even_of_a_command_line_that_is_wrong() {
    let of = |words: &str, variable: Option<&str>| {
        let args: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        log_format(&args, |_| variable.map(str::to_owned))
    };
    for words in [
        "-bogus -log-format=json",
        "--log-format json",
        "-log-format text -log-format=json",
    ] {
        assert_eq!(of(words, None), LogFormat::Json, "{words}");
    }
    for words in [
        "",
        "-log-format",
        "-log-format=xml",
        "-log-formats=json",
        "log-format=json",
    ] {
        assert_eq!(of(words, None), LogFormat::Text, "{words}");
    }
    assert_eq!(of("", Some("json")), LogFormat::Json);
    assert_eq!(of("-log-format=text", Some("json")), LogFormat::Text);
}
