//! How flags are written, and what is said of others.

use super::*;
use std::path::Path;

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
        assert_eq!(options(&[arg]).backend.workers.tso, on, "{arg}");
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
fn unknown_flags_name_the_nearest() {
    for (arg, message) in [
        (
            "-etcd-endpoint=x",
            "unknown flag -etcd-endpoint; did you mean -etcd-endpoints?",
        ),
        ("--ifaces", "unknown flag -ifaces; did you mean -iface?"),
        ("-V", "unknown flag -V; did you mean -v?"),
        ("---v", "unknown flag --v; did you mean -v?"),
        ("-bogus", "unknown flag -bogus; -help lists all"),
        ("-x=1", "unknown flag -x; -help lists all"),
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
    assert_eq!(given.kube.net_config, Path::new("/net-conf.json"));
    assert_eq!(
        warnings,
        [
            "flag -vmodule has no effect: -v sets the verbosity of the whole agent",
            "FLANNELD_LOG_BACKTRACE_AT has no effect: -v sets the verbosity of the whole agent",
            "flag -net-config-path has no effect: it is for -kube-subnet-mgr",
        ]
    );
}

#[test]
fn version_and_help() {
    assert_eq!(run(&["-version"]), Ok(Command::Version));
    // As in flanneld: what is no value of its type is found before, what breaks a rule is not looked
    // for, and variables do not count.
    assert_eq!(run(&["-engine=dpdk", "-version"]), Ok(Command::Version));
    assert_eq!(
        error(&["-healthz-port=x", "-version"]),
        r#"invalid value "x" for flag -healthz-port: must be an integer"#
    );
    let bad = |name: &str| (name == "FLANNELD_ENGINE").then(|| "dpdk".to_owned());
    assert_eq!(parse(["-version".to_owned()], bad), Ok(Command::Version));
    assert_eq!(options(&["-version=false"]), options(&[]));
    for arg in ["-h", "-help", "--help"] {
        let Ok(Command::Help(text)) = run(&[arg]) else {
            panic!("{arg}");
        };
        assert!(text.contains("  -etcd-endpoints string\n"), "{text}");
        assert!(
            text.contains("no effect: vmodule, log_backtrace_at\n"),
            "{text}"
        );
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
        assert_eq!(value::parse_int(text), number, "{text:?}");
    }
}
