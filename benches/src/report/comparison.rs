//! Contestants side by side.

use super::{Summary, Table};
use crate::load::cpu::ProcessTimes;
use crate::load::rounds::Sample;
use crate::load::{Figure, Workload, figure};
use weft_lab::{CONTESTANTS, Contestant, Path};

/// The samples of one sitting, in one regime.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    samples: &'a [Sample],
}

impl<'a> Comparison<'a> {
    /// Of these samples.
    pub fn new(samples: &'a [Sample]) -> Comparison<'a> {
        Comparison { samples }
    }

    fn of(
        &self,
        workload: Workload,
        contestant: &'a Contestant,
    ) -> impl Iterator<Item = &'a Sample> {
        let samples = self.samples.iter();
        samples.filter(move |s| s.run.workload == workload && s.run.contestant == contestant)
    }

    /// In how many rounds this load met this contestant.
    pub fn rounds(&self, workload: Workload, contestant: &'static Contestant) -> usize {
        self.of(workload, contestant).count()
    }

    /// Median and range of one figure.
    pub fn summary(
        &self,
        workload: Workload,
        contestant: &'static Contestant,
        figure: Figure,
    ) -> Option<Summary> {
        let samples = self.of(workload, contestant);
        Summary::of(samples.map(|s| (figure.of)(&s.measurement)))
    }

    /// One contestant's figure divided by another's in the same round: median and range over
    /// the rounds that have both.
    pub fn ratio(
        &self,
        workload: Workload,
        contestant: &'static Contestant,
        to: &'static Contestant,
        figure: Figure,
    ) -> Option<Summary> {
        let ratios = self.of(workload, contestant).filter_map(|sample| {
            let mut others = self.of(workload, to);
            let other = others.find(|other| other.run.round == sample.run.round)?;
            let ratio = (figure.of)(&sample.measurement) / (figure.of)(&other.measurement);
            ratio.is_finite().then_some(ratio)
        });
        Summary::of(ratios)
    }

    /// Loads of which there is something, in the order of reports.
    pub fn workloads(&self) -> Vec<Workload> {
        let has = |workload| self.samples.iter().any(|s| s.run.workload == workload);
        Workload::ALL.into_iter().filter(|&w| has(w)).collect()
    }

    /// Contestants of which there is something, in the order of reports.
    pub fn contestants(&self) -> Vec<&'static Contestant> {
        let has = |contestant| self.samples.iter().any(|s| s.run.contestant == contestant);
        CONTESTANTS.iter().filter(|&c| has(c)).collect()
    }

    /// The short table: a row for each load, a column for each contestant, and weft against
    /// the kernel; then the cost of one TCP stream.
    pub fn table(&self) -> Table {
        let names = self.contestants().into_iter().map(|c| c.name);
        let headings = std::iter::once("workload").chain(names);
        let mut table = Table::new(headings.chain(["weft / kernel"]));
        for workload in self.workloads() {
            let (name, figure) = workload.short();
            self.row(&mut table, name, workload, figure, true);
        }
        let tcp = Workload::Tcp1;
        if self.workloads().contains(&tcp) {
            // Counts that are often zero make no ratio.
            let name = "TCP 1, retransmits".to_owned();
            self.row(&mut table, name, tcp, figure::RETRANSMITS, false);
            let name = "TCP 1, core-s per Gbit".to_owned();
            self.row(&mut table, name, tcp, figure::PER_GBIT, true);
        }
        table
    }

    fn row(
        &self,
        table: &mut Table,
        name: String,
        workload: Workload,
        figure: Figure,
        with_ratio: bool,
    ) {
        let cell = |summary: Option<Summary>| summary.map_or("-".to_owned(), |s| s.to_string());
        let contestants = self.contestants().into_iter();
        let cells = contestants.map(|c| cell(self.summary(workload, c, figure)));
        let mut row: Vec<_> = std::iter::once(name).chain(cells).collect();
        if with_ratio {
            let (weft, kernel) = (Contestant::weft(), Contestant::kernel());
            let ratio = self.ratio(workload, weft, kernel, figure);
            row.push(ratio.map_or("-".to_owned(), |r| format!("{:.2}", r.median)));
        }
        table.row(row);
    }

    /// CPU of weft's agents over all runs in which they carried the traffic.
    pub fn agents(&self) -> ProcessTimes {
        let weft = |sample: &&Sample| sample.run.contestant.path == Path::Weft;
        let times = |sample: &Sample| sample.measurement.processes;
        let runs = self.samples.iter().filter(weft).map(times);
        runs.fold(ProcessTimes::default(), |sum, times| sum.plus(&times))
    }
}

/// A sample for tests of reports, whose figures all follow from `value`.
#[cfg(test)]
pub(super) fn sample(
    round: usize,
    workload: Workload,
    contestant: &'static Contestant,
    value: f64,
) -> Sample {
    use crate::load::Measurement;
    use crate::load::cpu::CpuTimes;
    use crate::load::pingpong::RoundTrip;
    let run = crate::load::rounds::Run {
        round,
        workload,
        contestant,
    };
    let measurement = Measurement {
        gbits_per_second: value,
        gbits: 10.0,
        count: (value * 2e3) as u64,
        offered: (value * 2e3) as u64,
        seconds: 2.0,
        round_trip: Some(RoundTrip {
            median_us: value,
            p99_us: value * 2.0,
            p999_us: value * 3.0,
        }),
        cpu: CpuTimes {
            system: 2.0,
            ..CpuTimes::default()
        },
        iperf3: workload.is_iperf().then(|| "{}".to_owned()),
        ..Measurement::default()
    };
    Sample { run, measurement }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_rounds() {
        let (kernel, weft) = (Contestant::kernel(), Contestant::weft());
        // A machine that is three times slower in the second round.
        let samples = [
            sample(0, Workload::Tcp1, kernel, 12.0),
            sample(0, Workload::Tcp1, weft, 6.0),
            sample(1, Workload::Tcp1, weft, 4.0),
            sample(1, Workload::Tcp1, kernel, 4.0),
            sample(2, Workload::Tcp1, kernel, 12.0),
            sample(2, Workload::Tcp1, weft, 9.0),
        ];
        let comparison = Comparison::new(&samples);
        let figure = Workload::Tcp1.main_figure();
        let ratio = |to| comparison.ratio(Workload::Tcp1, weft, to, figure);
        let found = ratio(kernel).unwrap();
        assert_eq!((found.median, found.min, found.max), (0.75, 0.5, 1.0));
        assert_eq!(ratio(Contestant::direct()), None);
        assert_eq!(comparison.rounds(Workload::Tcp1, weft), 3);
        assert_eq!(comparison.rounds(Workload::Tcp4, weft), 0);
        // Two counts of zero make no ratio.
        let none = comparison.ratio(Workload::Tcp1, weft, kernel, figure::RETRANSMITS);
        assert_eq!(none, None);
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let mut samples = Vec::new();
        for workload in Workload::FEW {
            for contestant in [
                Contestant::direct(),
                Contestant::kernel(),
                Contestant::weft(),
            ] {
                for round in 0..2 {
                    let value = 12_345.6 + round as f64;
                    samples.push(sample(round, workload, contestant, value));
                }
            }
        }
        let text = Comparison::new(&samples).table().to_string();
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        // Headings, a rule, all loads and two costs.
        assert_eq!(text.lines().count(), 2 + Workload::FEW.len() + 2);
        assert!(text.contains("weft / kernel"));
    }
}
