//! Lines of the log that pages tell of against those that the code writes.

pub(crate) mod pattern;
mod unlisted;

use crate::markdown::{Page, hold, rows, spans};
use crate::rust::{Logged, Texts};
use pattern::Pattern;
use unlisted::UNLISTED;

/// Where the agent's texts are. What the dataplane logs, control says for it.
pub(crate) const CODE: [&str; 3] = ["control/src", "dataplane/src", "src"];

/// What the first cells of the log's table show.
fn listed() -> Vec<String> {
    let section = Page::read("docs/log.md").section("## News");
    let cells = rows(&section).into_iter().map(|row| row[0].clone());
    cells
        .flat_map(|cell| spans(&cell).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn every_line_of_the_table_is_one_that_the_code_writes() {
    let texts = Texts::of(&CODE).all;
    let texts: Vec<Pattern> = texts.iter().map(|text| Pattern::of_code(text)).collect();
    let lines = listed();
    assert!(lines.len() > 30, "{}", lines.len());
    let unknown = lines.into_iter().filter(|line| {
        let line = Pattern::of_page(line);
        !texts.iter().any(|text| line.may_be(text))
    });
    hold(unknown, "lines in docs/log.md that nothing writes");
}

#[test]
fn every_symptom_that_is_a_line_is_one_that_the_code_writes() {
    let texts = Texts::of(&CODE).all;
    let texts: Vec<Pattern> = texts.iter().map(|text| Pattern::of_code(text)).collect();
    let mut unknown = Vec::new();
    for row in rows(&Page::read("docs/troubleshooting.md").text) {
        let lines = spans(&row[0]).filter(|span| span.split(' ').count() > 3);
        for line in lines {
            let pattern = Pattern::of_page(line);
            if !texts.iter().any(|text| pattern.may_be(text)) {
                unknown.push(line.to_owned());
            }
        }
    }
    hold(
        unknown,
        "lines in docs/troubleshooting.md that nothing writes",
    );
}

#[test]
fn every_line_that_the_code_logs_is_on_a_page_or_needs_no_entry() {
    let pages = Page::all();
    let shown: Vec<Pattern> = pages
        .iter()
        .flat_map(|page| spans(&page.text))
        .filter(|span| span.contains(' '))
        .map(Pattern::of_page)
        .collect();
    let logged = Texts::of(&CODE).logged;
    assert!(logged.len() > 80, "{}", logged.len());
    let mut needed = vec![false; UNLISTED.len()];
    let mut missing = Vec::new();
    for Logged { text, file, .. } in logged {
        let pattern = Pattern::of_code(&text);
        // What an error or another function says is its text.
        if pattern.own_words() < 2 || shown.iter().any(|line| line.may_be(&pattern)) {
            continue;
        }
        match UNLISTED.iter().position(|line| *line == text) {
            Some(index) => needed[index] = true,
            None => missing.push(format!("{file}: {text}")),
        }
    }
    hold(missing, "log lines on no page and not in UNLISTED");
    let stale = UNLISTED.iter().zip(needed).filter(|(_, needed)| !needed);
    hold(
        stale.map(|(line, _)| (*line).to_owned()),
        "lines of UNLISTED that need no entry there",
    );
}
