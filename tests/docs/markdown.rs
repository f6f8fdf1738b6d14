//! Pages as the tests read them: headings, tables, code spans, links.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// A page of the documentation.
pub(crate) struct Page {
    /// Its path from the root on.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A row of a table, cell by cell.
pub(crate) type Row = Vec<String>;

impl Page {
    pub(crate) fn read(name: &str) -> Page {
        let text = fs::read_to_string(root().join(name));
        Page {
            name: name.to_owned(),
            text: text.unwrap_or_else(|error| panic!("{name}: {error}")),
        }
    }

    /// README, all of `docs/`, and pages beside what they speak of.
    pub(crate) fn all() -> Vec<Page> {
        let mut names = vec!["README.md".to_owned()];
        for folder in ["docs", "docs/decisions"] {
            let entries = fs::read_dir(root().join(folder)).unwrap();
            let files = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let pages = files.filter(|file| file.ends_with(".md"));
            names.extend(pages.map(|file| format!("{folder}/{file}")));
        }
        names.sort();
        names.iter().map(|name| Page::read(name)).collect()
    }

    /// What is under a heading, down to the next one of the same rank.
    pub(crate) fn section(&self, heading: &str) -> String {
        let rank = |line: &str| line.chars().take_while(|&c| c == '#').count();
        let lines = self.text.lines();
        let mut behind = lines.skip_while(|&line| line != heading);
        let own = behind.next();
        assert!(own.is_some(), "{} has no heading {heading:?}", self.name);
        let of_section = |line: &&str| rank(line) == 0 || rank(line) > rank(heading);
        behind
            .take_while(of_section)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    /// What a link may point at in this page: the anchors of its headings.
    pub(crate) fn anchors(&self) -> BTreeSet<String> {
        let mut code = false;
        let mut anchors = BTreeSet::new();
        for line in self.text.lines() {
            code ^= line.starts_with("```");
            if !code && line.starts_with('#') {
                anchors.insert(anchor(line.trim_start_matches('#').trim()));
            }
        }
        anchors
    }

    /// The targets of all links.
    pub(crate) fn links(&self) -> Vec<String> {
        let text = without_code(&self.text);
        let behind = text.split("](").skip(1);
        let targets = behind.filter_map(|rest| rest.split_once(')'));
        targets.map(|(target, _)| target.to_owned()).collect()
    }
}

/// GitHub's anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
    let kept = heading.chars().filter(kept);
    kept.flat_map(char::to_lowercase)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn without_code(text: &str) -> String {
    let mut code = false;
    let lines = text.lines().filter(|line| {
        let fence = line.starts_with("```");
        code ^= fence;
        !code && !fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// The rows of all tables in a text, without their heads.
pub(crate) fn rows(text: &str) -> Vec<Row> {
    let lines: Vec<&str> = text.lines().collect();
    let is_rule = |line: &str| {
        line.starts_with("|") && line.chars().all(|c| "|-: ".contains(c)) && line.contains('-')
    };
    let mut rows = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let is_head = lines.get(at + 1).is_some_and(|next| is_rule(next));
        if line.starts_with('|') && !is_rule(line) && !is_head {
            let cells = line.trim_matches('|').split(" |");
            rows.push(cells.map(|cell| cell.trim().to_owned()).collect());
        }
    }
    rows
}

/// What stands between backticks.
pub(crate) fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Fail with all that is wrong, a line each.
pub(crate) fn hold(wrong: impl IntoIterator<Item = String>, rule: &str) {
    let lines: Vec<String> = wrong.into_iter().collect();
    assert!(lines.is_empty(), "{rule}:\n  {}", lines.join("\n  "));
}
