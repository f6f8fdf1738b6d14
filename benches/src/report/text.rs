//! A sitting for the terminal.

use super::sitting::{Row, Setting, Sitting};
use super::{Summary, Table};
use crate::load::Workload;
use std::fmt::Write;

/// What stands where there is no figure.
const NONE: &str = "-";

/// A table for each load of a setting: medians, ranges, and ratios to kernel VXLAN.
pub fn setting(setting: &Setting, rounds: usize) -> String {
    let mut text = format!("\n{}\n", setting.title());
    for &workload in &setting.workloads {
        let rows = setting.rows(workload);
        if !rows.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\n{}", table(workload, &rows, rounds));
        }
    }
    text
}

fn table(workload: Workload, rows: &[Row], rounds: usize) -> Table {
    let main = workload.main_figure().unit;
    let others = workload.figures()[1..].iter().map(|figure| figure.unit);
    let headings = [workload.title(), main, "/ kernel"]
        .into_iter()
        .chain(others);
    let mut table = Table::new(headings);
    for row in rows {
        let mut name = row.contestant.name.to_owned();
        if row.rounds < rounds {
            name += &format!(" ({} of {rounds} rounds)", row.rounds);
        }
        let cell = |summary: Option<Summary>| summary.map_or(NONE.to_owned(), |s| s.to_string());
        let mut cells = row.cells.iter();
        let first = cells.next();
        let mut words = vec![
            name,
            cell(first.and_then(|c| c.summary)),
            first.and_then(|c| c.ratio).map_or(NONE.to_owned(), ratio),
        ];
        words.extend(cells.map(|c| cell(c.summary)));
        table.row(words);
    }
    table
}

/// `0.59 [0.55-0.61]`.
fn ratio(ratio: Summary) -> String {
    let Summary { median, min, max } = ratio;
    match min == max {
        true => format!("{median:.2}"),
        false => format!("{median:.2} [{min:.2}-{max:.2}]"),
    }
}

/// What is missing, a line each; nothing if nothing is.
pub fn shortcomings(sitting: &Sitting) -> String {
    let lines = sitting.shortcomings().into_iter();
    lines.map(|line| format!("note: {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::sitting::example;
    use super::*;

    #[test]
    fn tables_have_ratios_and_say_what_is_missing() {
        let sitting = example();
        let text = setting(&sitting.settings[0], sitting.rounds);
        assert!(text.starts_with("\nMTU 1500, R1: veth"), "{text}");
        let line = |words: &str| text.lines().find(|line| line.starts_with(words));
        let weft = line("weft ").unwrap();
        assert!(weft.contains("8.50 [8.00-9.00]"), "{weft}");
        assert!(weft.contains("0.81 [0.80-0.82]"), "{weft}");
        assert!(line("weft (1 of 2 rounds)").is_some(), "{text}");
        assert_eq!(text.matches("kernel VXLAN").count(), 3);
        assert!(text.lines().all(|line| line.len() <= 120), "{text}");
        assert!(shortcomings(&sitting).starts_with("note: flannel udp did not run"));
    }
}
