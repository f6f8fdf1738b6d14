//! What container runtimes go by.

use crate::doctor::facts::Facts;
use crate::doctor::finding::NO_AGENT;
use crate::doctor::finding::{Look, advise, run};
use ipnet::IpNet;

/// Bridges that flannel's plugin and Docker give pods.
const BRIDGES: [&str; 2] = ["cni0", "docker0"];

pub(super) fn subnet_env(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let again = || advise("the agent writes it again within 10 s; if not: df /run, and the log");
    let mut look = Look::ok("it does");
    let Some(env) = &facts.host.subnet_env else {
        look.fail("it cannot be read: no new pod can be attached", again());
        return look;
    };
    for (key, v6) in [("FLANNEL_SUBNET", false), ("FLANNEL_IPV6_SUBNET", true)] {
        let mut own = status.lease.subnets.iter();
        let own = own.find(|net| net.addr().is_ipv6() == v6);
        let said = env.get(key).and_then(|value| value.parse::<IpNet>().ok());
        if let (Some(own), Some(said)) = (own, said)
            && own.trunc() != said.trunc()
        {
            look.fail(format!("it says {said}, and the lease {own}"), again());
        }
    }
    let mtu = env.get("FLANNEL_MTU").and_then(|mtu| mtu.parse().ok());
    if let Some(mtu) = mtu.filter(|mtu: &u32| *mtu != status.mtu) {
        look.fail(
            format!("it says MTU {mtu}, and the tunnel takes {}", status.mtu),
            again(),
        );
    }
    look
}

pub(super) fn conflist(facts: &Facts) -> Look {
    let lists = &facts.host.conflists;
    let is_flannel = |plugins: &[String]| plugins.iter().any(|plugin| plugin == "flannel");
    let with_flannel = lists.iter().position(|list| {
        list.plugins
            .as_ref()
            .is_ok_and(|plugins| is_flannel(plugins))
    });
    let mut look = Look::ok(match (lists.is_empty(), with_flannel) {
        (true, _) => "no CNI here".to_owned(),
        (false, None) => "CNI without flannel's plugin".to_owned(),
        (false, Some(at)) => lists[at].path.clone(),
    });
    for list in lists {
        if let Err(reason) = &list.plugins {
            look.fail(
                format!("{}: {reason}", list.path),
                advise("put it right: deploy/cni/10-flannel.conflist is an example"),
            );
        }
    }
    let Some(at) = with_flannel else {
        return look;
    };
    let list = &lists[at];
    if at > 0 {
        let (first, second) = (&lists[0].path, &list.path);
        look.warn(
            format!("the runtime takes {first}, the first by its name, and not {second}"),
            advise(format!("move one of the two away: mv {first} {first}.off")),
        );
    }
    if !facts.host.cni_plugin {
        look.fail(
            "the plugin flannel is in neither /opt/cni/bin nor /usr/lib/cni",
            advise("make install puts it into /opt/cni/bin"),
        );
    }
    if let (Some(status), Some(mtu)) = (facts.status(), list.mtu)
        && mtu > status.mtu
    {
        look.fail(
            format!(
                "{} gives pods the MTU {mtu}, and the tunnel takes {}",
                list.path, status.mtu
            ),
            advise("leave out delegate.mtu: the plugin takes FLANNEL_MTU"),
        );
    }
    look
}

pub(super) fn bridge(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let bridges = facts
        .host
        .links
        .iter()
        .filter(|link| BRIDGES.contains(&link.name.as_str()));
    let bridges: Vec<_> = bridges.collect();
    let names: Vec<&str> = bridges.iter().map(|link| link.name.as_str()).collect();
    let mut look = match names.is_empty() {
        true => Look::ok("there is none yet"),
        false => Look::ok(names.join(" and ")),
    };
    for link in bridges {
        let (name, mtu) = (&link.name, status.mtu);
        let own = &status.lease.subnets;
        let is_own = |net: &IpNet| link.addresses.iter().any(|address| net.contains(address));
        // Docker's own bridge may be another network's.
        let serves = own.iter().any(is_own);
        if link.mtu > mtu && (serves || name == "cni0") {
            look.fail(
                format!("the MTU of {name} is {}, and the tunnel takes {mtu}: pods send what is too long", link.mtu),
                run(format!("ip link set dev {name} mtu {mtu}")),
            );
            look.or(advise(
                "pods keep their own MTU until they are started anew",
            ));
        }
        let v4 = link.addresses.iter().any(|address| address.is_ipv4());
        if name == "cni0" && v4 && !serves {
            look.fail(
                format!(
                    "{name} has an address of another subnet than the lease's: new pods are refused"
                ),
                advise(format!(
                    "drain the node, then ip link delete {name}: running pods that hang on it lose their network, and have to be started anew"
                )),
            );
        }
    }
    look
}
