//! The tables of flags against `weft agent -help` and the parser itself.

use crate::markdown::{Page, hold, rows, spans};
use std::collections::{BTreeMap, BTreeSet};
use weft_control::flags::{self, Command};

/// Flags that are not taken from the environment.
const NOT_FROM_ENVIRONMENT: [&str; 5] = ["help", "version", "remove", "remove-state", "drain"];

/// Defaults that a page says in words, since the command line cannot.
const IN_WORDS: [(&str, &str); 2] = [
    ("public-ip", "the interface's"),
    ("public-ipv6", "the interface's"),
];

/// The flags that do something, with their defaults, as `-help` lists them.
fn working(help: &str) -> BTreeMap<String, String> {
    let (flags, _) = help.split_once("\nflanneld's flags").unwrap();
    let mut found = BTreeMap::new();
    for entry in flags.split("\n  -").skip(1) {
        let (head, help) = entry.split_once('\n').unwrap();
        let (name, kind) = head.split_once(' ').unwrap_or((head, "bool"));
        let default = help.rsplit_once(" (default ").and_then(|(_, rest)| {
            let (default, _) = rest.split_once(')')?;
            Some(default.to_owned())
        });
        let unsaid = if kind == "bool" { "false" } else { "" };
        let default = default.unwrap_or_else(|| unsaid.to_owned());
        found.insert(name.to_owned(), default);
    }
    found
}

/// flanneld's flags that do nothing, or that are not there.
fn idle(help: &str) -> BTreeSet<String> {
    let lines = help
        .lines()
        .filter(|line| line.starts_with("flanneld's flags"));
    let names = lines.flat_map(|line| line.split_once(": ").unwrap().1.split(", "));
    names.map(str::to_owned).collect()
}

fn help() -> String {
    match flags::parse(["-help".to_owned()], |_| None) {
        Ok(Command::Help(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The rows of the tables in "Flags": names, and the cell with their default.
fn documented() -> Vec<(Vec<String>, String)> {
    let section = Page::read("docs/running.md").section("## Flags");
    let row = |row: Vec<String>| {
        let names = spans(&row[0]).map(|name| name.trim_start_matches('-').to_owned());
        (names.collect(), row[1].clone())
    };
    rows(&section).into_iter().map(row).collect()
}

#[test]
fn the_tables_hold_every_flag_and_no_other() {
    let help = help();
    let known: BTreeSet<String> = working(&help).into_keys().chain(idle(&help)).collect();
    let rows = documented();
    let names: Vec<&String> = rows.iter().flat_map(|(names, _)| names).collect();
    let documented: BTreeSet<String> = names.iter().map(|&name| name.clone()).collect();
    assert_eq!(names.len(), documented.len(), "a flag is there twice");
    assert!(known.len() > 40, "{known:?}");
    let missing = known
        .difference(&documented)
        .map(|name| format!("-{name} is missing"));
    let unknown = documented
        .difference(&known)
        .map(|name| format!("-{name} is no flag"));
    hold(missing.chain(unknown), "flags in docs/running.md");
}

#[test]
fn defaults_are_those_of_the_code() {
    let help = help();
    let defaults = working(&help);
    let mut wrong = Vec::new();
    for (names, cell) in documented() {
        for name in names {
            let Some(default) = defaults.get(&name) else {
                continue;
            };
            let in_code: Vec<&str> = spans(&cell).collect();
            let said = match in_code.is_empty() {
                true => cell.clone(),
                false => in_code.join(","),
            };
            let is_action = name == "help" || name == "version";
            let in_words = IN_WORDS.contains(&(&name, &said)) && default.is_empty();
            if said != *default && !in_words && !(is_action && said.is_empty()) {
                wrong.push(format!(
                    "-{name}: {said:?} in the table, {default:?} in the code"
                ));
            }
        }
    }
    hold(wrong, "defaults in docs/running.md");
}

#[test]
fn every_flag_is_taken_from_the_environment_but_those_that_the_page_names() {
    let mut wrong = Vec::new();
    for (name, default) in working(&help()) {
        let variable = format!("FLANNELD_{}", name.replace('-', "_").to_uppercase());
        let value = match (name.as_str(), default.as_str()) {
            (_, "false") => "true",
            ("iface-can-reach" | "public-ip", _) => "192.0.2.1",
            ("public-ipv6", _) => "2001:db8::1",
            ("subnets-file", _) => "/peers.toml",
            ("kube-api-url", _) => "https://10.0.0.1:6443",
            (_, "") => "x",
            (_, default) => default,
        };
        let env = |asked: &str| (asked == variable).then(|| value.to_owned());
        let taken = match flags::parse([], env) {
            Ok(Command::Run { given, .. }) => !given.is_empty(),
            other => panic!("{variable}={value}: {other:?}"),
        };
        if taken == NOT_FROM_ENVIRONMENT.contains(&name.as_str()) {
            wrong.push(format!(
                "{variable} is {}taken",
                if taken { "" } else { "not " }
            ));
        }
    }
    hold(wrong, "variables");
    let page = Page::read("docs/running.md").text;
    let (_, rule) = page.split_once("not so ").unwrap();
    let (rule, _) = rule.split_once('.').unwrap();
    let named: BTreeSet<&str> = spans(rule)
        .map(|name| name.trim_start_matches('-'))
        .collect();
    assert_eq!(named, BTreeSet::from(NOT_FROM_ENVIRONMENT));
}

#[test]
fn flags_that_pages_speak_of_exist() {
    let help = help();
    let known: BTreeSet<String> = working(&help).into_keys().chain(idle(&help)).collect();
    let mut wrong = Vec::new();
    for page in Page::all() {
        for span in spans(&page.text.replace("```", "")) {
            let words = span.split_whitespace();
            let agent = span.starts_with("weft agent ") || span.starts_with('-');
            let flags = words.filter(|word| word.starts_with('-') && !word.starts_with("--"));
            for flag in flags.filter(|_| agent) {
                let name = flag.trim_start_matches('-');
                let name = name.split(['=', '.', ',', '`']).next().unwrap_or_default();
                let is_long =
                    name.len() > 2 && name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
                if is_long && !known.contains(name) && !FOREIGN.contains(&name) {
                    wrong.push(format!("{}: `{span}`: -{name}", page.name));
                }
            }
        }
    }
    hold(wrong, "flags that no agent has");
}

/// Words with a dash that are no flags of the agent: placeholders, and ends of programs' names.
const FOREIGN: [&str; 3] = ["flag", "restore", "save"];
