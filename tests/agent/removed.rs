//! `-remove`: the host is as it was before the first start.

use super::node::*;
use rustix::process::Signal;
use std::fs;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::process::{Command, Output};

/// All that an agent may change in the kernel, in the words of the programs that show it.
fn host() -> String {
    let mut text = String::new();
    for command in [
        "ip -details link show",
        "ip -oneline address show",
        "ip route show table all",
        "ip -6 route show table all",
        "ip rule show",
        "ip -6 rule show",
        "iptables-save",
        "ip6tables-save",
        "iptables-legacy-save",
        "ip6tables-legacy-save",
        "nft --stateless list ruleset",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        text += &format!("== {command}\n");
        // Without times, and the counters of chains.
        for line in run(words[0], &words[1..])
            .lines()
            .filter(|line| !line.starts_with('#'))
        {
            text += line.split(" [").next().unwrap().trim_end();
            text.push('\n');
        }
    }
    text
}

/// What others have on the host, each beside something like it of weft's.
fn foreign() {
    ip("-6 address add 2001:db8::1/64 dev eth0 nodad");
    ip("tuntap add flannel.9 mode tun multi_queue");
    ip("route add 10.5.200.0/24 via 192.0.2.200 proto static");
    ip("route add blackhole 10.5.201.0/24 proto static");
    for program in ["iptables", "ip6tables"] {
        for rule in ["-t nat -A POSTROUTING -o eth7", "-A FORWARD -i eth7"] {
            let words = rule.split(' ').chain(["-j", "ACCEPT"]);
            run(program, &words.collect::<Vec<_>>());
        }
    }
    run("nft", &["add", "table", "ip", "foreign"]);
    // What the kernel does by itself is over then.
    wait_for("addresses that stay", || {
        !ip("address show").contains("tentative")
    });
}

fn remove(node: &Node, more: &[&str]) -> (Option<i32>, String) {
    let flags = [&["-remove"], more].concat();
    let Output { status, stderr, .. } = node.command(&flags).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// The life of an agent with this network config, and what becomes of it.
fn comes_and_goes(config: &'static str, peer: &'static str, lines: &'static [&'static str]) {
    on_node(move |node| {
        foreign();
        let before = host();
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, config]);
        run("etcdctl", &["put", &format!("{SUBNETS}10.5.9.0-24"), peer]);
        let flags = ["-ip-masq", "-ip-blackhole-route"];
        let mut agent = node.agent_with("log", &flags);
        agent.expect("ready: ");
        let running = host();
        assert!(running.contains("blackhole 10.5."), "{running}");
        let memory = node.path("state/net-coreos.com-network.state");
        wait_for("the state file", || memory.exists());

        let (code, said) = remove(node, &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("stop the agent first"), "{said}");
        assert_eq!(host(), running);

        agent.signal(Signal::KILL);
        agent.wait();
        let (code, said) = remove(node, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(host(), before, "{said}");
        assert!(!memory.exists(), "without etcd nothing starts by it");
        for line in lines {
            let of_it: Vec<&str> = said.lines().filter(|l| l.contains(line)).collect();
            assert_eq!(of_it.len(), 1, "{line}: {said}");
        }
        assert!(node.path("subnet.env").exists(), "the next start needs it");

        let (code, said) = remove(node, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("there was nothing to remove"), "{said}");
        let (code, said) = remove(node, &["-remove-state"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(!node.path("subnet.env").exists(), "{said}");
        let state = fs::read_dir(node.path("state")).into_iter().flatten();
        assert_eq!(state.count(), 0, "{said}");
        assert_eq!(leases().len(), 2, "the lease stays");
    });
}

const PEER: &str = r#"{"PublicIP":"192.0.2.9","BackendType":"host-gw"}"#;

#[test]
fn nothing_is_left_of_vxlan_in_both_families_and_iptables() {
    comes_and_goes(
        r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48",
            "Backend":{"Type":"vxlan","VNI":7}}"#,
        PEER,
        &[
            "removed the device flannel.7,",
            "removed the device flannel-v6.7,",
            "removed the blackhole route to 10.5.",
            "removed the blackhole route to fd00:5:",
            "removed the firewall chains FLANNEL-POSTRTG, FLANNEL-FWD, WEFT-FWD (iptables)",
            "removed the firewall chains FLANNEL-POSTRTG, FLANNEL-FWD (ip6tables)",
            "all is removed",
        ],
    );
}

#[test]
fn nothing_is_left_of_vxlan_and_nftables() {
    comes_and_goes(
        r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#,
        PEER,
        &[
            "removed the device flannel.1,",
            "removed the firewall tables flannel-ipv4, flannel-ipv6 (nft)",
        ],
    );
}

