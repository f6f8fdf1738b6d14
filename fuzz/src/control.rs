//! What people, etcd and other programs write for the agent: what is refused is refused in one
//! line, what is accepted keeps its rules.

use std::fmt::Display;
use weft_control::config::{NetworkConfig, NetworkRange, VxlanOptions};
use weft_control::family::{Family, PerFamily};
use weft_control::flags;
use weft_control::hand_over::{Claim, Message, VERSION};
use weft_control::host::firewall;
use weft_control::host::state_file;
use weft_control::host::subnet_env::{self, SubnetEnv};
use weft_control::lease::{LeaseAttrs, NodeNetwork, Previous, SubnetKey, VxlanData};
use weft_control::remembered;
use weft_control::subnets::{fixed, kube};

/// A password that must not turn up in anything that is printed.
const SECRET: &str = "d7f3-secret-9a41";

/// Longer reasons would fill a log.
const REASON_MAX: usize = 2000;

/// Read `data` as the network config.
pub fn network_config(data: &[u8]) {
    match NetworkConfig::parse(&text(data)) {
        Ok(config) => {
            check_config(&config);
            one_line(&config.unknown_backend());
            if let Err(reason) = VxlanOptions::parse(&config.backend) {
                one_line(&reason);
            }
        }
        Err(reason) => one_line(&reason),
    }
}

fn check_config(config: &NetworkConfig) {
    assert!(config.ranges.present().next().is_some());
    for (family, longest) in [(Family::V4, 30), (Family::V6, 126)] {
        let Some(range) = config.ranges.of(family) else {
            continue;
        };
        let NetworkRange {
            network,
            subnet_len,
            min,
            max,
        } = range;
        assert_eq!(Family::of(network.addr()), family);
        assert!(min <= max && network.contains(min) && network.contains(max));
        assert!((network.prefix_len() + 2..=longest).contains(subnet_len));
    }
}

/// Read `data` as the `Backend` object of a network with vxlan.
pub fn vxlan_options(data: &[u8]) {
    let config = format!(
        r#"{{"Network":"10.5.0.0/16","Backend":{data}}}"#,
        data = text(data)
    );
    let Ok(config) = NetworkConfig::parse(&config) else {
        return;
    };
    match VxlanOptions::parse(&config.backend) {
        Ok(options) => {
            assert!(options.port != 0);
            let mtus = VxlanOptions::MTU_MIN..=VxlanOptions::MTU_MAX;
            assert!(options.mtu.is_none_or(|mtu| mtus.contains(&mtu)));
        }
        Err(reason) => one_line(&reason),
    }
}

/// Read `data` as the name of a lease.
pub fn lease_key(data: &[u8]) {
    let text = text(data);
    match text.parse::<SubnetKey>() {
        Ok(key) => assert!(
            text.ends_with(&key.to_string()),
            "one spelling for each subnet"
        ),
        Err(reason) => one_line(&reason),
    }
}

/// Read `data` as the value of a lease, and as a vxlan node's data.
pub fn lease_value(data: &[u8]) {
    let text = text(data);
    if let Err(reason) = VxlanData::parse(&text) {
        one_line(&reason);
    }
    match LeaseAttrs::parse(&text) {
        Ok(attrs) => {
            let again = LeaseAttrs::parse(&attrs.to_json());
            assert_eq!(again.as_ref(), Ok(&attrs), "what is written can be read");
            for reason in Family::BOTH.map(|family| attrs.vxlan_data(family).err()) {
                reason.iter().for_each(one_line);
            }
        }
        Err(reason) => one_line(&reason),
    }
}

