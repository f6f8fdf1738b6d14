//! With the real programs, in network namespaces.

mod listings;
mod programs;
mod removal;
mod repair;

use super::error::Unreadable;
use super::*;
use crate::family::PerFamily;
use crate::host::netns;
use crate::lease::NodeNetwork;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A network of IPv4 alone.
const V4: PerFamily<bool> = PerFamily {
    v4: true,
    v6: false,
};

const VARIANTS: [&str; 2] = ["legacy", "nft"];

/// More than any machine needs.
const LIMIT: Duration = Duration::from_secs(60);

/// The iptables programs of one variant.
fn variant(name: &str) -> Programs {
    Programs {
        iptables: super::programs::iptables(&format!("-{name}")),
        ..Programs::default()
    }
}

fn own(network: &str, subnet: &str) -> Option<NodeNetwork> {
    Some(NodeNetwork {
        network: network.parse().unwrap(),
        subnet: subnet.parse().unwrap(),
    })
}

fn spec() -> FirewallSpec {
    FirewallSpec {
        networks: PerFamily {
            v4: own("10.42.0.0/16", "10.42.1.0/24"),
            v6: None,
        },
        masquerade: true,
        random_fully: true,
        forward: true,
        tap: None,
    }
}

fn dual() -> FirewallSpec {
    let mut spec = spec();
    spec.networks.v6 = own("fd00:10:244::/56", "fd00:10:244:1::/64");
    spec
}

async fn install(programs: &Programs, flavour: Flavour, spec: &FirewallSpec) -> Firewall {
    Firewall::install_within(LIMIT, programs, flavour, spec).await
}

/// Run a test for both variants of iptables, each in a namespace of its own.
fn for_both(test: impl AsyncFn(Programs) + Copy + Send + 'static) {
    for name in VARIANTS {
        netns::run(async move |_| test(variant(name)).await);
    }
}

fn output(command: &str) -> (bool, String) {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (
        output.status.success(),
        if text.is_empty() { error } else { text },
    )
}

/// The standard output of a command that must succeed.
fn sh(command: &str) -> String {
    let (ok, text) = output(command);
    assert!(ok, "{command}: {text}");
    text
}

/// What upstream's end-to-end tests compare of the nat table.
fn nat(program: &str) -> String {
    let jumps = sh(&format!("{program} -t nat -S POSTROUTING"));
    let jumps = jumps.lines().filter(|line| line.contains("FLANNEL"));
    let jumps: Vec<&str> = jumps.collect();
    let chain = sh(&format!("{program} -t nat -S FLANNEL-POSTRTG"));
    jumps.join("\n") + "\n" + &chain
}

fn filter(program: &str) -> String {
    let forward = sh(&format!("{program} -S FORWARD"));
    forward + &sh(&format!("{program} -S FLANNEL-FWD"))
}

const NAT_V4: &str = r#"-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-N FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.42.1.0/24 -d 10.42.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.42.0.0/16 -d 10.42.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.1.0/24 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.42.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.42.0.0/16 -d 10.42.0.0/16 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"#;

const NAT_V6: &str = r#"-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-N FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd00:10:244:1::/64 -d fd00:10:244::/56 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd00:10:244::/56 -d fd00:10:244:1::/64 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s fd00:10:244::/56 -d fd00:10:244:1::/64 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s fd00:10:244::/56 ! -d ff00::/8 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s fd00:10:244::/56 -d fd00:10:244::/56 -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
"#;

const KUBE: &str =
    r#"-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD"#;

const JUMP: &str = r#"-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD"#;

const FWD_V4: &str = r#"-N FLANNEL-FWD
-A FLANNEL-FWD -s 10.42.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.42.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
"#;

const FWD_V6: &str = r#"-N FLANNEL-FWD
-A FLANNEL-FWD -s fd00:10:244::/56 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d fd00:10:244::/56 -m comment --comment "flanneld forward" -j ACCEPT
"#;

/// FORWARD with kube-proxy's rule before ours.
fn golden_filter(chain: &str) -> String {
    format!("-P FORWARD ACCEPT\n{KUBE}\n{JUMP}\n{chain}")
}

/// What kube-proxy has set up before.
fn kube_forward(program: &str) {
    sh(&format!("{program} -w -N KUBE-FORWARD"));
    sh(&format!("{program} -w {KUBE}"));
}

/// A program of that name in `dir` that notes each call in `dir/calls`.
fn noting(dir: &Path, name: &str, real: &str) {
    let path = dir.join(name);
    let calls = dir.join("calls");
    let text = format!("echo {name} >>{}\nexec {real} \"$@\"", calls.display());
    weft_lab::script(path, &text).unwrap();
}

fn calls(dir: &Path) -> Vec<String> {
    let calls = fs::read_to_string(dir.join("calls")).unwrap_or_default();
    let _ = fs::remove_file(dir.join("calls"));
    calls.lines().map(str::to_owned).collect()
}

fn no_programs() -> Programs {
    Programs {
        iptables: PerFamily {
            v4: "/nowhere/iptables".into(),
            v6: "/nowhere/ip6tables".into(),
        },
        nft: "/nowhere/nft".into(),
        leftovers: vec!["/nowhere/iptables".into()],
    }
}