#[test]
fn nothing_is_left_of_udp() {
    for config in [
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"udp"}}"#,
        r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"udp"}}"#,
    ] {
        comes_and_goes(config, PEER, &["removed the device flannel0,"]);
    }
}

#[test]
fn nothing_is_left_of_host_gw() {
    for config in [
        r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#,
        r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"host-gw"}}"#,
    ] {
        comes_and_goes(
            config,
            PEER,
            &["removed the route to 10.5.9.0/24 via 192.0.2.9"],
        );
    }
}

/// The mark of the agent on `node`, by which it knows its devices.
fn mark(node: &Node) -> String {
    let file = node.path("subnet.env");
    format!("weft /coreos.com/network {}", file.display())
}

/// Programs that packets pass on a device, in the words of `tc`.
fn filters(device: &str) -> String {
    ["ingress", "egress"]
        .map(|way| run("tc", &["filter", "show", "dev", device, way]))
        .concat()
}

#[test]
fn nothing_is_left_of_the_fast_path() {
    for hook in ["tcx", "clsact"] {
        on_node(move |node| {
            foreign();
            let before = host();
            let bpffs = PathBuf::from(node.own_bpffs());
            // As a run before has left it.
            ip("link add weft-m.1 type veth peer name weft-g.1");
            run("ip", &["link", "set", "weft-m.1", "alias", &mark(node)]);
            let _etcd = node.etcd();
            run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
            let flags = [
                format!("-fast-path-hook={hook}"),
                format!("-bpffs={}", bpffs.display()),
            ];
            let flags = flags.each_ref().map(String::as_str);
            let mut agent = node.agent_with("log", &flags);
            let said = agent.expect("fast path");
            if said.contains("no fast path: ") {
                return weft_lab::skip(&said);
            }
            agent.expect("ready: ");
            agent.signal(Signal::KILL);
            agent.wait();
            let pinned = || fs::read_dir(bpffs.join("weft")).is_ok();
            assert!(pinned());
            if hook == "clsact" {
                assert!(filters("eth0").contains("weft_in"), "{}", filters("eth0"));
            }

            // The device has gone on before.
            if hook == "tcx" {
                ip("link del flannel.1");
            }
            let (code, said) = remove(node, &flags[1..]);
            assert_eq!(code, Some(0), "{said}");
            for line in ["the fast path of flannel.1", "the pair of weft-m.1"] {
                let of_it = said.lines().filter(|l| l.contains(line)).count();
                assert_eq!(of_it, 1, "{line}: {said}");
            }
            assert!(!pinned(), "{said}");
            assert_eq!(filters("eth0"), "", "{said}");
            if hook == "clsact" {
                // Nobody knows who else has a use for it.
                run("tc", &["qdisc", "del", "dev", "eth0", "clsact"]);
            }
            assert_eq!(host(), before, "{said}");
        });
    }
}

#[test]
fn what_flanneld_and_other_agents_use_stays() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let other = r#"{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}"#;
        run("etcdctl", &["put", "/other/config", other]);
        run("etcdctl", &["put", "/other/subnets/10.6.9.0-24", PEER]);
        let mut agent = node.agent_with("log", &["-ip-masq"]);
        agent.expect("ready: ");
        let env = format!("-subnet-file={}", node.path("other.env").display());
        let mut neighbour = node.agent_with("other.log", &["-etcd-prefix=/other", &env]);
        neighbour.expect("ready: ");
        // As a DHCP client sets it: it makes no network of everything.
        ip("route add default dev flannel.1 metric 5");
        assert_eq!(agent.stop().0, Some(0));
        let (code, said) = remove(node, &["-remove-state"]);
        assert_eq!(code, Some(1), "{said}");
        assert!(!said.contains("all is removed"), "{said}");
        assert!(!node.path("subnet.env").exists(), "{said}");
        assert!(node.path("state/flannel.1.mac").exists(), "{said}");
        assert!(said.contains("the MAC addresses in "), "{said}");
        assert!(
            said.contains("the firewall rules stay: the agent of /other "),
            "{said}"
        );
        assert!(
            ip("route show").contains("10.6.9.0/24 via 192.0.2.9"),
            "{said}"
        );
        assert!(!ip("link show").contains("flannel.1"), "{said}");
        assert!(run("iptables-save", &[]).contains("FLANNEL-FWD"), "{said}");

        // flanneld has begun already.
        assert_eq!(neighbour.stop().0, Some(0));
        ip("link add flannel.1 type vxlan id 1 dstport 8472 dev eth0");
        ip("link set flannel.1 up");
        let (code, said) = remove(node, &[]);
        assert_eq!(code, Some(0), "{said}");
        assert!(ip("link show").contains("flannel.1"), "{said}");
        let rules = run("iptables-save", &[]);
        assert!(
            rules.contains("FLANNEL-FWD") && !rules.contains("WEFT-FWD"),
            "{said}{rules}"
        );
    });
}

