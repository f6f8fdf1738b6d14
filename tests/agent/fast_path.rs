//! The fast path of one agent: what keeps it from running, and the command that asks for it.

use super::node::*;
use rustix::process::Signal;
use std::process::Command;

fn fast_path(node: &Node, words: &[&str]) -> (Option<i32>, String) {
    node.ask("fast-path", words)
}

fn expect(node: &Node, words: &[&str], code: i32, text: &str) {
    let (status, said) = fast_path(node, words);
    assert_eq!(status, Some(code), "{words:?}: {said}");
    assert!(said.contains(text), "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// An agent whose fast path has begun; without one the test is skipped.
fn begun(node: &Node, log: &str, flags: &[&str]) -> Option<Process> {
    let mut agent = node.agent_with(log, flags);
    agent.expect("ready: ");
    let said = agent.expect("fast path");
    if said.contains("no fast path: ") {
        weft_lab::skip(&said);
        return None;
    }
    Some(agent)
}

#[test]
fn a_running_agent_is_asked_and_switched() {
    on_node(|node| {
        expect(node, &[], 1, "no agent is seen in ");
        let _etcd = node.etcd();
        let other = format!("-subnet-file={}", node.path("other.env").display());
        let mut waiting = node.agent_with("other.log", &["-etcd-prefix=/other", &other]);
        waiting.expect("no network config");
        expect(node, &["off"], 1, "waits for its network config");
        waiting.signal(Signal::KILL);
        waiting.wait();
        expect(node, &["off"], 1, "no agent answers in ");

        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let Some(mut agent) = begun(node, "log", &[]) else {
            return;
        };
        expect(
            node,
            &["show"],
            0,
            "flannel.1: fast path on (auto): eBPF programs",
        );
        expect(node, &["off"], 0, "flannel.1: fast path off");
        agent.expect("switching the fast path of flannel.1 from auto to off");
        expect(node, &["on"], 0, "flannel.1: fast path on (on)");
        expect(node, &["fast"], 2, "fast");

        let config = r#"{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}"#;
        run("etcdctl", &["put", "/other/config", config]);
        let mut second = node.agent_with("other.log", &["-etcd-prefix=/other", &other]);
        second.expect("ready: ");
        expect(node, &["auto"], 1, "several agents run");
        expect(node, &["auto", "--agent=/other "], 0, "no tunnel");
        assert_eq!(fast_path(node, &[]).1.lines().count(), 2);
        for agent in [agent, second] {
            assert_eq!(agent.stop().0, Some(0));
        }
        assert_eq!(std::fs::read_dir(node.path("run")).unwrap().count(), 0);
    });
}

#[test]
fn without_a_place_for_the_socket_an_agent_goes_on() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        std::fs::write(node.path("file"), "").unwrap();
        let flag = format!("-socket-dir={}", node.path("file").display());
        let mut agent = node.agent_with("log", &[&flag]);
        let line = agent.expect("no local socket");
        assert!(line.contains("WARN"), "{line}");
        agent.expect("ready: ");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn ipsec_policies_end_the_fast_path_while_there_are_any() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let Some(mut agent) = begun(node, "log", &[]) else {
            return;
        };
        ip("xfrm policy add src 192.0.2.1 dst 192.0.2.9 dir out");
        let line = agent.expect("no fast path: this host has IPsec policies");
        assert!(line.contains("WARN"), "{line}");
        expect(node, &[], 0, "IPsec");
        ip("xfrm policy flush");
        expect(node, &["auto"], 0, "flannel.1: fast path on (auto)");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn rules_and_shapers_that_do_not_see_its_packets_are_told() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let rule = "-A INPUT -p udp --dport 8472 -s 192.0.2.9 -j DROP";
        run("iptables", &rule.split(' ').collect::<Vec<_>>());
        let Some(mut agent) = begun(node, "log", &[]) else {
            return;
        };
        let line = agent.expect("firewall rules on UDP port 8472 do not see packets");
        assert!(line.contains("-A INPUT -s 192.0.2.9"), "{line}");
        let tbf = "qdisc add dev flannel.1 root tbf rate 1mbit burst 10k latency 50ms";
        run("tc", &tbf.split(' ').collect::<Vec<_>>());
        agent.expect("the qdisc tbf of flannel.1 does not see packets");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn without_capabilities_one_line_says_so_and_the_node_works() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let command = node.command(&[]);
        let mut limited = Command::new("setpriv");
        limited.args(["--no-new-privs", "--inh-caps=-all"]);
        limited.args(["--bounding-set=-all,+net_admin,+net_raw", WEFT]);
        limited.args(command.get_args());
        let mut agent = Process::spawn(limited, node.path("log"));
        agent.expect("ready: ");
        let line = agent.expect("no fast path: ");
        assert!(line.contains("CAP_PERFMON"), "{line}");
        expect(node, &["auto"], 0, "CAP_PERFMON");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(
            log.matches("no fast path: ").count(),
            2,
            "once, and when asked: {log}"
        );
    });
}

