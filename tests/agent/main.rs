//! `weft agent` as a process: command line, signals, exit codes, and what it leaves behind.
//!
//! Each test has a network namespace of its own in which a real etcd and one agent run.
//! Needs root and the programs etcd, etcdctl and ip.
#![allow(clippy::unwrap_used)]

mod fast_path;
mod identity;
mod log;
mod node;
mod noticed;
mod process;
mod release;
mod removed;
mod start;
mod status;
mod unit;
mod unwritable;

use node::*;
use rustix::process::Signal;
use std::path::Path;
use std::process::{Command, Output};

#[test]
fn a_node_comes_up_stops_and_comes_back_the_same() {
    on_node(|node| {
        let mut agent = node.agent("first.log");
        agent.expect("etcd unreachable");
        let _etcd = node.etcd();
        agent.expect("no network config in etcd");
        run("etcdctl", &["put", CONFIG_KEY, "{"]);
        agent.expect("not a JSON object");
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        agent.expect("ready: 10.5.");
        let env = node.subnet_env();
        let lease = leases();
        assert_eq!(lease.len(), 1);

        agent.signal(Signal::USR1);
        agent.expect("counters:");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(
            log.matches("counters:").count(),
            2,
            "asked for and at the end"
        );
        assert_eq!(leases(), lease, "the lease outlives the agent");
        let link = ip("-details link show flannel.1");
        assert!(
            link.contains("mtu 1450") && link.contains("persist on"),
            "{link}"
        );

        let mut agent = node.agent("second.log");
        agent.expect("ready: 10.5.");
        assert_eq!(node.subnet_env(), env);
        assert_eq!(leases(), lease, "the same subnet, address and MAC");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn a_killed_agent_is_replaced_at_once() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("first.log");
        agent.expect("ready: ");
        let env = node.subnet_env();
        agent.signal(Signal::KILL);
        agent.wait();
        let mut agent = node.agent("second.log");
        agent.expect("ready: ");
        assert_eq!(node.subnet_env(), env);
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn s85_exit_status_of_an_agent_whose_lease_another_node_has() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let before = leases();
        let key = &before[0].0;
        run("etcdctl", &["del", key]);
        agent.expect("was deleted; it was still free and is this node's again");
        assert_eq!(leases(), before);
        run("etcdctl", &["put", key, r#"{"PublicIP":"192.0.2.99"}"#]);
        assert_eq!(agent.wait().code(), Some(1));
        agent.expect("ERROR W0321 the subnet is leased by 192.0.2.99: 10.5.");
    });
}

#[test]
fn a_stop_before_the_node_is_up_is_clean() {
    on_node(|node| {
        let mut agent = node.agent("log");
        agent.expect("etcd unreachable");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert!(!node.path("subnet.env").exists());
    });
}

#[test]
fn a_second_agent_is_one_line_and_a_left_over_device_is_taken_over() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut first = node.agent("first.log");
        first.expect("ready: ");
        // With the same one it would be an upgrade.
        let elsewhere = format!("-state-dir={}", node.path("elsewhere").display());
        let mut second = node.agent_with("second.log", &[&elsewhere]);
        assert_eq!(second.wait().code(), Some(1));
        let line = second.expect("ERROR");
        assert!(line.contains("8472"), "{line}");
        assert_eq!(leases().len(), 1);
        assert_eq!(first.stop().0, Some(0), "undisturbed");

        ip("link del flannel.1");
        ip("link add flannel.1 type vxlan id 1 dstport 8472 dev eth0");
        let mut third = node.agent("third.log");
        third.expect("ready: ");
        let link = ip("-details link show flannel.1");
        assert!(link.contains("tun type tun"), "{link}");
        assert_eq!(third.stop().0, Some(0));
    });
}

fn weft(program: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(program).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn command_lines() {
    let program = Path::new(WEFT);
    let version = concat!("weft ", env!("CARGO_PKG_VERSION"), "\n");
    let empty = String::new();
    assert_eq!(
        weft(program, &["version"]),
        (Some(0), version.to_owned(), empty.clone())
    );
    let (code, out, error) = weft(program, &["agnet"]);
    assert_eq!(
        (code, out, error.lines().count()),
        (Some(2), empty.clone(), 1)
    );
    assert!(
        error.contains("\"agnet\"") && error.contains("\"agent\""),
        "{error}"
    );
    let (code, out, error) = weft(program, &["agent", "-ifcae=eth0"]);
    assert_eq!(
        (code, out, error.lines().count()),
        (Some(2), empty.clone(), 1)
    );
    assert!(
        error.contains("-ifcae") && error.contains("-iface"),
        "{error}"
    );
    assert_eq!(weft(program, &["help"]).0, Some(0));

    let dir = tempfile::tempdir().unwrap();
    let flanneld = dir.path().join("flanneld");
    std::os::unix::fs::symlink(program, &flanneld).unwrap();
    assert_eq!(
        weft(&flanneld, &["-version"]),
        (Some(0), empty, version.to_owned()),
        "flanneld prints its version on stderr"
    );
    assert_eq!(weft(&flanneld, &["--help"]).0, Some(0));
}
