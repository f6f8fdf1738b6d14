//! The tunnel's device and port, and the underlay's.

use crate::doctor::facts::Facts;
use crate::doctor::finding::NO_AGENT;
use crate::doctor::finding::{CheckVerdict, Look, advise, run};
use crate::family::Family;
use crate::status::TunnelStatus;

pub(super) fn device(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    if status.tunnels.is_empty() {
        return Look::ok("none: the kernel carries all packets by itself");
    }
    let names: Vec<&str> = status.tunnels.iter().map(|t| t.device.as_str()).collect();
    let mut look = Look::ok(names.join(" and "));
    for tunnel in &status.tunnels {
        look_at(&mut look, facts, tunnel);
    }
    look
}

fn look_at(look: &mut Look, facts: &Facts, tunnel: &TunnelStatus) {
    let name = &tunnel.device;
    let Some(link) = facts.link(name) else {
        let again = advise("the agent makes it anew within a second; if not, the log says why");
        return look.fail(format!("there is no {name}"), again);
    };
    if link.kind.as_deref() != Some("tun") {
        let kind = link.kind.as_deref().unwrap_or("of no kind");
        look.fail(
            format!("{name} is no TUN device but {kind}: somebody has put another in its place"),
            advise(format!(
                "find out whose it is: ip -d link show {name}; once that has another name, or is deleted with all that it carries, the agent makes its own"
            )),
        );
    }
    if !link.up {
        look.fail(
            format!("{name} is down"),
            run(format!("ip link set dev {name} up")),
        );
    } else if !link.carrier {
        look.fail(
            format!("{name} has no carrier: nobody reads it"),
            advise("start the agent again: systemctl restart weft"),
        );
    }
    if link.mtu != tunnel.mtu {
        let (is, mtu) = (link.mtu, tunnel.mtu);
        look.fail(
            format!("the MTU of {name} is {is}, not {mtu}"),
            run(format!("ip link set dev {name} mtu {mtu}")),
        );
    }
    let family = tunnel.local.map_or(Family::V4, Family::of);
    if let Some(own) = facts.status().and_then(|status| status.own_end(family))
        && !link.addresses.contains(&own)
    {
        let len = if own.is_ipv4() { 32 } else { 128 };
        look.fail(
            format!("{name} has not its address, {own}"),
            run(format!("ip address add {own}/{len} dev {name}")),
        );
    }
    match tunnel.remakes {
        0 => {}
        times => look.warn(
            format!("{name} was made anew {times} times, as somebody had removed it"),
            advise("find out who: ip monitor link"),
        ),
    }
}

pub(super) fn mtu(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let name = &status.underlay.name;
    let Some(link) = facts.link(name) else {
        return Look::unknown(format!("there is no {name}"));
    };
    let mut look = Look::ok(format!("{name} takes {} bytes", link.mtu));
    for tunnel in &status.tunnels {
        let (outer, has) = (tunnel.mtu + tunnel.overhead(), link.mtu);
        if outer > has {
            look.fail(
                format!("outer packets of {} have up to {outer} bytes, and {name} takes {has}: they are cut, or refused", tunnel.device),
                run(format!("ip link set dev {name} mtu {outer}")),
            );
            look.or(advise(format!(
                "or \"Backend\": {{\"MTU\": {has}}} in the network config, and restart the agents"
            )));
        }
    }
    look
}

pub(super) fn port(facts: &Facts) -> Look {
    let port = facts.port();
    let verdict = match facts.agent {
        Ok(_) => CheckVerdict::Warning,
        Err(_) => CheckVerdict::Failure,
    };
    let mut look = Look::ok(format!("UDP {port}"));
    for (name, up) in &facts.host.vxlan {
        let how = match (up, verdict) {
            (true, _) => "has it",
            (false, CheckVerdict::Failure) => {
                "has it as soon as it is up, which keeps an agent from starting"
            }
            (false, _) => "wants it, and cannot come up beside the agent",
        };
        let verdict = if *up {
            CheckVerdict::Failure
        } else {
            CheckVerdict::Warning
        };
        look.add(
            verdict,
            &format!("UDP {port}: the kernel VXLAN device {name} {how}"),
            advise(format!(
                "find out whose it is: ip -d link show {name}; if another network's, such as Cilium's, give one of the two another port (Backend.Port). What flanneld has left may go, by ip link delete {name}: pods whose packets it carries are cut off"
            )),
        );
    }
    for who in &facts.host.sockets {
        look.add(
            verdict,
            &format!("UDP {port}: {who} has a socket on it"),
            advise(format!(
                "find out what it is: ss -lunp sport = :{port}; stop it, or another Backend.Port"
            )),
        );
    }
    look
}

pub(super) fn programs(facts: &Facts) -> Look {
    let found = &facts.host.programs;
    let named: Vec<String> = found
        .iter()
        .map(|(on, name)| format!("{name} on {on}"))
        .collect();
    if found.is_empty() {
        return Look::ok("none");
    }
    let named = super::some(&named);
    let mut look = Look::ok(format!(
        "{named}; there is no fast path for them to hide packets from"
    ));
    if facts.has_fast_path() {
        look.warn(
            format!("{named}: what they accept or redirect the fast path does not see, and the workers carry"),
            advise("fast_receives against receives in `weft status --json` tells how much; -fast-path-hook=clsact puts the programs elsewhere (docs/fast-path.md, living with others)"),
        );
    }
    look
}

pub(super) fn gro(facts: &Facts) -> Look {
    let Some(status) = facts.status() else {
        return Look::unknown(NO_AGENT);
    };
    let name = &status.underlay.name;
    if facts
        .link(name)
        .is_some_and(|link| link.kind.as_deref() == Some("veth"))
    {
        return Look::ok(format!(
            "{name} is a veth, over which super-packets come whole"
        ));
    }
    match facts.host.gro {
        Some(true) => Look::ok(format!("GRO of {name} is on")),
        None => Look::unknown(format!("{name} does not tell")),
        Some(false) => {
            let mut look = Look::ok("");
            look.warn(
                format!("GRO of {name} is off: datagrams are received one by one"),
                run(format!("ethtool -K {name} gro on")),
            );
            look
        }
    }
}