#[test]
fn a_bpf_file_system_that_is_unmounted_costs_what_outlives_the_agent() {
    on_node(|node| {
        let bpffs = &node.own_bpffs();
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let Some(mut agent) = begun(node, "log", &[&format!("-bpffs={bpffs}")]) else {
            return;
        };
        expect(
            node,
            &[],
            0,
            "carry packets that are cheaper in the kernel\n",
        );
        run("umount", &[bpffs]);
        agent.expect("no fast path: somebody has removed the programs or their pins");
        agent.expect("the fast path ends with the agent, as it cannot be pinned");
        let shown = || fast_path(node, &[]).1;
        wait_for("programs", || shown().contains("fast path on (auto)"));
        assert!(shown().contains("they end with the agent"), "{}", shown());
        assert_eq!(agent.stop().0, Some(0));
    });
}

/// The next agent is in a container without the mount, say. The programs would go on by a table that
/// nobody keeps.
#[test]
fn programs_that_an_agent_left_where_the_next_one_does_not_look_are_taken_off() {
    on_node(|node| {
        let bpffs = &node.own_bpffs();
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        for (number, (mode, line)) in [
            ("auto", "took 2 programs of an earlier agent off"),
            ("off", "removed the fast path that an earlier run had left"),
        ]
        .into_iter()
        .enumerate()
        {
            let flag = format!("-bpffs={bpffs}");
            let Some(mut first) = begun(node, &format!("first{number}"), &[&flag]) else {
                return;
            };
            first.signal(Signal::KILL);
            first.wait();
            let flags = ["-bpffs=/nowhere", &format!("-fast-path={mode}")];
            let mut next = node.agent_with(&format!("next{number}"), &flags);
            next.expect("ready: ");
            next.expect(line);
            assert_eq!(next.stop().0, Some(0));
        }
        run("umount", &[bpffs]);
    });
}

#[test]
fn filters_that_somebody_removes_are_put_back_once_and_then_seldom() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let Some(mut agent) = begun(node, "log", &["-fast-path-hook=clsact"]) else {
            return;
        };
        let filters = || run("tc", &["filter", "show", "dev", "eth0", "ingress"]);
        let remove = || {
            run(
                "tc",
                &["filter", "del", "dev", "eth0", "ingress", "pref", "30565"],
            )
        };
        assert!(filters().contains("weft_in"));
        remove();
        agent.expect("no fast path: somebody has removed the programs");
        wait_for("the programs", || filters().contains("weft_in"));
        remove();
        wait_for("a refusal", || {
            fast_path(node, &[]).1.contains("no fast path (auto)")
        });
        // What is left on the TUN device has gone, too.
        let out = run("tc", &["filter", "show", "dev", "flannel.1", "egress"]);
        assert_eq!(out, "");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(log.matches("fast path on flannel.1").count(), 2, "{log}");
    });
}
