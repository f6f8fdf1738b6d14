//! What `weft tune` says, for people and for programs.

use super::Outlook;
use serde_json::json;
use weft_control::text::line;
use weft_tuning::{Advice, Change, Done, Facts, Journal, Outcome, State};

/// A value as JSON, on a line.
pub(super) fn json(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// A paragraph of lines: foreign text ends none.
fn lines(lines: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for one in lines {
        text.push_str(&line(&one));
        text.push('\n');
    }
    text
}

pub(super) fn facts(facts: &Facts) -> String {
    let (device, cores, workers) = (&facts.device, &facts.cores, &facts.workers);
    let node = match device.numa_node {
        Some(node) => format!("NUMA node {node} of {}", cores.nodes),
        None => "no NUMA node".to_owned(),
    };
    let pinned = match workers.cpus.is_empty() {
        true => "not pinned".to_owned(),
        false => format!("pinned to {}", workers.cpus),
    };
    let mut all = vec![
        format!(
            "interface   {}: {}, MTU {}, receive queues {}, send queues {}, {node}",
            device.name,
            device.driver.as_deref().unwrap_or("no card"),
            device.mtu,
            device.rx_queues,
            device.tx_queues
        ),
        format!(
            "CPUs        {} online, {} allowed here, {} near the card",
            cores.online, cores.allowed, cores.near
        ),
        format!(
            "workers     queues {}, {pinned}{}",
            workers.queues,
            if workers.running {
                ""
            } else {
                " (no agent runs; one would by default)"
            }
        ),
        format!(
            "backlog     packets dropped {}, budget used up {} times since the kernel started",
            facts.backlog.dropped, facts.backlog.squeezed
        ),
    ];
    for tunnel in &facts.tunnels {
        all.push(format!(
            "tunnel      {}: queue of {} packets",
            tunnel.name, tunnel.length
        ));
    }
    if facts.irqbalance {
        all.push("irqbalance  runs".to_owned());
    }
    for (knob, reading) in &facts.knobs {
        let most = reading
            .most
            .map_or(String::new(), |most| format!(" of {most}"));
        let fixed = if reading.fixed { " (fixed)" } else { "" };
        all.push(format!("{knob}: {}{most}{fixed}", reading.now));
    }
    all.extend(
        facts
            .unreadable
            .iter()
            .map(|reason| format!("cannot be read: {reason}")),
    );
    lines(all)
}

/// Changes that have not been made yet.
fn pending(outlook: &Outlook) -> Vec<&Change> {
    let is_open = |change: &&Change| outlook.facts.now(&change.knob) != Some(&*change.to);
    outlook.plan.changes.iter().filter(is_open).collect()
}

/// What an earlier plan has changed, and this one does not want: the knob, its value, the old one.
fn back(outlook: &Outlook) -> Vec<(String, &str, &str)> {
    let entries = outlook.journal.entries.iter().filter(|entry| {
        let changes = &outlook.plan.changes;
        changes.iter().all(|change| change.knob != entry.knob)
    });
    let back = entries.map(|entry| {
        let now = outlook.facts.now(&entry.knob).unwrap_or("?");
        (entry.knob.to_string(), now, &*entry.old)
    });
    back.collect()
}

pub(super) fn plan(outlook: &Outlook) -> String {
    let (pending, back) = (pending(outlook), back(outlook));
    let mut all = Vec::new();
    for change in &pending {
        let now = outlook.facts.now(&change.knob).unwrap_or(&change.from);
        all.extend([
            format!("{}: {now} -> {}", change.knob, change.to),
            format!("  why       {}", change.reason),
            format!("  effect    {}", change.effect),
            format!("  evidence  {}", change.evidence),
        ]);
    }
    for (knob, now, old) in &back {
        all.push(format!("{knob}: {now} -> {old}"));
        all.push(
            "  why       an earlier plan has changed it, and this one leaves it alone".to_owned(),
        );
    }
    all.push(format!(
        "profile {} for {}: changes to make {}, made already {}",
        outlook.wishes.profile,
        outlook.facts.device.name,
        pending.len() + back.len(),
        outlook.plan.changes.len() - pending.len()
    ));
    all.extend(
        outlook
            .facts
            .unreadable
            .iter()
            .map(|reason| format!("left out: {reason}")),
    );
    lines(all) + &advice(&outlook.plan.advice)
}

pub(super) fn plan_json(outlook: &Outlook) -> serde_json::Result<String> {
    let back: Vec<_> = back(outlook)
        .into_iter()
        .map(|(knob, now, old)| json!({ "knob": knob, "from": now, "to": old }))
        .collect();
    json(&json!({
        "profile": outlook.wishes.profile,
        "device": outlook.facts.device.name,
        "changes": pending(outlook),
        "back": back,
        "made": outlook.plan.changes.len() - pending(outlook).len(),
        "advice": outlook.plan.advice,
        "problems": outlook.plan.problems,
        "unreadable": outlook.facts.unreadable,
    }))
}

pub(super) fn advice(advice: &[Advice]) -> String {
    let advice = advice.iter();
    lines(advice.map(|one| format!("advice ({}): {} ({})", one.about, one.text, one.evidence)))
}

pub(super) fn done(done: &[Done]) -> String {
    let lines_of = done.iter().filter_map(|done| {
        let word = match done.outcome {
            Outcome::Made => "made",
            Outcome::Restored => "restored",
            Outcome::Foreign | Outcome::Gone | Outcome::Refused(_) => return None,
        };
        Some(format!(
            "{word}: {}: {} -> {}",
            done.knob, done.from, done.to
        ))
    });
    let text = lines(lines_of);
    if text.is_empty() {
        "nothing to change\n".to_owned()
    } else {
        text
    }
}

/// What has not been done, and why.
pub(super) fn complaint(done: &Done) -> Option<String> {
    let Done { knob, from, to, .. } = done;
    match &done.outcome {
        Outcome::Made | Outcome::Restored | Outcome::Gone => None,
        Outcome::Foreign => Some(format!(
            "{knob}: left alone: somebody has set it to {from} since; --force restores {to}"
        )),
        Outcome::Refused(reason) => Some(format!("{knob}: left at {from}, not {to}: {reason}")),
    }
}

fn now(state: &State) -> &str {
    state.now.as_deref().unwrap_or("not there")
}

pub(super) fn would_restore(states: &[State], journal: &Journal, force: bool) -> String {
    let pairs = states.iter().zip(&journal.entries).rev();
    lines(pairs.filter_map(|(state, entry)| {
        let found = state.now.as_deref()?;
        let line = format!("{}: {found} -> {}", state.knob, state.old);
        match entry.is_foreign(found) && !force {
            _ if found == state.old => None,
            false => Some(line),
            true => Some(format!(
                "{line}: not without --force, somebody has set it since"
            )),
        }
    }))
}

pub(super) fn states(journal: &Journal, states: &[State]) -> String {
    if states.is_empty() {
        return "nothing has been changed since the kernel started\n".to_owned();
    }
    let head = format!(
        "profile {}: values changed {}",
        journal.profile,
        states.len()
    );
    let each = states.iter().map(|state| {
        let State {
            knob, old, wanted, ..
        } = state;
        match state.has_drifted() {
            false => format!("{knob}: {} (was {old})", now(state)),
            true => format!("{knob}: DRIFT: {}, not {wanted} (was {old})", now(state)),
        }
    });
    lines(std::iter::once(head).chain(each))
}

pub(super) fn states_json(journal: &Journal, states: &[State]) -> serde_json::Result<String> {
    let drifted = states.iter().filter(|state| state.has_drifted()).count();
    json(&json!({
        "profile": (!states.is_empty()).then_some(&journal.profile),
        "knobs": states,
        "drifted": drifted,
    }))
}
