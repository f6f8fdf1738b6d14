//! That a node stays the same one, and that no two are one.

use super::node::*;
use rustix::process::Signal;
use std::fs;

/// A node whose only way to other networks is a default route, as most have.
fn on_routed_node(test: impl FnOnce(&Node) + Send + 'static) {
    on_node(move |node| {
        ip("route add default via 192.0.2.254 metric 100");
        test(node);
    });
}

#[test]
fn a_default_route_into_the_own_tunnel_changes_nothing_however_often_the_agent_starts() {
    on_routed_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let start = |log: &str| {
            let mut agent = Process::spawn(node.command_without_iface(), node.path(log));
            agent.expect("ready: ");
            let line = agent.expect("packets leave through eth0 (192.0.2.1, MTU 1500)");
            assert!(line.ends_with("advertised address 192.0.2.1"), "{line}");
            agent
        };
        let first = start("first.log");
        let (env, lease) = (node.subnet_env(), leases());
        assert_eq!(lease.len(), 1);
        // As a DHCP client sets it, and as it stays while the device is held.
        ip("route add default dev flannel.1 metric 5");
        assert_eq!(first.stop().0, Some(0));
        for number in 0..4 {
            let mut agent = start(&format!("{number}.log"));
            let line = agent.expect("default route leads through flannel.1");
            assert!(line.contains("WARN"), "{line}");
            assert_eq!((leases(), node.subnet_env()), (lease.clone(), env.clone()));
            let (code, log) = agent.stop();
            assert_eq!(code, Some(0), "{log}");
            assert!(ip("route show default").contains("flannel.1"));
        }
    });
}

#[test]
fn an_agent_that_cannot_start_leaves_no_lease() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        ip("tuntap add flannel.1 mode tun multi_queue");
        ip("address add 10.5.9.0/32 dev flannel.1");
        for (log, flags) in [
            ("tunnel.log", &["-iface=flannel.1"][..]),
            ("public.log", &["-iface=eth0", "-public-ip=10.5.9.0"]),
        ] {
            let mut command = node.command_without_iface();
            command.args(flags);
            let mut agent = Process::spawn(command, node.path(log));
            assert_eq!(agent.wait().code(), Some(1));
            let line = agent.expect("ERROR");
            assert!(
                line.contains("flannel.1, which") || line.contains("flannel.1 is of"),
                "{line}"
            );
            assert_eq!(leases(), []);
        }
    });
}

#[test]
fn a_copy_of_another_nodes_disk_gets_a_mac_and_a_subnet_of_its_own() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("first.log");
        agent.expect("ready: ");
        assert_eq!(agent.stop().0, Some(0));
        let first = leases();
        // The same files, another address.
        ip("address del 192.0.2.1/24 dev eth0");
        ip("address add 192.0.2.2/24 dev eth0");
        for log in ["clone.log", "again.log"] {
            let mut agent = node.agent(log);
            agent.expect("ready: ");
            let both = leases();
            assert_eq!(both.len(), 2, "{both:?}");
            let cloned = both.iter().find(|lease| **lease != first[0]).unwrap();
            assert!(cloned.1.contains("192.0.2.2"), "{both:?}");
            let mac = fs::read_to_string(node.path("state/flannel.1.mac")).unwrap();
            assert!(cloned.1.contains(mac.trim()), "{mac} {both:?}");
            assert!(!first[0].1.contains(mac.trim()), "{mac} {both:?}");
            let (code, text) = agent.stop();
            assert_eq!(code, Some(0), "{text}");
            let told = text.matches("as if one disk were a copy").count();
            assert_eq!(told, usize::from(log == "clone.log"), "{text}");
            let file = node.path("state/flannel.1.mac").display().to_string();
            assert!(told == 0 || text.contains(&file), "{text}");
        }
    });
}

#[test]
fn a_mac_that_another_node_takes_later_is_one_warning() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let (_, value) = leases().remove(0);
        let copied = value.replace("192.0.2.1", "192.0.2.7");
        let key = format!("{SUBNETS}10.5.255.0-24");
        for _ in 0..3 {
            run("etcdctl", &["put", &key, &copied]);
        }
        let line = agent.expect("lease 10.5.255.0-24 of 192.0.2.7 has this node's MAC");
        assert!(line.contains("WARN"), "{line}");
        // Lines of what comes after.
        let wrong = value.replace("vxlan", "udp");
        run(
            "etcdctl",
            &[
                "put",
                &format!("{SUBNETS}10.5.254.0-24"),
                &wrong.replace("192.0.2.1", "192.0.2.8"),
            ],
        );
        agent.expect("10.5.254.0-24");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(log.matches("has this node's MAC").count(), 1, "{log}");
    });
}

#[test]
fn a_state_dir_that_cannot_be_written_costs_nothing_but_one_warning() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        // Root may write where the mode says no, and nobody into a file.
        fs::write(node.path("state"), "").unwrap();
        let mut lease = Vec::new();
        for (log, which) in [
            ("first.log", "a new one"),
            ("second.log", "that of its lease"),
        ] {
            let mut agent = node.agent(log);
            agent.expect("ready: ");
            lease.push(leases());
            let (code, text) = agent.stop();
            assert_eq!(code, Some(0), "{text}");
            let lines = text
                .lines()
                .filter(|line| line.contains("cannot keep the MAC"));
            let lines: Vec<&str> = lines.collect();
            assert_eq!(lines.len(), 1, "{text}");
            let end = format!("in this run the node has {which}");
            assert!(
                lines[0].contains("WARN") && lines[0].ends_with(&end),
                "{text}"
            );
        }
        assert_eq!(lease[0], lease[1], "the same MAC");
    });
}

#[test]
fn two_networks_of_one_vni_on_one_host_are_told_to_have_two() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        for (port, advice) in [
            (
                "8472",
                "another Backend.VNI and, as UDP port 8472 cannot be shared, another Backend.Port",
            ),
            ("8473", "another Backend.VNI"),
        ] {
            let backend = format!(r#"{{"Type":"vxlan","Port":{port}}}"#);
            let config = format!(r#"{{"Network":"10.6.0.0/16","Backend":{backend}}}"#);
            run("etcdctl", &["put", "/other/config", &config]);
            let file = format!("-subnet-file={}", node.path("other.env").display());
            let flags = ["-etcd-prefix=/other", file.as_str()];
            let mut other = node.agent_with(&format!("{port}.log"), &flags);
            assert_eq!(other.wait().code(), Some(1));
            let line = other.expect("ERROR");
            assert!(line.ends_with(advice), "{line}");
            assert!(
                line.contains("flannel.1 is in use by another agent"),
                "{line}"
            );
        }
        assert_eq!(agent.stop().0, Some(0), "undisturbed");
    });
}

#[test]
fn signals_that_flanneld_survives_do_not_end_the_agent() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        for signal in [Signal::USR2, Signal::ALARM, Signal::PIPE] {
            agent.signal(signal);
        }
        agent.signal(Signal::USR1);
        agent.expect("counters:");
        assert_eq!(agent.stop().0, Some(0));
    });
}
