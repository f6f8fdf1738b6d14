//! Every pair.

use super::row::{Reached, Row};
use serde::Serialize;
use std::fmt::{self, Display};

/// A node by the name that somebody has for it, and its row or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// The name.
    pub name: String,
    /// What it measured.
    pub row: Result<Row, String>,
}

/// All pairs of some nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    nodes: Vec<Named>,
}

/// How one node reaches another.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// It is the same node.
    Own,
    /// The one has measured nothing, or it is not known who the other is.
    Unknown,
    /// The one does not know the other.
    Stranger,
    /// As measured.
    Measured(&'a Reached),
}

/// A pair, for programs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair<'a> {
    /// Who has asked.
    pub from: &'a str,
    /// Who was asked.
    pub to: &'a str,
    /// Whether the first knows the second.
    pub known: bool,
    /// What came of it.
    pub measured: Option<&'a Reached>,
}

impl Matrix {
    /// Of these nodes.
    pub fn new(nodes: Vec<Named>) -> Matrix {
        Matrix { nodes }
    }

    /// How node `from` reaches node `to`, by their places.
    pub fn cell(&self, from: usize, to: usize) -> Cell<'_> {
        if from == to {
            return Cell::Own;
        }
        let (Ok(row), Ok(other)) = (&self.nodes[from].row, &self.nodes[to].row) else {
            return Cell::Unknown;
        };
        let mut entries = row.peers.iter();
        // Nodes may share an underlay address behind NAT, but no subnet.
        match entries.find(|entry| other.subnets.contains(&entry.subnet)) {
            Some(entry) => Cell::Measured(entry),
            None => Cell::Stranger,
        }
    }

    /// All pairs of two nodes of which something is known.
    pub fn pairs(&self) -> Vec<Pair<'_>> {
        let mut all = Vec::new();
        for (i, from) in self.nodes.iter().enumerate() {
            for (j, to) in self.nodes.iter().enumerate() {
                let measured = match self.cell(i, j) {
                    Cell::Own | Cell::Unknown => continue,
                    Cell::Stranger => None,
                    Cell::Measured(entry) => Some(entry),
                };
                all.push(Pair {
                    from: &from.name,
                    to: &to.name,
                    known: measured.is_some(),
                    measured,
                });
            }
        }
        all
    }

    /// Nodes without a row, and why.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.nodes.iter().filter_map(|node| {
            let reason = node.row.as_ref().err()?;
            Some((node.name.as_str(), reason.as_str()))
        })
    }

    /// What is wrong, a line each.
    pub fn faults(&self) -> Vec<String> {
        let missing = self.missing().map(|(name, why)| format!("{name}: {why}"));
        let pairs = self.pairs();
        let wrong = pairs.iter().filter_map(|pair| {
            let (from, to) = (pair.from, pair.to);
            let Some(entry) = pair.measured else {
                return Some(format!(
                    "{from} -> {to}: {from} does not know {to}: weft leases list"
                ));
            };
            let lost = entry.sent - entry.received.min(entry.sent);
            let why = entry
                .refusal
                .as_ref()
                .map_or(String::new(), |why| format!("; {why}"));
            match (lost, entry.whole) {
                (0, true) => None,
                (0, false) => Some(format!(
                    "{from} -> {to}: packets of full length are lost{why}"
                )),
                (lost, _) => Some(format!(
                    "{from} -> {to}: {lost} of {} lost{why}",
                    entry.sent
                )),
            }
        });
        missing.chain(wrong).collect()
    }
}

impl Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.nodes.len();
        let width = self
            .nodes
            .iter()
            .map(|node| node.name.chars().count())
            .max();
        let width = width.unwrap_or(0);
        writeln!(
            f,
            "median round trip in ms from the node of the line to that of the column"
        )?;
        write!(f, "{:>3} {:<width$}", "", "")?;
        (1..=count).try_for_each(|number| write!(f, " {number:>7}"))?;
        writeln!(f)?;
        for (i, node) in self.nodes.iter().enumerate() {
            write!(f, "{:>3} {:<width$}", i + 1, node.name)?;
            (0..count).try_for_each(|j| write!(f, " {:>7}", self.cell(i, j).to_string()))?;
            writeln!(f)?;
        }
        self.faults()
            .iter()
            .try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entry = match self {
            Cell::Own => return f.write_str("-"),
            Cell::Unknown => return f.write_str("?"),
            Cell::Stranger => return f.write_str("unknown"),
            Cell::Measured(entry) => entry,
        };
        let lost = entry.sent - entry.received.min(entry.sent);
        match (entry.times, lost) {
            (None, _) => f.write_str("LOST"),
            (Some(_), lost) if lost > 0 => write!(f, "{lost}/{} LOST", entry.sent),
            (Some(_), _) if !entry.whole => f.write_str("MTU"),
            (Some(times), _) => write!(f, "{:.2}", times.median_seconds * 1e3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Summary;
    use std::time::Duration;

    fn entry(number: u8, received: u32, whole: bool) -> Reached {
        Reached {
            subnet: format!("10.5.{number}.0/24").parse().unwrap(),
            public: [10, 0, 0, number].into(),
            sent: 3,
            received,
            times: Summary::of(&vec![Duration::from_micros(420); received as usize]),
            whole,
            refusal: None,
        }
    }

    fn named(number: u8, peers: Vec<Reached>) -> Named {
        Named {
            name: format!("node{number}"),
            row: Ok(Row {
                version: 1,
                agent: "/coreos.com/network /run/flannel/subnet.env".to_owned(),
                subnets: vec![format!("10.5.{number}.0/24").parse().unwrap()],
                public: vec![[10, 0, 0, number].into()],
                peers,
            }),
        }
    }

    #[test]
    fn every_pair_has_its_place() {
        let missing = Named {
            name: "four".to_owned(),
            row: Err("ssh: no route to host".to_owned()),
        };
        let mut refused = entry(3, 0, false);
        refused.refusal = Some("10.0.0.3 says that it is prohibited".to_owned());
        let matrix = Matrix::new(vec![
            named(1, vec![entry(2, 3, true), refused]),
            named(2, vec![entry(1, 2, true)]),
            named(3, vec![entry(1, 3, false), entry(2, 3, true)]),
            missing,
        ]);
        let text = matrix.to_string();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(lines[1], ["1", "2", "3", "4"]);
        assert_eq!(lines[2], ["1", "node1", "-", "0.42", "LOST", "?"]);
        assert_eq!(lines[3], ["2", "node2", "1/3", "LOST", "-", "unknown", "?"]);
        assert_eq!(lines[4], ["3", "node3", "MTU", "0.42", "-", "?"]);
        assert_eq!(lines[5], ["4", "four", "?", "?", "?", "-"]);
        assert_eq!(
            matrix.faults(),
            [
                "four: ssh: no route to host",
                "node1 -> node3: 3 of 3 lost; 10.0.0.3 says that it is prohibited",
                "node2 -> node1: 1 of 3 lost",
                "node2 -> node3: node2 does not know node3: weft leases list",
                "node3 -> node1: packets of full length are lost",
            ]
        );
        assert_eq!(matrix.pairs().len(), 6);
    }

    #[test]
    fn nodes_that_all_reach_each_other_have_no_faults() {
        let matrix = Matrix::new(vec![
            named(1, vec![entry(2, 3, true)]),
            named(2, vec![entry(1, 3, true)]),
        ]);
        assert_eq!(matrix.faults(), [""; 0]);
        let text = serde_json::to_string(&matrix.pairs()).unwrap();
        assert!(
            text.contains(r#""from":"node1","to":"node2","known":true"#),
            "{text}"
        );
    }
}
