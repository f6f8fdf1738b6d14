//! The tables of counters and drop reasons against the code's own lists.

use crate::markdown::{Page, hold, rows, spans};
use std::collections::BTreeSet;
use weft_dataplane::stats::{Count, DropReason};

fn in_first_cells(page: &str, heading: &str) -> Vec<String> {
    let section = Page::read(page).section(heading);
    let cells = rows(&section).into_iter().map(|row| row[0].clone());
    cells
        .flat_map(|cell| spans(&cell).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

fn compare(page: &str, documented: Vec<String>, known: BTreeSet<String>) {
    let set: BTreeSet<String> = documented.iter().cloned().collect();
    assert_eq!(set.len(), documented.len(), "{page}: a name is there twice");
    let missing = known
        .difference(&set)
        .map(|name| format!("{name} is missing"));
    let unknown = set
        .difference(&known)
        .map(|name| format!("{name} is not in the code"));
    hold(missing.chain(unknown), page);
}

#[test]
fn every_drop_reason_is_explained() {
    let page = "docs/packet.md";
    let known = DropReason::ALL
        .iter()
        .map(|reason| reason.name().to_owned());
    compare(
        page,
        in_first_cells(page, "## Drop reasons"),
        known.collect(),
    );
}

#[test]
fn every_counter_is_explained() {
    let page = "docs/threads-and-memory.md";
    let known = Count::ALL.iter().map(|count| count.name().to_owned());
    compare(page, in_first_cells(page, "## Counters"), known.collect());
}

#[test]
fn drops_that_pages_speak_of_exist() {
    let known: BTreeSet<&str> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in Page::all() {
        for name in spans(&page.text)
            .filter_map(|span| span.strip_prefix("drop_"))
            .filter(|name| !name.is_empty())
        {
            seen += 1;
            if !known.contains(name) {
                wrong.push(format!("{}: drop_{name}", page.name));
            }
        }
    }
    hold(wrong, "drop reasons that are not in the code");
    assert!(seen > 10, "{seen}");
}
