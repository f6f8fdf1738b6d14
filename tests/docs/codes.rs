//! The codes of messages against the code that says them, and the page that lists them.

use crate::log::CODE;
use crate::log::pattern::Pattern;
use crate::markdown::{Page, hold};
use crate::rust::Texts;
use std::collections::BTreeSet;
use std::process::Command;
use weft_control::codes;

/// Whether a text is spelt as codes are.
fn is_code(text: &str) -> bool {
    let digits = text.strip_prefix('W').unwrap_or_default();
    digits.len() == 4 && digits.chars().all(|c| c.is_ascii_digit())
}

#[test]
fn every_warning_and_every_error_has_a_code() {
    let logged = Texts::of(&CODE).logged.into_iter();
    let urgent: Vec<_> = logged.filter(|line| line.level != "info").collect();
    assert!(urgent.len() > 80, "{}", urgent.len());
    let without = urgent.into_iter().filter(|line| line.code.is_none());
    hold(
        without.map(|line| format!("{}: {}", line.file, line.text)),
        "warnings and errors without a code (control/src/codes)",
    );
}

#[test]
fn every_code_is_said_and_no_other() {
    let said = Texts::of(&CODE)
        .all
        .into_iter()
        .filter(|text| is_code(text));
    let said: BTreeSet<String> = said.collect();
    let known: BTreeSet<String> = codes::all().map(|code| code.id.to_owned()).collect();
    let unknown = said.difference(&known);
    hold(unknown.cloned(), "codes that control/src/codes lacks");
    hold(
        known.difference(&said).cloned(),
        "codes that nothing says: they belong to the retired ones of their topic",
    );
}

#[test]
fn the_lines_of_a_code_are_those_that_are_logged_with_it() {
    let texts = Texts::of(&CODE);
    let all: Vec<Pattern> = texts
        .all
        .iter()
        .map(|text| Pattern::of_code(text))
        .collect();
    let mut wrong = Vec::new();
    for code in codes::all() {
        let lines: Vec<Pattern> = code
            .lines
            .iter()
            .map(|line| Pattern::of_page(line))
            .collect();
        for (line, shown) in lines.iter().zip(code.lines) {
            if !all.iter().any(|text| line.may_be(text)) {
                wrong.push(format!("{}: nothing writes {shown:?}", code.id));
            }
        }
        let with_it = texts.logged.iter();
        for logged in with_it.filter(|logged| logged.code.as_deref() == Some(code.id)) {
            let text = Pattern::of_code(&logged.text);
            if text.own_words() >= 2 && !lines.iter().any(|line| line.may_be(&text)) {
                wrong.push(format!("{}: no line for {:?}", code.id, logged.text));
            }
        }
    }
    hold(wrong, "lines in control/src/codes");
}

#[test]
fn the_page_is_what_weft_explain_writes() {
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["explain", "--markdown"])
        .output()
        .unwrap();
    let written = String::from_utf8(output.stdout).unwrap();
    assert!(
        Page::read("docs/codes.md").text == written,
        "docs/codes.md is outdated: weft explain --markdown > docs/codes.md"
    );
}
