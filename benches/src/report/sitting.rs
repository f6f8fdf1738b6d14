//! Everything that one `weft bench` measured, and all that one has to know to judge it.

use super::{Comparison, Host, Summary};
use crate::load::rounds::{Run, Sample};
use crate::load::{Figure, Workload};
use weft_lab::{Contestant, Regime};

/// One sitting.
#[derive(Clone, Debug)]
pub struct Sitting {
    /// weft's version.
    pub version: String,
    /// The exact command.
    pub command: String,
    /// When it began, in UTC.
    pub started: String,
    /// The machine.
    pub host: Host,
    /// Rounds asked for.
    pub rounds: usize,
    /// Length of one run in seconds.
    pub seconds: u64,
    /// Runs of all who can run here, over all settings.
    pub planned: usize,
    /// Contestants asked for that cannot run on this machine at all, and why.
    pub absent: Vec<(&'static Contestant, String)>,
    /// What was measured where.
    pub settings: Vec<Setting>,
    /// Why it ended before its time, if it did.
    pub broken_off: Option<String>,
}

/// One underlay and what was measured on it.
#[derive(Clone, Debug)]
pub struct Setting {
    /// MTU of the underlay in bytes.
    pub mtu: u32,
    /// MTU of the pods in bytes, on all paths.
    pub pod_mtu: u32,
    /// Offloads of the underlay.
    pub regime: Regime,
    /// What `ethtool -k` says of a node's underlay device.
    pub features: Vec<(String, String)>,
    /// Contestants and loads that were to meet.
    pub contestants: Vec<&'static Contestant>,
    /// See `contestants`.
    pub workloads: Vec<Workload>,
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What was tried in vain, and why.
    pub failures: Vec<Failure>,
}

/// A run that gave nothing.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Which.
    pub run: Run,
    /// One line.
    pub reason: String,
    /// Whether the contestant took no further part in this setting.
    pub out: bool,
}

/// One contestant under one load.
#[derive(Clone, Debug)]
pub struct Row {
    /// Who.
    pub contestant: &'static Contestant,
    /// In how many rounds.
    pub rounds: usize,
    /// Its figures, in the order of [`Workload::figures`].
    pub cells: Vec<Cell>,
}

/// One figure of one contestant.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// Which figure.
    pub figure: Figure,
    /// Over the rounds.
    pub summary: Option<Summary>,
    /// Against kernel VXLAN, within rounds.
    pub ratio: Option<Summary>,
}

impl Setting {
    /// `MTU 1500, R1: veth as it is, ...`.
    pub fn title(&self) -> String {
        format!("MTU {}, {}", self.mtu, self.regime.describe())
    }

    /// A row for each contestant of whom there is a sample of this load.
    pub fn rows(&self, workload: Workload) -> Vec<Row> {
        let comparison = Comparison::new(&self.samples);
        let rows = self.contestants.iter().map(|&contestant| {
            let cells = workload.figures().iter().map(|&figure| Cell {
                figure,
                summary: comparison.summary(workload, contestant, figure),
                ratio: comparison.ratio(workload, contestant, Contestant::kernel(), figure),
            });
            Row {
                contestant,
                rounds: comparison.rounds(workload, contestant),
                cells: cells.collect(),
            }
        });
        rows.filter(|row| row.rounds > 0).collect()
    }

    /// The main figure's ratio to kernel VXLAN.
    pub fn ratio(&self, workload: Workload, contestant: &'static Contestant) -> Option<Summary> {
        let figure = workload.main_figure();
        let comparison = Comparison::new(&self.samples);
        comparison.ratio(workload, contestant, Contestant::kernel(), figure)
    }

    /// Where the output of iperf3 for a run is kept, below the report's folder.
    pub fn iperf3_file(&self, run: &Run) -> Option<String> {
        let (mtu, regime) = (self.mtu, self.regime.to_string().to_lowercase());
        let (workload, contestant) = (run.workload.key(), run.contestant.key);
        let round = run.round + 1;
        let name = format!("iperf3/{mtu}-{regime}-{workload}-{contestant}-{round}.json");
        run.workload.is_iperf().then_some(name)
    }
}

impl Sitting {
    /// Runs that gave a result.
    pub fn measured(&self) -> usize {
        self.settings.iter().map(|s| s.samples.len()).sum()
    }

    /// Whether every run of those who can run here gave a result.
    pub fn is_complete(&self) -> bool {
        self.broken_off.is_none() && self.measured() == self.planned
    }