/// Read `data` as a `subnet.env`, and what it holds again as weft would write it.
pub fn subnet_env(data: &[u8]) {
    let (previous, complaints) = subnet_env::parse_previous(&text(data));
    for complaint in &complaints {
        one_line(complaint);
    }
    // What is written is the first host of a subnet: there must be one.
    let own = |previous: &Previous| {
        PerFamily::new(|family| {
            let (network, subnet) = (previous.network(family)?, previous.subnet(family)?);
            let has_host = subnet.prefix_len() < subnet.max_prefix_len();
            has_host.then_some(NodeNetwork { network, subnet })
        })
    };
    let env = SubnetEnv {
        networks: own(&previous),
        mtu: 1450,
        ip_masq: false,
    };
    let (again, _) = subnet_env::parse_previous(&env.render());
    assert_eq!(own(&again), env.networks);
}

/// Read `data` as a state file, and as the content of one.
pub fn state_file(data: &[u8]) {
    if let Err(reason) = state_file::content_at(data) {
        one_line(&reason);
    }
    if let Err(reason) = remembered::check(data) {
        one_line(&reason);
    }
}

/// Read `data` as what two agents say to each other, the second of which takes over.
pub fn hand_over(data: &[u8]) {
    match Message::read(data) {
        Ok(message) => {
            let again = Message::read(message.line().as_bytes());
            assert_eq!(again, Ok(message), "what is said can be read");
        }
        Err(reason) => one_line(&reason),
    }
    let own = Claim {
        hand_over: VERSION,
        weft: String::new(),
        agent: "/coreos.com/network /run/flannel/subnet.env".to_owned(),
        state_dir: "/var/lib/weft".to_owned(),
    };
    let claim: Result<Claim, _> = serde_json::from_slice(data);
    if let Some(refusal) = claim.ok().and_then(|claim| claim.refusal(&own)) {
        one_line(&refusal);
    }
}

/// Read the lines of `data` as arguments of the agent; those after an empty one are
/// environment variables, `NAME=value`.
pub fn flags(data: &[u8]) {
    let text = text(data);
    if text.contains(SECRET) {
        return;
    }
    let (args, env) = text.split_once("\n\n").unwrap_or((&text, ""));
    let secret = format!("-etcd-password={SECRET}");
    let args = std::iter::once(secret).chain(args.lines().map(str::to_owned));
    let variable = |name: &str| {
        let mut pairs = env.lines().filter_map(|line| line.split_once('='));
        pairs
            .find(|pair| pair.0 == name)
            .map(|pair| pair.1.to_owned())
    };
    match flags::parse(args, variable) {
        Ok(command) => assert!(!format!("{command:?}").contains(SECRET)),
        Err(reason) => {
            let reason = reason.to_string();
            assert!(!reason.contains(SECRET));
            // As long as what was typed.
            assert!(!reason.chars().any(char::is_control), "{reason:?}");
        }
    }
}

/// Read `data` as a subnets file, both as TOML and as JSON.
pub fn subnets_file(data: &[u8]) {
    for reason in fixed::check(&text(data))
        .into_iter()
        .filter_map(Result::err)
    {
        one_line(&reason);
    }
}

/// Read `data` as what the firewall tools list.
pub fn firewall_listing(data: &[u8]) {
    firewall::read_listing(&text(data));
}

/// Read `data` as a Node of the Kubernetes API.
pub fn kube_node(data: &[u8]) {
    if let Err(reason) = kube::check::node(data) {
        one_line(&reason);
    }
}

/// Read `data` as a list of Nodes that arrives in small parts.
pub fn kube_list(data: &[u8]) {
    if let Err(reason) = kube::check::list(data) {
        assert!(!reason.is_empty());
    }
}

/// Read the lines of `data` as those of a watch on Nodes, which begins with a list.
pub fn kube_watch(data: &[u8]) {
    let (told, peers) = kube::check::watch(data);
    assert!(peers == 0 || told > 0);
}

fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// Reasons reach people as one line.
fn one_line(reason: &impl Display) {
    let reason = reason.to_string();
    assert!(!reason.chars().any(char::is_control), "{reason:?}");
    assert!(!reason.is_empty() && reason.len() <= REASON_MAX, "{reason}");
}
