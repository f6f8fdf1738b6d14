//! `docs/kubernetes.md` against the manifests.

use crate::objects::{agent, of_base, only, pod, texts};
use serde_json::Value;
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../docs/kubernetes.md");

/// The first cells of the table that has this head.
fn first_cells(head: &str) -> BTreeSet<String> {
    let (_, table) = PAGE
        .split_once(head)
        .unwrap_or_else(|| panic!("no table {head}"));
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').nth(1).unwrap());
    cells.flat_map(spans).collect()
}

/// What a text has between backquotes.
fn spans(text: &str) -> Vec<String> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

fn owned<'a>(texts: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    texts.into_iter().map(str::to_owned).collect()
}

#[test]
fn the_capabilities_of_the_page_are_those_of_the_manifest() {
    let objects = of_base();
    let added = &agent(pod(&objects))["securityContext"]["capabilities"]["add"];
    assert_eq!(first_cells("| capability | for |"), owned(texts(added)));
}

#[test]
fn what_the_page_says_is_mounted_of_the_node_is() {
    let objects = of_base();
    let volumes = pod(&objects)["volumes"].as_array().unwrap().iter();
    let paths = volumes.filter_map(|volume| volume["hostPath"]["path"].as_str());
    assert_eq!(
        first_cells("| of the node | mounted at | for |"),
        owned(paths)
    );
}

#[test]
fn the_rights_of_the_page_are_those_of_the_manifest() {
    let objects = of_base();
    let rules = only(&objects, "ClusterRole")["rules"].as_array().unwrap();
    let told = |rule: &Value| {
        let verbs = texts(&rule["verbs"]);
        let verbs = match &verbs[..] {
            [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
            all => all.join(""),
        };
        format!("`{}` {verbs}", texts(&rule["resources"]).join(", "))
    };
    for rule in rules {
        assert_eq!(texts(&rule["apiGroups"]), [""]);
        assert!(PAGE.contains(&told(rule)), "{}", told(rule));
    }
}
