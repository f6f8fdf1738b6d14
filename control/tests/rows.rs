//! Holds the table of acceptance rows in the documents against the tests there are.
//! `scripts/acceptance-rows.sh` writes it anew.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The first and the last cell of the rows behind the heading `## Acceptance rows`.
fn rows() -> Vec<(String, String)> {
    let page = root().join("docs/flannel-compatibility.md");
    let text = fs::read_to_string(page).unwrap();
    let (_, table) = text.split_once("\n## Acceptance rows\n").unwrap();
    let cells = |line: &str| -> Option<(String, String)> {
        let cells = line.strip_prefix("| ")?.strip_suffix(" |")?;
        let (first, _) = cells.split_once(" | ")?;
        let (_, last) = cells.rsplit_once(" | ")?;
        Some((first.to_owned(), last.to_owned()))
    };
    table.lines().filter_map(cells).skip(1).collect()
}

/// The words between backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_table_names_exists() {
    let mut checked = 0;
    for (row, cell) in rows() {
        let mut file = (String::new(), String::new());
        for name in names(&cell) {
            if name.contains('/') {
                let text = fs::read_to_string(root().join(name));
                let text = text.unwrap_or_else(|error| panic!("{row}: {name}: {error}"));
                file = (name.to_owned(), text);
                continue;
            }
            let there = file.1.contains(&format!("fn {name}("));
            assert!(
                there,
                "{row}: no test {name} in {:?}; scripts/acceptance-rows.sh?",
                file.0
            );
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} tests are named");
}

#[test]
fn every_row_has_tests_or_a_reason() {
    let rows = rows();
    let ids: BTreeSet<&str> = rows.iter().map(|(row, _)| row.as_str()).collect();
    let numbered = |letter: &str, last: u32| -> Vec<String> {
        (1..=last).map(|n| format!("{letter}{n}")).collect()
    };
    let mut wanted = [numbered("U", 27), numbered("M", 5), numbered("C", 7)].concat();
    wanted.extend(
        [
            "F1", "F2", "F3", "F8", "F9", "E1", "E4", "E6", "E12", "E15", "E17", "E18",
        ]
        .map(str::to_owned),
    );
    let stories = [
        "TLS",
        "auth",
        "race",
        "expiry",
        "outage",
        "reservations",
        "DirectRouting",
        "MTU",
        "options",
        "IPv6",
        "MAC",
        "public IP",
        "stale state",
        "mixed",
        "throughput",
        "signals",
        "health",
    ];
    wanted.extend(stories.map(|story| format!("8.5 {story}")));
    for id in wanted {
        assert!(ids.contains(id.as_str()), "{id} is not in the table");
    }
    for (row, cell) in &rows {
        // Speed is measured, not tested.
        let without = row == "8.5 throughput";
        let named = names(cell).count() > 1;
        assert_eq!(named, !without, "{row}: {cell}");
    }
}