    /// All that keeps this from being the whole of what was asked for, a line each.
    pub fn shortcomings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (contestant, reason) in &self.absent {
            lines.push(format!("{} did not run: {reason}", contestant.name));
        }
        for setting in &self.settings {
            let place = format!("MTU {}, {}", setting.mtu, setting.regime);
            for Failure { run, reason, out } in &setting.failures {
                let (who, what) = (run.contestant.name, run.workload.title());
                let round = run.round + 1;
                lines.push(match out {
                    true => format!("{place}: {who} is out from round {round}, {what}: {reason}"),
                    false => format!("{place}: {who}, round {round}, {what}: {reason}"),
                });
            }
        }
        if let Some(reason) = &self.broken_off {
            lines.push(format!("It ended before its time: {reason}"));
        }
        let (measured, planned, rounds) = (self.measured(), self.planned, self.rounds);
        if measured < planned {
            let only = match rounds {
                1 => String::new(),
                _ => format!("; figures of fewer than {rounds} rounds say so"),
            };
            lines.push(format!("{measured} of {planned} runs gave a result{only}"));
        }
        lines
    }
}

/// A sitting for tests of reports: two rounds of three contestants, one of whom failed once.
#[cfg(test)]
pub(super) fn example() -> Sitting {
    use super::comparison::sample;
    let (direct, kernel) = (Contestant::direct(), Contestant::kernel());
    let weft = Contestant::weft();
    let workloads = vec![Workload::Tcp1, Workload::Udp64, Workload::PingPong];
    let mut samples = Vec::new();
    for &workload in &workloads {
        for (contestant, value) in [(direct, 20.0), (kernel, 10.0), (weft, 8.0)] {
            for round in 0..2 {
                samples.push(sample(round, workload, contestant, value + round as f64));
            }
        }
    }
    let lost = samples.pop().map(|s| s.run);
    let failures = lost.map(|run| Failure {
        run,
        reason: "no <reply> & \"nothing\"".to_owned(),
        out: false,
    });
    Sitting {
        version: "0.1.0".to_owned(),
        command: "weft bench --rounds 2".to_owned(),
        started: "2026-01-02 03:04:05 UTC".to_owned(),
        host: Host {
            kernel: "6.18".to_owned(),
            cpu: "A <fast> CPU & more".to_owned(),
            cores: 2,
        },
        rounds: 2,
        seconds: 2,
        planned: 18,
        absent: Contestant::of("flannel-udp")
            .map(|c| (c, "flanneld is not in PATH".to_owned()))
            .into_iter()
            .collect(),
        settings: vec![Setting {
            mtu: 1500,
            pod_mtu: 1450,
            regime: Regime::R1,
            features: vec![("tx-checksumming".to_owned(), "on".to_owned())],
            contestants: vec![direct, kernel, weft],
            workloads,
            samples,
            failures: failures.into_iter().collect(),
        }],
        broken_off: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_know_their_rounds_and_ratios() {
        let sitting = example();
        let setting = &sitting.settings[0];
        let rows = setting.rows(Workload::PingPong);
        let rounds: Vec<_> = rows.iter().map(|row| row.rounds).collect();
        assert_eq!(rounds, [2, 2, 1]);
        assert_eq!(rows[2].cells[0].summary.map(|s| s.median), Some(8.0));
        assert_eq!(rows[2].cells[0].ratio.map(|s| s.median), Some(0.8));
        assert!(setting.rows(Workload::Tcp16).is_empty());
        let ratio = setting.ratio(Workload::Tcp1, Contestant::weft()).unwrap();
        assert!((ratio.min, ratio.max) == (0.8, 9.0 / 11.0));
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut sitting = example();
        sitting.broken_off = Some("interrupted".to_owned());
        let lines = sitting.shortcomings().join("\n");
        for words in [
            "flannel udp did not run: flanneld is not in PATH",
            "MTU 1500, R1: weft, round 2, UDP request/response: no <reply>",
            "ended before its time: interrupted",
            "17 of 18 runs",
        ] {
            assert!(lines.contains(words), "{words}: {lines}");
        }
        sitting.settings[0].failures[0].out = true;
        assert!(
            sitting
                .shortcomings()
                .join("\n")
                .contains("weft is out from round 2")
        );
    }

    #[test]
    fn raw_files_are_named_for_runs_of_iperf3_only() {
        let sitting = example();
        let setting = &sitting.settings[0];
        let file = |i: usize| setting.iperf3_file(&setting.samples[i].run);
        assert_eq!(
            file(1).as_deref(),
            Some("iperf3/1500-r1-tcp1-direct-2.json")
        );
        assert_eq!(file(6), None);
    }
}
