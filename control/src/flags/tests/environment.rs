//! Variables in place of flags, and what is repeated of both.

use super::*;

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
        ("FLANNELD_REMOVE", "true"),
        ("FLANNELD_REMOVE_STATE", "true"),
    ];
    let (options, warnings) = with_env(&["-v=0"], &env);
    assert_eq!(options.etcd.prefix, "/env");
    assert_eq!(
        options.interface.iface,
        ["eth0,eth1"],
        "no splitting at commas"
    );
    assert_eq!(options.backend.workers.udp_gso, Some(false));
    assert_eq!(
        options.subnet_file,
        PathBuf::from("/run/flannel/subnet.env")
    );
    assert_eq!(options.verbosity, 0);
    assert!(!options.remove && !options.remove_state && !options.drain);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn every_variable_gives_the_same_options_as_its_flag() {
    use flag::Kind::{Bool, Int, Repeated, Switch, Text};
    for flag in &table::TABLE {
        // What to do is for the command line to say.
        if matches!(
            flag.name,
            "version" | "help" | "remove" | "remove-state" | "drain"
        ) {
            continue;
        }
        let value = match (flag.name, flag.kind) {
            ("etcd-endpoints", _) => "https://etcd:2379",
            ("iface-can-reach" | "public-ip" | "healthz-ip", _) => "192.0.2.7",
            ("public-ipv6", _) => "2001:db8::7",
            ("subnets-file", _) => "/peers.toml",
            ("engine", _) => "ring",
            ("admit", _) => "loose",
            ("tunnel-gso" | "fast-path" | "fast-path-trains", _) => "off",
            ("fast-path-hook", _) => "clsact",
            ("cpus", _) => "0-3,8",
            ("log-format", _) => "json",
            ("kube-api-url", _) => "https://10.0.0.1:6443",
            ("kube-annotation-prefix", _) => "example.com/x",
            (_, Bool) if flag.is_default("true") => "false",
            (_, Bool) => "true",
            (_, Int) => "7",
            (_, Switch) => "off",
            (_, Text | Repeated) => "/some/thing",
        };
        let variable = flag.name.to_ascii_uppercase().replace('-', "_");
        let variable = format!("FLANNELD_{variable}");
        let by_flag = run(&[&format!("-{}={value}", flag.name)]);
        let by_variable = parse([], |name| (name == variable).then(|| value.to_owned()));
        let called = |outcome: &Result<Command, FlagError>| format!("{outcome:?}");
        let by_variable = called(&by_variable).replace(&variable, &format!("flag -{}", flag.name));
        assert_eq!(by_variable, called(&by_flag));
        match (flag.status, by_flag) {
            (
                status,
                Ok(Command::Run {
                    options: set,
                    given,
                    warnings,
                }),
            ) => {
                assert_eq!(given.len(), 1, "{variable}");
                let without_effect = matches!(status, flag::Status::NoEffect(_));
                assert_eq!(*set == options(&[]), without_effect, "{variable}");
                let alone = kube::is_for_cluster(flag);
                let warned = usize::from(without_effect || alone);
                assert_eq!(warnings.len(), warned, "{variable}");
            }
            (_, other) => panic!("{variable}: {other:?}"),
        }
    }
}

/// A value of the right type that breaks a rule is refused, as flanneld does with its margin.
#[test]
fn a_variable_that_breaks_a_rule_is_named() {
    for (name, value, complaint) in [
        (
            "FLANNELD_ENGINE",
            "dpdk",
            r#"invalid value "dpdk" for FLANNELD_ENGINE: must be auto, ring or poll"#,
        ),
        (
            "FLANNELD_SUBNET_LEASE_RENEW_MARGIN",
            "0",
            r#"invalid value "0" for FLANNELD_SUBNET_LEASE_RENEW_MARGIN: must be between 1 and 1439"#,
        ),
        (
            "FLANNELD_ETCD_ENDPOINTS",
            "http://root:hunter2@a",
            r#"invalid value "***" for FLANNELD_ETCD_ENDPOINTS: use -etcd-username and -etcd-password instead of user:password@host"#,
        ),
        (
            "FLANNELD_KUBE_ANNOTATION_PREFIX",
            "example",
            r#"invalid value "example" for FLANNELD_KUBE_ANNOTATION_PREFIX: must be a domain, and perhaps a slash and a word, in lower case"#,
        ),
    ] {
        let outcome = parse([], |key| (key == name).then(|| value.to_owned()));
        assert_eq!(outcome.unwrap_err().to_string(), complaint);
    }
    let both = |key: &str| (key == "FLANNELD_ETCD_PREFIX").then(|| "/x".to_owned());
    let outcome = parse(["-subnets-file=/peers.toml".to_owned()], both);
    let complaint = outcome.unwrap_err().to_string();
    assert!(
        complaint.starts_with("flag -subnets-file and FLANNELD_ETCD_PREFIX: "),
        "{complaint}"
    );
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
