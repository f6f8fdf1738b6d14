//! What a node that starts says of its host.

use super::node::*;
use std::fs;
use std::process::Command;

/// An agent with its leases in a file.
fn agent_on(node: &Node, file: &str, flags: &[&str]) -> Process {
    fs::write(node.path("peers.toml"), file).unwrap();
    let mut command = Command::new(WEFT);
    command.arg("agent").args(flags);
    for (flag, file) in [
        ("subnets-file", "peers.toml"),
        ("subnet-file", "subnet.env"),
        ("state-dir", "state"),
        ("socket-dir", "run"),
        ("bpffs", "bpf"),
    ] {
        command.arg(format!("-{flag}={}", node.path(file).display()));
    }
    Process::spawn(command, node.path("log"))
}

const FILE: &str = r#"
[config]
Network = "10.5.0.0/16"
Backend = { Type = "vxlan" }

[[leases]]
Subnet = "10.5.1.0/24"
PublicIP = "198.51.100.1"
"#;

#[test]
fn a_file_that_names_another_interface_says_which() {
    on_node(|node| {
        ip("link add eth1 type veth peer name wire1");
        ip("address add 198.51.100.1/24 dev eth1");
        ip("link set eth1 up");
        ip("link set wire1 up");
        ip("route add default via 192.0.2.254");
        let mut agent = agent_on(node, FILE, &[]);
        let line = agent.expect("no lease for 192.0.2.1");
        for words in ["one for 198.51.100.1, which is on eth1", "-iface=eth1"] {
            assert!(line.contains(words), "{line}");
        }
        assert_eq!(agent.stop().0, Some(0));

        // What it says is what helps.
        let mut agent = agent_on(node, FILE, &["-iface=eth1"]);
        agent.expect("ready: 10.5.1.0/24");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn a_host_that_does_not_forward_is_told() {
    on_node(|node| {
        let sysctl = |name: &str, value: &str| run("sysctl", &["-qw", &format!("{name}={value}")]);
        let (v4, v6) = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding");
        let file = FILE.replace("198.51.100.1", "192.0.2.1");
        sysctl(v4, "0");
        sysctl(v6, "0");
        let mut agent = agent_on(node, &file, &["-iface=eth0"]);
        let line = agent.expect(&format!("WARN W0419 {v4} is 0"));
        assert!(line.contains(&format!("sysctl -w {v4}=1")), "{line}");
        agent.expect("ready: ");
        let (_, log) = agent.stop();
        assert!(!log.contains(v6), "a network without IPv6: {log}");
        assert_eq!(run("sysctl", &["-n", v4]), "0\n", "left alone");

        let dual = "EnableIPv6 = true\nIPv6Network = \"fd00:5::/48\"\nBackend";
        let entry = "IPv6Subnet = \"fd00:5:0:1::/64\"\nPublicIPv6 = \"2001:db8::1\"\nPublicIP";
        let file = file.replace("Backend", dual).replace("PublicIP", entry);
        ip("address add 2001:db8::1/64 dev eth0 nodad");
        sysctl(v4, "1");
        fs::remove_file(node.path("log")).unwrap();
        let mut agent = agent_on(node, &file, &["-iface=eth0"]);
        agent.expect(&format!("WARN W0419 {v6} is 0"));
        agent.expect("ready: ");
        let (_, log) = agent.stop();
        assert!(!log.contains(v4), "{log}");
    });
}
