//! The page on `weft bench`, and the commands, against their `--help`.

use crate::markdown::{Page, hold, rows, spans};
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

fn help(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(words)
        .output();
    String::from_utf8(output.unwrap().stdout).unwrap()
}

/// Options with their defaults, as clap lists them.
fn options(help: &str) -> BTreeMap<String, Option<String>> {
    let lines = help.lines().filter_map(|line| {
        let (name, rest) = line.trim_start().strip_prefix("--")?.split_once(' ')?;
        let default = rest.split_once("[default: ").map(|(_, rest)| {
            let (default, _) = rest.split_once(']').unwrap();
            default.to_owned()
        });
        Some((format!("--{name}"), default))
    });
    lines.collect()
}

/// The first words of the lines under `title`.
fn list(help: &str, title: &str) -> BTreeSet<String> {
    let lines = help.lines().skip_while(|line| *line != title).skip(1);
    let lines = lines.take_while(|line| line.starts_with("  "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

/// The spans of the first cells of a section's tables.
fn documented(heading: &str) -> BTreeSet<String> {
    let section = Page::read("docs/bench.md").section(heading);
    let cells = rows(&section).into_iter().map(|row| row[0].clone());
    let names = cells.flat_map(|cell| spans(&cell).map(str::to_owned).collect::<Vec<_>>());
    names.collect()
}

#[test]
fn the_page_has_the_benchs_contestants_and_loads() {
    let help = help(&["bench", "--help"]);
    assert_eq!(documented("## Contestants"), list(&help, "Contestants:"));
    assert_eq!(documented("## Loads"), list(&help, "Loads:"));
}

#[test]
fn the_page_has_the_benchs_flags_with_their_defaults() {
    let text = Page::read("docs/bench.md").text;
    let (intro, _) = text.split_once("\n## ").unwrap();
    let documented = rows(intro).into_iter().map(|row| {
        let name = spans(&row[0]).next().unwrap_or_default().to_owned();
        (name, row[1].trim_matches('`').to_owned())
    });
    let documented: BTreeMap<String, String> = documented.collect();
    let options = options(&help(&["bench", "--help"]));
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        names(documented.keys().collect()),
        names(options.keys().collect())
    );
    let wrong = options.iter().filter_map(|(name, default)| {
        let (said, default) = (&documented[name], default.as_ref()?);
        (said != default).then(|| format!("{name}: {said} in the table, {default} in the code"))
    });
    hold(wrong, "defaults in docs/bench.md");
}

#[test]
fn commands_that_pages_speak_of_exist() {
    let known = list(
        &help(&["help"]).replace("\n\n", "\n"),
        "usage: weft COMMAND [FLAGS]",
    );
    assert!(
        known.contains("agent") && known.contains("leases"),
        "{known:?}"
    );
    let mut wrong = Vec::new();
    for page in Page::all() {
        for span in spans(&page.text.replace("```", "")) {
            let Some(rest) = span.trim().strip_prefix("weft ") else {
                continue;
            };
            let word = rest.split_whitespace().next().unwrap_or_default();
            // `weft 0.1.0 starting with ...` is a line of the log.
            let is_command = word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            if is_command && !known.contains(word) {
                wrong.push(format!("{}: {span}", page.name));
            }
        }
    }
    hold(wrong, "commands that weft does not have");
}
