//! What people and etcd may get wrong: each is said in one clear line, and costs no more
//! than it must.

use crate::cluster::{CONFIG, Cluster, NEWS, PREFIX, lines_with, new_lab, weft};
use crate::probe::Probe;
use rustix::process::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;
use weft_lab::{Agent, AgentOptions, Etcd, Lab, Regime, Vtep, VxlanSpec, skips_test, wait_until};

/// How long an agent that cannot run may take to say so.
const END: Duration = Duration::from_secs(15);

/// Lines of a log above the level of information. Not counted is what an outage of etcd adds
/// when its reason changes, which is up to the network.
fn complaints(log: &Path) -> Vec<String> {
    let mut lines = lines_with(log, &[" WARN "]);
    lines.extend(lines_with(log, &[" ERROR "]));
    lines.retain(|line| !line.contains("etcd still unreachable"));
    lines
}

/// Wait for one more complaint than `before` that contains all of `words`.
fn await_complaint(log: &Path, before: usize, words: &[&str]) {
    let mut seen = Vec::new();
    let said = wait_until(NEWS, || {
        seen = complaints(log);
        seen.len() > before
    });
    assert!(said, "no line with {words:?} after {seen:?}");
    let last = seen.last().unwrap();
    assert!(
        words.iter().all(|word| last.contains(word)),
        "no {words:?} in: {last}"
    );
    assert_eq!(seen.len(), before + 1, "more than one line: {seen:?}");
}

/// Run an agent on node 1 to its end, under the command `wrapper` if it is not empty; how it
/// ended, and its log.
pub(crate) fn run_to_the_end(lab: &Lab, etcd: &Etcd, wrapper: &[&str]) -> (ExitStatus, PathBuf) {
    let dir = lab.dir().join("once");
    std::fs::create_dir_all(&dir).unwrap();
    let binary = weft();
    let words: Vec<_> = wrapper
        .iter()
        .map(Path::new)
        .chain([binary.as_path()])
        .collect();
    let ns = &lab.node(1).ns;
    let mut command = ns.command(words[0]);
    command.args(&words[1..]).args(["agent", "-iface=eth0"]);
    command.arg(format!("-etcd-endpoints={}", etcd.endpoint()));
    command.arg(format!("-subnet-file={}", dir.join("subnet.env").display()));
    command.arg(format!("-state-dir={}", dir.join("state").display()));
    command.arg(format!("-socket-dir={}", dir.join("run").display()));
    command.env("NO_COLOR", "1");
    let log = dir.join("log");
    let mut process = ns.spawn(command, &log).unwrap();
    (process.wait(END).unwrap(), log)
}

/// Expect an agent that failed with one line that contains all of `words`.
pub(crate) fn assert_refuses((status, log): (ExitStatus, PathBuf), words: &[&str]) {
    let text = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(1), "{text}");
    let errors = lines_with(&log, &[" ERROR "]);
    assert_eq!(errors.len(), 1, "{text}");
    assert!(
        words.iter().all(|word| errors[0].contains(word)),
        "no {words:?} in: {text}"
    );
}

#[test]
fn a_wrong_command_line_ends_with_status_2_and_one_line_that_names_the_nearest() {
    let cases: [(&[&str], &[&str]); 7] = [
        (&["agent", "-ifacee=eth0"], &["-ifacee", "-iface?"]),
        (
            &["agent", "--etcd-endpoint", "x"],
            &["-etcd-endpoint", "-etcd-endpoints?"],
        ),
        (
            &["agent", "-admit=strickt"],
            &["strickt", "-admit", "strict"],
        ),
        (&["agent", "-v=much"], &["much", "-v"]),
        (
            &["agent", "-kube-annotation-prefix=a/b/c"],
            &["a/b/c", "-kube-annotation-prefix", "slash"],
        ),
        (&["agent", "-iface"], &["-iface", "argument"]),
        (&["agnet"], &["agnet", "agent"]),
    ];
    for (args, words) in cases {
        let output = Command::new(weft()).args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{args:?}: {text}");
        assert!(output.stdout.is_empty());
        for word in words {
            assert!(text.contains(word), "no {word} in: {text}");
        }
    }
}

#[test]
fn an_agent_waits_for_etcd_and_for_a_config_that_can_be_used() {
    if skips_test() {
        return;
    }
    let lab = new_lab(2, Regime::R1);
    let options = AgentOptions::new(weft(), "http://10.99.0.1:2379");
    let mut agent = Agent::start(&lab, 2, options).unwrap();
    let log = agent.log_file();
    await_complaint(&log, 0, &["etcd unreachable", "10.99.0.1:2379"]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(
        complaints(&log).len(),
        1,
        "one line for one change of state"
    );

    let etcd = Etcd::start(&lab, 1).unwrap();
    let key = format!("{PREFIX}/config");
    await_complaint(
        &log,
        1,
        &["no network config", &key, "etcdctl --endpoints=http"],
    );
    assert_eq!(lines_with(&log, &["reachable again"]).len(), 1);
    let wrong = [
        ("{", "JSON"),
        (r#"{"Backend":{"Type":"vxlan"}}"#, "Network"),
        (
            r#"{"Network":"10.244.0.0/33","Backend":{"Type":"vxlan"}}"#,
            "10.244.0.0/33",
        ),
        (
            r#"{"Network":"10.244.0.0/16","SubnetLen":12,"Backend":{"Type":"vxlan"}}"#,
            "SubnetLen",
        ),
    ];
    for (before, (config, word)) in (2..).zip(wrong) {
        etcd.put(&key, config).unwrap();
        await_complaint(&log, before, &[word]);
    }
    etcd.put(&key, CONFIG).unwrap();
    let env = agent.wait_ready().unwrap();
    assert_eq!(env.network, "10.244.0.0/16".parse().unwrap());
}

#[test]
fn a_port_held_by_someone_else_is_named_with_the_remedy() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    let subnet = "10.244.209.1/24".parse().unwrap();
    let spec = VxlanSpec {
        device: "other0".to_owned(),
        ..VxlanSpec::flannel(9)
    };
    Vtep::create(&cluster.lab, 1, spec, subnet).unwrap();
    let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &[]);
    assert_refuses(ended, &["port 8472 is in use", "ip link del"]);
    let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
    assert_eq!(keys, [""; 0], "a node that cannot run takes no lease");
}

