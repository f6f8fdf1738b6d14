//! The page on `weft tune` against its kinds of knobs and its flags.

use crate::markdown::{Page, hold, rows, spans};
use std::process::Command;
use weft_tuning::{Kind, Profile};

#[test]
fn the_page_has_every_knob_with_its_evidence() {
    let rows = rows(&Page::read("docs/tuning.md").section("## Knobs"));
    let found: Vec<[String; 4]> = rows
        .iter()
        .map(|row| {
            let name = spans(&row[0]).next().unwrap_or_default().to_owned();
            let at = |back: usize| row[row.len() - back].clone();
            [name, at(3), at(2), at(1).replace('`', "")]
        })
        .collect();
    let listed = Kind::ALL.map(|kind| {
        let said = [kind.name(), kind.why(), kind.effect()].map(str::to_owned);
        let [name, why, effect] = said;
        [name, why, effect, kind.evidence().to_string()]
    });
    let missing = listed.iter().filter(|entry| !found.contains(entry));
    hold(
        missing.map(|entry| entry.join(" | ")),
        "rows that docs/tuning.md lacks",
    );
    assert_eq!(
        found.len(),
        listed.len(),
        "rows of knobs that there are not"
    );
}

#[test]
fn the_page_has_every_flag_and_profile() {
    let page = Page::read("docs/tuning.md");
    let known: Vec<&str> = spans(&page.text).collect();
    let mut wrong = Vec::new();
    for action in ["inspect", "plan", "apply", "rollback", "status"] {
        let output = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(["tune", action, "--help"])
            .output();
        let help = String::from_utf8(output.unwrap().stdout).unwrap();
        let flags = help
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--"));
        let flags: Vec<&str> = flags
            .filter_map(|line| line.split([' ', ',']).next())
            .collect();
        assert!(flags.contains(&"json"), "{help}");
        for flag in flags {
            let flag = format!("--{flag}");
            if !known
                .iter()
                .any(|span| span.split(' ').next() == Some(&flag))
            {
                wrong.push(format!("{action} {flag}"));
            }
        }
    }
    let profiles = Profile::ALL.map(Profile::name).into_iter();
    wrong.extend(
        profiles
            .filter(|name| !known.contains(name))
            .map(str::to_owned),
    );
    hold(wrong, "flags and profiles that docs/tuning.md lacks");
}

#[test]
fn the_page_says_of_each_status_what_the_help_says() {
    let page = Page::read("docs/tuning.md");
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["tune", "--help"])
        .output();
    let help = String::from_utf8(output.unwrap().stdout).unwrap();
    let (_, ends) = help.split_once("Ends with:\n").unwrap();
    let statuses: Vec<_> = ends
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .map(|(status, when)| format!("| {status} | {when} |"))
        .collect();
    assert_eq!(statuses.len(), 4, "{help}");
    let lacks = |row: &String| !page.text.contains(row);
    hold(
        statuses.into_iter().filter(lacks),
        "statuses that docs/tuning.md does not have in these words",
    );
}
