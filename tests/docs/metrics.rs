//! The page on metrics against what is served, and against the alerts.

use crate::markdown::{Page, hold, root, rows, spans};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use weft_control::metrics;
use weft_dataplane::stats::Count;

const PAGE: &str = "docs/metrics.md";

/// All families, but those of the workers' counters.
fn known() -> BTreeSet<String> {
    let text = metrics::families();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = types.filter_map(|line| line.split(' ').next());
    let counters: BTreeSet<String> = Count::ALL
        .iter()
        .map(|count| format!("weft_{}_total", count.name()))
        .collect();
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    assert!(names.is_superset(&counters));
    names.difference(&counters).cloned().collect()
}

/// The names in the first cells of a section's tables.
fn first_cells(heading: &str, prefix: &str) -> Vec<String> {
    let section = Page::read(PAGE).section(heading);
    let cells = rows(&section).into_iter().map(|row| row[0].clone());
    let names = cells.flat_map(|cell| spans(&cell).map(str::to_owned).collect::<Vec<_>>());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn compare(documented: Vec<String>, known: &BTreeSet<String>) {
    let set: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(set.len(), documented.len(), "a name is there twice");
    let missing = known
        .difference(&set)
        .map(|name| format!("{name} is missing"));
    let unknown = set
        .difference(known)
        .map(|name| format!("{name} is not in the code"));
    hold(missing.chain(unknown), PAGE);
}

#[test]
fn every_metric_is_explained() {
    compare(first_cells("## The metrics", "weft_"), &known());
}

/// The alerts by name, with their expressions.
fn alerts() -> BTreeMap<String, String> {
    let text = fs::read_to_string(root().join("deploy/grafana/weft.rules.yml")).unwrap();
    let mut alerts = BTreeMap::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim) {
        if let Some(alert) = line.strip_prefix("- alert: ") {
            name = alert.to_owned();
        }
        if let Some(expression) = line.strip_prefix("expr: ") {
            alerts.insert(name.clone(), expression.to_owned());
        }
    }
    alerts
}

#[test]
fn every_alert_is_explained() {
    let known: BTreeSet<String> = alerts().into_keys().collect();
    assert!(known.len() >= 6, "{known:?}");
    compare(first_cells("## Alerts and a dashboard", "Weft"), &known);
}

#[test]
fn metrics_that_the_page_the_alerts_and_the_dashboard_speak_of_exist() {
    let served = metrics::families();
    let read = |name: &str| fs::read_to_string(root().join("deploy/grafana").join(name)).unwrap();
    let alerts: Vec<String> = alerts().into_values().collect();
    let mut wrong = BTreeSet::new();
    let mut seen = 0;
    for (place, text) in [
        (PAGE, Page::read(PAGE).text),
        ("dashboard.json", read("dashboard.json")),
        ("weft.rules.yml", alerts.join("\n")),
    ] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = words.filter(|word| word.starts_with("weft_") && *word != "weft_");
        for name in names {
            seen += 1;
            // A histogram's samples have endings of their own.
            let family = name.trim_end_matches("_bucket");
            if !served.contains(&format!("# TYPE {family} ")) {
                wrong.insert(format!("{place}: {name}"));
            }
        }
    }
    hold(wrong, "metrics that are not served");
    assert!(seen > 60, "{seen}");
}