#[test]
fn a_second_agent_on_the_same_node_ends_with_one_line_and_disturbs_nobody() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft(2, Regime::R1);
    let probe = Probe::start(cluster.pod(2), cluster.pod(1));
    let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &[]);
    assert_refuses(ended, &["in use", "another agent"]);
    probe.finish();
    let keys = cluster.etcd.keys(&format!("{PREFIX}/subnets/")).unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
}

#[test]
fn a_machine_without_tun_or_permission_is_told_what_is_missing() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::empty(2, Regime::R1);
    let hide = "mount -t tmpfs none /dev/net && exec \"$0\" \"$@\"";
    let without_tun = ["unshare", "--mount", "sh", "-c", hide];
    let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &without_tun);
    assert_refuses(ended, &["/dev/net/tun", "modprobe tun"]);

    let log = cluster.lab.dir().join("once/log");
    std::fs::remove_file(log).unwrap();
    let powerless = [
        "setpriv",
        "--inh-caps=-net_admin",
        "--bounding-set=-net_admin",
    ];
    let ended = run_to_the_end(&cluster.lab, &cluster.etcd, &powerless);
    assert_refuses(ended, &["permission", "CAP_NET_ADMIN"]);
}

#[test]
fn malformed_leases_are_skipped_by_name_and_no_peer_is_lost() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft(2, Regime::R1);
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    let log = cluster.agents[&1].log_file();
    let peer = cluster.lease_key(2);
    let peer = peer.rsplit('/').next().unwrap();
    let good = r#"{"PublicIP":"10.99.0.9","BackendType":"vxlan","BackendData":{"VtepMAC":"0a:00:00:00:00:09"}}"#;
    let malformed = [
        ("garbage", good),
        ("10.244.300.0-24", good),
        ("10.244.202.0-99", good),
        ("10.244.203.0-24", "not JSON"),
        ("10.244.204.0-24", "[1,2]"),
        ("10.244.205.0-24", r#"{"BackendType":"vxlan"}"#),
        (
            "10.244.206.0-24",
            r#"{"PublicIP":"300.1.1.1","BackendType":"vxlan"}"#,
        ),
        (
            "10.244.207.0-24",
            r#"{"PublicIP":"10.99.0.9","BackendType":"vxlan","BackendData":{"VtepMAC":"zz"}}"#,
        ),
        (peer, "overwritten by accident"),
    ];
    for (name, value) in malformed {
        let before = complaints(&log).len();
        cluster
            .etcd
            .put(&format!("{PREFIX}/subnets/{name}"), value)
            .unwrap();
        await_complaint(&log, before, &[name]);
    }
    probe.finish();
    cluster.await_path(1, 2);
    cluster.await_path(2, 1);
}

#[test]
fn sigterm_and_sigint_end_an_agent_with_status_0_within_two_seconds() {
    if skips_test() {
        return;
    }
    let mut cluster = Cluster::of_weft(2, Regime::R1);
    for signal in [Signal::TERM, Signal::INT] {
        let agent = cluster.agents.get_mut(&2).unwrap();
        agent.signal(signal).unwrap();
        let status = agent.wait(Duration::from_secs(2)).unwrap();
        assert_eq!(status.code(), Some(0), "after {signal:?}");
        assert_eq!(complaints(&agent.log_file()), [""; 0]);
        agent.start_again().unwrap();
        agent.wait_ready().unwrap();
        cluster.await_path(1, 2);
    }
    // Two agents of one node would be a complaint of its own.
    cluster.agents.remove(&1).unwrap().stop().unwrap();
    let waiting = AgentOptions::new(weft(), "http://10.99.0.1:9");
    let mut agent = Agent::start(&cluster.lab, 1, waiting).unwrap();
    await_complaint(&agent.log_file(), 0, &["etcd unreachable"]);
    agent.signal(Signal::TERM).unwrap();
    let status = agent.wait(Duration::from_secs(2)).unwrap();
    assert_eq!(status.code(), Some(0), "while it waits for etcd");
}

#[test]
fn s85_lease_end_by_deletion_is_mended_and_traffic_goes_on() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft(2, Regime::R1);
    let key = cluster.lease_key(2);
    let value = cluster.etcd.get(&key).unwrap();
    let log = cluster.agents[&2].log_file();
    let probe = Probe::start(cluster.pod(1), cluster.pod(2));
    assert!(cluster.etcd.delete(&key).unwrap());
    await_complaint(&log, 0, &["was deleted", "is this node's again"]);
    assert_eq!(cluster.etcd.get(&key).unwrap(), value);
    // Between the deletion and the new key the others know no such node.
    probe.finish_with_gap();
    cluster.await_path(2, 1);
    assert_eq!(complaints(&log).len(), 1, "it is said once");
}
