//! The page on `weft doctor` against its checks, and the symptoms that name them.

use crate::markdown::{Page, hold, rows, spans};
use std::collections::BTreeMap;
use weft_control::doctor::CHECKS;

const PAGE: &str = "docs/doctor.md";

#[test]
fn every_check_is_in_the_table_with_what_it_looks_at() {
    let section = Page::read(PAGE).section("### The checks");
    let documented = rows(&section).into_iter().map(|row| {
        let name = spans(&row[0]).next().unwrap_or_default().to_owned();
        (name, row[1].clone())
    });
    let documented: Vec<(String, String)> = documented.collect();
    let known: Vec<(String, String)> = CHECKS
        .iter()
        .map(|check| (check.id.to_owned(), check.title.to_owned()))
        .collect();
    let missing = known.iter().filter(|check| !documented.contains(check));
    let missing = missing.map(|(id, title)| format!("{id}, {title:?}, is missing"));
    let unknown = documented.iter().filter(|check| !known.contains(check));
    let unknown = unknown.map(|(id, title)| format!("{id}, {title:?}, is not in the code"));
    hold(missing.chain(unknown), PAGE);
    assert_eq!(documented.len(), known.len(), "a check is there twice");
}

#[test]
fn symptoms_name_checks_that_there_are() {
    let page = Page::read("docs/troubleshooting.md");
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in rows(&page.text) {
        let check = row.get(3).map_or("", String::as_str);
        for name in spans(check) {
            match CHECKS.iter().any(|check| check.id == name) {
                true => *seen.entry(name.to_owned()).or_default() += 1,
                false => wrong.push(format!("{}: {name}", row[0])),
            }
        }
    }
    hold(wrong, "checks that weft doctor does not have");
    assert!(seen.len() >= 20, "{seen:?}");
}