/// A process called flanneld, which does nothing.
fn stand_in(node: &Node) -> Process {
    let program = node.path("flanneld");
    let _ = std::os::unix::fs::symlink("/bin/sleep", &program);
    let mut command = Command::new(program);
    command.arg("1000");
    Process::spawn(command, node.path("flanneld.log"))
}

#[test]
fn a_flanneld_without_a_device_keeps_its_rules_routes_and_subnet() {
    on_node(|node| {
        foreign();
        let _etcd = node.etcd();
        for (name, more) in [("iptables", ""), ("nftables", r#","EnableNFTables":true"#)] {
            let config =
                format!(r#"{{"Network":"10.5.0.0/16","Backend":{{"Type":"host-gw"}}{more}}}"#);
            run("etcdctl", &["put", CONFIG_KEY, &config]);
            run("etcdctl", &["put", &format!("{SUBNETS}10.5.9.0-24"), PEER]);
            let flags = ["-ip-masq", "-ip-blackhole-route"];
            let mut agent = node.agent_with(name, &flags);
            agent.expect("ready: ");
            assert_eq!(agent.stop().0, Some(0));
            let (with_wefts, env) = (host(), node.subnet_env());
            // flanneld goes on with what it finds as it wants it.
            let flanneld = stand_in(node);
            let (code, said) = remove(node, &["-remove-state"]);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(
                said.matches("what flanneld has, too, stays").count(),
                1,
                "{said}"
            );
            assert!(!said.contains("all is removed"), "{said}");
            assert_eq!((host(), node.subnet_env()), (with_wefts, env), "{said}");

            assert_eq!(flanneld.stop().0, None);
            let (code, said) = remove(node, &[]);
            assert_eq!(code, Some(0), "{said}");
            assert!(said.contains("all is removed"), "{said}");
            assert!(
                node.path("subnet.env").exists(),
                "for flanneld's next start"
            );
            let left = host();
            assert!(
                !left.contains("FLANNEL") && !left.contains("flannel-ipv4"),
                "{left}"
            );
            assert!(!left.contains("proto 119"), "{left}");
        }
    });
}

#[test]
fn an_agent_is_known_by_its_file_whatever_the_other_flags() {
    on_node(|node| {
        foreign();
        let _etcd = node.etcd();
        let config = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}"#;
        run("etcdctl", &["put", CONFIG_KEY, config]);
        run("etcdctl", &["put", &format!("{SUBNETS}10.5.9.0-24"), PEER]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let running = host();
        for prefix in ["/coreos.com//network/", "/another"] {
            let (code, said) = remove(node, &[&format!("-etcd-prefix={prefix}")]);
            assert_eq!(code, Some(1), "{prefix}: {said}");
            assert!(said.contains("stop the agent first"), "{prefix}: {said}");
            assert_eq!(host(), running, "{prefix}: {said}");
        }
        assert_eq!(agent.stop().0, Some(0));

        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("vxlan.log");
        agent.expect("ready: ");
        assert_eq!(agent.stop().0, Some(0));
        let (code, said) = remove(node, &["-etcd-prefix=/another"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(ip("link show").contains("flannel.1"), "{said}");
        assert!(
            said.contains("flannel.1 stays: it is of the agent"),
            "{said}"
        );
        assert!(!said.contains("all is removed"), "{said}");
        let (code, said) = remove(node, &["-etcd-prefix=/coreos.com/network/"]);
        assert_eq!(code, Some(0), "{said}");
        assert!(!ip("link show").contains("flannel.1"), "{said}");
        assert!(said.contains("all is removed"), "{said}");
    });
}

#[test]
fn an_agent_whose_name_another_holds_runs_and_has_it_later() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let file = node.path("subnet.env");
        let name = format!("weft-agent /coreos.com/network {}", file.display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let other = UnixDatagram::bind_addr(&address).unwrap();
        let mut agent = node.agent("log");
        assert!(
            agent
                .expect("another process on this host")
                .contains("WARN")
        );
        agent.expect("ready: ");
        drop(other);
        agent.expect("seen by -remove from here on");
        assert!(UnixDatagram::bind_addr(&address).is_err());
        assert_eq!(agent.stop().0, Some(0));
    });
}
