//! The glossary against the vocabulary that the dataplane defines.

use crate::markdown::{Page, hold, root, rows, spans};
use std::collections::BTreeSet;
use std::fs;

/// The words in bold under `# Vocabulary` of the dataplane's root.
fn vocabulary() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("dataplane/src/lib.rs")).unwrap();
    let (_, words) = text.split_once("//! # Vocabulary").unwrap();
    let (words, _) = words.split_once("//! # ").unwrap();
    words
        .split("**")
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

/// What the first cells of the glossary's tables name.
fn defined() -> Vec<String> {
    let page = Page::read("docs/glossary.md");
    let cells = rows(&page.text).into_iter().map(|row| row[0].clone());
    cells
        .flat_map(|cell| cell.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[test]
fn the_glossary_has_every_word_of_the_dataplane() {
    let words = vocabulary();
    assert!(words.len() >= 6, "{words:?}");
    let defined = defined();
    let missing = words.iter().filter(|word| !defined.contains(word));
    hold(
        missing.cloned(),
        "words of dataplane/src/lib.rs that docs/glossary.md lacks",
    );
}

#[test]
fn each_word_is_defined_once() {
    let defined = defined();
    let mut seen = BTreeSet::new();
    let twice = defined.iter().filter(|&word| !seen.insert(word));
    hold(twice.cloned(), "words that docs/glossary.md defines twice");
}

#[test]
fn names_of_types_in_the_glossary_exist() {
    let page = Page::read("docs/glossary.md");
    let code = crate::rust::sources(&["control/src", "dataplane/src"]);
    let is_type = |span: &&str| {
        span.starts_with(|c: char| c.is_ascii_uppercase())
            && span.chars().all(char::is_alphanumeric)
    };
    let exists = |name: &str| {
        ["struct", "enum", "trait", "type"].iter().any(|kind| {
            let wanted = format!("{kind} {name}");
            code.iter().any(|(_, text)| {
                text.match_indices(&wanted).any(|(at, _)| {
                    let next = text[at + wanted.len()..].chars().next();
                    next.is_none_or(|c| !c.is_alphanumeric() && c != '_')
                })
            })
        })
    };
    let missing = spans(&page.text)
        .filter(is_type)
        .filter(|name| !exists(name));
    hold(
        missing.map(str::to_owned),
        "types of the glossary that the code lacks",
    );
}
