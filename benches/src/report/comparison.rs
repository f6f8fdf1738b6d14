//! Contestants side by side.

use super::{Summary, Table};
use crate::lab::Path;
use crate::load::cpu::ProcessTimes;
use crate::load::rounds::Sample;
use crate::load::{Measurement, Workload};

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

    fn of(&self, workload: Workload, path: Path) -> impl Iterator<Item = &'a Sample> {
        let samples = self.samples.iter();
        samples.filter(move |s| s.workload == workload && s.path == path)
    }

    /// Median and range of what `figure` reads from each round.
    pub fn summary(
        &self,
        workload: Workload,
        path: Path,
        figure: impl Fn(&Measurement) -> f64,
    ) -> Option<Summary> {
        Summary::of(self.of(workload, path).map(|s| figure(&s.measurement)))
    }

    /// Median over the rounds of one contestant's figure divided by another's in that round.
    pub fn ratio(
        &self,
        workload: Workload,
        path: Path,
        to: Path,
        figure: impl Fn(&Measurement) -> f64,
    ) -> Option<f64> {
        let ratios = self.of(workload, path).filter_map(|sample| {
            let other = self.of(workload, to).find(|o| o.round == sample.round)?;
            Some(figure(&sample.measurement) / figure(&other.measurement))
        });
        Summary::of(ratios.collect::<Vec<_>>()).map(|s| s.median)
    }

    /// The table: a row for each load, a column for each contestant, and weft against the
    /// kernel; then the cost of one TCP stream.
    pub fn table(&self) -> Table {
        let headings = Path::ALL.map(Path::name);
        let mut table = Table::new(
            ["workload"]
                .into_iter()
                .chain(headings)
                .chain(["weft / kernel"]),
        );
        let has = |workload| self.samples.iter().any(|s| s.workload == workload);
        for workload in Workload::ALL.into_iter().filter(|&w| has(w)) {
            let mut row = self.row(workload.name(), workload, |m| m.value);
            row.push(self.ratio_cell(workload, |m| m.value));
            table.row(row);
        }
        let tcp = Workload::Tcp1;
        if has(tcp) {
            // Counts that are often zero make no ratio.
            table.row(self.row("TCP 1, retransmits", tcp, |m| m.retransmits as f64));
            let cost = Measurement::core_seconds_per_gbit;
            let mut row = self.row("TCP 1, core-s per Gbit", tcp, cost);
            row.push(self.ratio_cell(tcp, cost));
            table.row(row);
        }
        table
    }

    /// The name and one figure of every contestant.
    fn row(
        &self,
        name: &str,
        workload: Workload,
        figure: impl Fn(&Measurement) -> f64 + Copy,
    ) -> Vec<String> {
        let cells = Path::ALL.map(|path| {
            let summary = self.summary(workload, path, figure);
            summary.map_or("-".to_owned(), |s| s.to_string())
        });
        std::iter::once(name.to_owned()).chain(cells).collect()
    }

    fn ratio_cell(&self, workload: Workload, figure: impl Fn(&Measurement) -> f64) -> String {
        let ratio = self.ratio(workload, Path::Weft, Path::Kernel, figure);
        let finite = ratio.filter(|r| r.is_finite());
        finite.map_or("-".to_owned(), |r| format!("{r:.2}"))
    }

    /// CPU of weft's agents over all runs in which they carried the traffic.
    pub fn agents(&self) -> ProcessTimes {
        let runs = self.samples.iter().filter(|s| s.path == Path::Weft);
        runs.fold(ProcessTimes::default(), |sum, s| {
            sum.plus(&s.measurement.processes)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(round: usize, path: Path, value: f64) -> Sample {
        Sample {
            round,
            workload: Workload::Tcp1,
            path,
            measurement: Measurement {
                value,
                gbits: 10.0,
                ..Measurement::default()
            },
        }
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        // A machine that is three times slower in the second round.
        let samples = [
            sample(0, Path::Kernel, 12.0),
            sample(0, Path::Weft, 6.0),
            sample(1, Path::Weft, 4.0),
            sample(1, Path::Kernel, 4.0),
            sample(2, Path::Kernel, 12.0),
            sample(2, Path::Weft, 9.0),
        ];
        let comparison = Comparison::new(&samples);
        let ratio = comparison.ratio(Workload::Tcp1, Path::Weft, Path::Kernel, |m| m.value);
        assert_eq!(ratio, Some(0.75));
        let none = comparison.ratio(Workload::Tcp1, Path::Weft, Path::Direct, |m| m.value);
        assert_eq!(none, None);
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let mut samples = Vec::new();
        for workload in Workload::ALL {
            for path in Path::ALL {
                for round in 0..2 {
                    let mut s = sample(round, path, 12_345.6 + round as f64);
                    s.workload = workload;
                    samples.push(s);
                }
            }
        }
        let text = Comparison::new(&samples).table().to_string();
        assert!(text.lines().all(|line| line.len() <= 100), "{text}");
        // Headings, a rule, all loads and two costs.
        assert_eq!(text.lines().count(), 2 + Workload::ALL.len() + 2);
        assert!(text.contains("weft / kernel"));
    }
}
