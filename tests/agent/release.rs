//! `weft leases release` on the lease of a node that runs.

use super::node::*;
use rustix::process::Signal;
use std::process::{Command, Output};

/// Release without being asked.
fn release(key: &str) -> Output {
    let name = key.strip_prefix(SUBNETS).unwrap();
    let mut command = Command::new(WEFT);
    command.args(["leases", "release", name, "--yes"]);
    command.arg("--etcd-endpoints=http://127.0.0.1:2379");
    command.output().unwrap()
}

#[test]
fn a_running_node_takes_a_released_subnet_again() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let before = leases();
        let output = release(&before[0].0);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(
            said.contains("192.0.2.1, if it runs, takes it again"),
            "{said}"
        );
        agent.expect("was deleted; it was still free and is this node's again");
        assert_eq!(leases(), before, "the same subnet, address and MAC");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");

        // What takes a node out: its agent does not run.
        assert!(release(&before[0].0).status.success());
        assert_eq!(leases(), []);
    });
}

#[test]
fn a_running_node_ends_if_another_has_the_released_subnet() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let key = &leases()[0].0;
        // So that the other one is faster.
        agent.signal(Signal::STOP);
        assert!(release(key).status.success());
        let other = r#"{"PublicIP":"192.0.2.99"}"#;
        run("etcdctl", &["put", key, other]);
        agent.signal(Signal::CONT);
        assert_eq!(agent.wait().code(), Some(1));
        agent.expect("ERROR W0321 the subnet is leased by 192.0.2.99: 10.5.");
        assert_eq!(leases(), [(key.clone(), other.to_owned())]);
    });
}
