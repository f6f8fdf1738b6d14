//! A sitting as JSON: every sample, and what follows from them.

use super::Summary;
use super::sitting::{Failure, Setting, Sitting};
use crate::load::Workload;
use crate::load::rounds::Sample;
use serde_json::{Map, Value, json};
use weft_lab::Contestant;

/// Grows when the meaning of a field changes.
const FORMAT: u32 = 1;

/// The whole sitting.
pub fn render(sitting: &Sitting) -> String {
    let absent = sitting.absent.iter();
    let absent = absent.map(|(c, reason)| json!({"contestant": c.key, "reason": reason}));
    let value = json!({
        "format": FORMAT,
        "weft": sitting.version,
        "command": sitting.command,
        "started": sitting.started,
        "machine": {
            "kernel": sitting.host.kernel,
            "cpu": sitting.host.cpu,
            "cores": sitting.host.cores,
        },
        "rounds": sitting.rounds,
        "seconds": sitting.seconds,
        "runs_planned": sitting.planned,
        "runs_measured": sitting.measured(),
        "complete": sitting.is_complete(),
        "broken_off": sitting.broken_off,
        "absent": absent.collect::<Vec<_>>(),
        "contestants": contestants(sitting),
        "workloads": workloads(sitting),
        "settings": sitting.settings.iter().map(|s| setting(s, sitting.rounds)).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn contestants(sitting: &Sitting) -> Value {
    let all = weft_lab::CONTESTANTS.iter();
    let part = |c: &&Contestant| sitting.settings.iter().any(|s| s.contestants.contains(c));
    let part = all.filter(|&c| part(&c));
    let entry = |c: &Contestant| json!({"name": c.name, "about": c.about, "flags": c.flags});
    part.map(|c| (c.key.to_owned(), entry(c)))
        .collect::<Map<_, _>>()
        .into()
}

fn workloads(sitting: &Sitting) -> Value {
    let part = |w: &Workload| sitting.settings.iter().any(|s| s.workloads.contains(w));
    let part = Workload::ALL.into_iter().filter(part);
    let entry = |w: Workload| {
        let main = w.main_figure();
        json!({
            "title": w.title(),
            "about": w.about(),
            "main_figure": main.key,
            "unit": main.unit,
            "lower_is_better": main.lower_is_better,
        })
    };
    part.map(|w| (w.key().to_owned(), entry(w)))
        .collect::<Map<_, _>>()
        .into()
}

fn setting(setting: &Setting, rounds: usize) -> Value {
    let features = setting.features.iter();
    let features = features.map(|(name, state)| (name.clone(), Value::from(state.clone())));
    let results = setting
        .workloads
        .iter()
        .flat_map(|&w| results(setting, w, rounds));
    json!({
        "underlay_mtu": setting.mtu,
        "pod_mtu": setting.pod_mtu,
        "regime": setting.regime.to_string(),
        "underlay": setting.regime.describe(),
        "ethtool": features.collect::<Map<_, _>>(),
        "results": results.collect::<Vec<_>>(),
        "samples": setting.samples.iter().map(|s| sample(setting, s)).collect::<Vec<_>>(),
        "failures": setting.failures.iter().map(failure).collect::<Vec<_>>(),
    })
}

/// Medians and ranges, an entry for each contestant.
fn results(setting: &Setting, workload: Workload, asked: usize) -> Vec<Value> {
    let rows = setting.rows(workload).into_iter().map(|row| {
        let figures = row.cells.iter().filter_map(|cell| {
            let mut entry = range(cell.summary?);
            entry["unit"] = cell.figure.unit.into();
            entry["lower_is_better"] = cell.figure.lower_is_better.into();
            entry["to_kernel"] = cell.ratio.map_or(Value::Null, range);
            Some((cell.figure.key.to_owned(), entry))
        });
        json!({
            "workload": workload.key(),
            "contestant": row.contestant.key,
            "rounds": row.rounds,
            "rounds_asked": asked,
            "figures": figures.collect::<Map<_, _>>(),
        })
    });
    rows.collect()
}

fn range(summary: Summary) -> Value {
    let Summary { median, min, max } = summary;
    json!({"median": median, "min": min, "max": max})
}

fn sample(setting: &Setting, sample: &Sample) -> Value {
    let Sample { run, measurement } = sample;
    let figures = run.workload.figures().iter();
    let figures = figures.map(|f| (f.key.to_owned(), Value::from((f.of)(measurement))));
    let (cpu, agents) = (&measurement.cpu, &measurement.processes);
    json!({
        "workload": run.workload.key(),
        "contestant": run.contestant.key,
        "round": run.round + 1,
        "figures": figures.collect::<Map<_, _>>(),
        "seconds": measurement.seconds,
        "gbits": measurement.gbits,
        "count": measurement.count,
        "offered": measurement.offered,
        "retransmits": measurement.retransmits,
        "machine_core_seconds": {
            "user": cpu.user,
            "system": cpu.system,
            "softirq": cpu.softirq,
            "idle": cpu.idle,
        },
        "agents_core_seconds": {"user": agents.user, "system": agents.system},
        "iperf3": setting.iperf3_file(run),
    })
}

fn failure(failure: &Failure) -> Value {
    let Failure { run, reason, out } = failure;
    json!({
        "workload": run.workload.key(),
        "contestant": run.contestant.key,
        "round": run.round + 1,
        "reason": reason,
        "contestant_is_out": out,
    })
}

#[cfg(test)]
mod tests {
    use super::super::sitting::example;
    use super::*;

    #[test]
    fn samples_results_and_gaps_are_there() {
        let value: Value = serde_json::from_str(&render(&example())).unwrap();
        assert_eq!(value["complete"], false);
        assert_eq!(value["runs_planned"], 18);
        assert_eq!(value["runs_measured"], 17);
        assert_eq!(value["absent"][0]["contestant"], "flannel-udp");
        let setting = &value["settings"][0];
        assert_eq!(setting["samples"].as_array().map(Vec::len), Some(17));
        assert_eq!(
            setting["samples"][1]["iperf3"],
            "iperf3/1500-r1-tcp1-direct-2.json"
        );
        assert_eq!(setting["samples"][1]["figures"]["gbits_per_second"], 21.0);
        assert_eq!(setting["failures"][0]["reason"], "no <reply> & \"nothing\"");
        let results = setting["results"].as_array().unwrap();
        let last = &results[8];
        assert_eq!(
            (&last["workload"], &last["contestant"]),
            (&"latency".into(), &"weft".into())
        );
        assert_eq!(
            (&last["rounds"], &last["rounds_asked"]),
            (&1.into(), &2.into())
        );
        assert_eq!(last["figures"]["median_us"]["to_kernel"]["median"], 0.8);
        assert_eq!(value["workloads"]["latency"]["lower_is_better"], true);
    }
}
