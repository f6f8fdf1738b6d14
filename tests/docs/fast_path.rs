//! The figures of the fast path, which are the programs' own.

use crate::markdown::{Page, hold, root};
use std::collections::BTreeMap;
use std::fs;

/// What headers of the programs define as numbers, by name. Products are of two factors.
fn defined() -> BTreeMap<String, u64> {
    let mut values = BTreeMap::new();
    for file in ["choice.h", "layout.h", "out.h"] {
        let text = fs::read_to_string(root().join("dataplane/bpf").join(file)).unwrap();
        for line in text.lines() {
            let Some((name, value)) = line
                .strip_prefix("#define ")
                .and_then(|rest| rest.split_once(char::is_whitespace))
            else {
                continue;
            };
            let (value, _) = value.split_once("/*").unwrap_or((value, ""));
            let factors = value.trim().trim_matches(['(', ')']).split('*');
            let number = |factor: &str| {
                let factor = factor.trim();
                let digits = factor.trim_end_matches("ull");
                digits.parse().ok().or(values.get(factor).copied())
            };
            let factors: Option<Vec<u64>> = factors.map(number).collect();
            if let Some(factors) = factors {
                values.insert(name.to_owned(), factors.iter().product());
            }
        }
    }
    values
}

/// A number as pages write it: 40,000.
fn grouped(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}

#[test]
fn the_page_has_the_programs_figures() {
    let of = defined();
    let milliseconds = |name: &str| of[name] / of["MILLISECOND"];
    let rate = 1000 * of["MILLISECOND"] / of["PACKET_EVERY"];
    let expected = [
        format!("a pause of more than {} ms", milliseconds("PAUSE")),
        format!("fewer than {} packets a second", grouped(rate)),
        format!("counted over {} ms and longer", milliseconds("COUNTED")),
        format!("at most {} for each that comes back", of["ANSWERED"]),
        format!(
            "from the {}th frame of {} bytes or more within {} ms on",
            of["BULK_PACKETS"],
            of["BULK_LEN"],
            milliseconds("BULK_TIME")
        ),
        format!("less than {} s ago", milliseconds("WHOLE_BELIEVED") / 1000),
        format!("has not looked for {} s", milliseconds("SILENCE") / 1000),
        format!("in {} slots for each direction", grouped(of["FLOWS"])),
        format!(
            "{} and up, by a hash of the inner flow over {} ports",
            of["FIRST_PORT"],
            grouped(of["PORTS"])
        ),
    ];
    let page = Page::read("docs/fast-path.md").text;
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let missing = expected.into_iter().filter(|text| !page.contains(text));
    hold(missing, "figures that docs/fast-path.md lacks");
}

#[test]
fn the_page_on_memory_has_the_sizes_of_maps() {
    let of = defined();
    let page = Page::read("docs/threads-and-memory.md").text;
    let expected = [
        format!("two arrays of {} slots", grouped(of["FLOWS"])),
        format!("come whole: {} slots", grouped(of["WHOLE_PEERS"])),
    ];
    let missing = expected.into_iter().filter(|text| !page.contains(text));
    hold(missing, "sizes that docs/threads-and-memory.md lacks");
}

#[test]
fn every_way_and_every_counter_of_the_choice_is_on_its_page() {
    let page = Page::read("docs/fast-path.md").text;
    let header = fs::read_to_string(root().join("dataplane/bpf/layout.h")).unwrap();
    let left = header.lines().filter_map(|line| {
        let name = line.trim().strip_suffix(',')?;
        name.starts_with("LEFT_").then(|| name.to_lowercase())
    });
    let left: Vec<String> = left.collect();
    assert!(left.len() > 5, "{left:?}");
    let missing = left
        .into_iter()
        .filter(|name| !page.contains(&format!("`{name}`")));
    hold(missing, "counters that docs/fast-path.md lacks");
}
