//! Which part may know of which, held to what the code imports.
//!
//! [`rules`] lists what is allowed, with the reason for each exception. What is compiled for tests
//! only may import what it needs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod circles;
mod manifests;
mod rules;
mod source;

use source::{Arrow, Crate};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// The crates that rules speak of.
fn crates() -> Vec<Crate> {
    let read = |(name, file): &(&str, &str)| source::read(name, &root().join(file));
    rules::CRATES.iter().map(read).collect()
}

/// Fail with all that is wrong, a line each.
fn hold(wrong: impl IntoIterator<Item = String>, rule: &str) {
    let wrong: BTreeSet<String> = wrong.into_iter().collect();
    let lines: Vec<String> = wrong.into_iter().collect();
    assert!(lines.is_empty(), "{rule}:\n  {}", lines.join("\n  "));
}

/// The names of a crate and a module of it, as rules spell them: `weft_control::host::iface`.
fn spelt((krate, module): &(String, Vec<String>)) -> String {
    let parts = std::iter::once(krate.as_str()).chain(module.iter().map(String::as_str));
    parts.collect::<Vec<_>>().join("::")
}

/// Whether a module is `part` or inside of it.
fn is_within(module: &str, part: &str) -> bool {
    let rest = module.strip_prefix(part);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn shown(arrow: &Arrow) -> String {
    let (from, to) = (spelt(&arrow.from), spelt(&arrow.to));
    format!("{from} knows {to} (by {})", arrow.mention)
}

#[test]
fn modules_of_a_crate_know_only_those_that_they_may() {
    let arrows = source::arrows(&crates());
    let allowed = |from: &str, to: &str| {
        let of = |part: &&(&str, &[&str])| is_within(from, part.0);
        let rule = rules::MODULES
            .iter()
            .filter(of)
            .max_by_key(|rule| rule.0.len());
        rule.is_none_or(|(part, others)| {
            let others = others.iter().chain(std::iter::once(part));
            others.into_iter().any(|other| is_within(to, other))
        })
    };
    let mut wrong = Vec::new();
    for arrow in arrows.iter().filter(|arrow| arrow.from.0 == arrow.to.0) {
        let (from, to) = (spelt(&arrow.from), spelt(&arrow.to));
        // The crate's root names its modules, and what it defines itself is everybody's.
        let at_root = arrow.from.1.is_empty() || arrow.to.1.is_empty();
        if !at_root && !allowed(&from, &to) {
            wrong.push(shown(arrow));
        }
    }
    hold(wrong, "arrows that are not in rules::MODULES");
}

#[test]
fn every_module_of_the_libraries_has_a_rule() {
    let mut wrong = Vec::new();
    for krate in crates()
        .iter()
        .filter(|krate| rules::LAYERED.contains(&krate.name.as_str()))
    {
        let top = krate.modules.iter().filter(|module| module.path.len() == 1);
        for module in top {
            let name = spelt(&(krate.name.clone(), module.path.clone()));
            if !rules::MODULES.iter().any(|(part, _)| *part == name) {
                wrong.push(name);
            }
        }
    }
    hold(wrong, "modules without a line in rules::MODULES");
}

#[test]
fn the_page_on_architecture_has_the_same_list() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let spans = |cell: &str| -> BTreeSet<String> {
        let spans = cell.split('`').skip(1).step_by(2);
        spans.map(str::to_owned).collect()
    };
    let row = |line: &str| -> Option<(BTreeSet<String>, BTreeSet<String>)> {
        let cells: Vec<&str> = line.strip_prefix("| ")?.split(" |").collect();
        Some((spans(cells.first()?), spans(cells.get(2)?)))
    };
    let rows: Vec<_> = page.lines().filter_map(row).collect();
    let mut wrong = Vec::new();
    for (part, others) in rules::MODULES {
        let Some((_, name)) = part
            .split_once("::")
            .filter(|(_, name)| !name.contains("::"))
        else {
            continue;
        };
        let short = |other: &&str| other.rsplit("::").next().unwrap_or(other).to_owned();
        let rule: BTreeSet<String> = others.iter().map(short).collect();
        let own: BTreeSet<String> = [name.to_owned()].into();
        if !rows.contains(&(own, rule)) {
            wrong.push(format!("{name}: {others:?}"));
        }
    }
    hold(wrong, "rows that docs/architecture.md lacks");
}

#[test]
fn only_listed_modules_know_another_crate() {
    let arrows = source::arrows(&crates());
    let mut used: BTreeSet<usize> = BTreeSet::new();
    let mut wrong = Vec::new();
    for arrow in arrows.iter().filter(|arrow| arrow.from.0 != arrow.to.0) {
        let (from, to) = (spelt(&arrow.from), spelt(&arrow.to));
        let fits = |rule: &rules::Border| is_within(&from, rule.from) && is_within(&to, rule.to);
        let fitting: Vec<usize> = (0..rules::BORDERS.len())
            .filter(|&index| fits(&rules::BORDERS[index]))
            .collect();
        if fitting.is_empty() {
            wrong.push(shown(arrow));
        }
        used.extend(fitting);
    }
    hold(
        wrong,
        "arrows to another crate that are not in rules::BORDERS",
    );
    let unused = (0..rules::BORDERS.len()).filter(|index| !used.contains(index));
    let unused = unused.map(|index| {
        let rules::Border { from, to, why } = &rules::BORDERS[index];
        format!("{from} knows {to}: {why}")
    });
    hold(unused, "rules::BORDERS that nothing needs");
}

#[test]
fn modules_beside_one_another_form_no_circle() {
    let arrows = source::arrows(&crates());
    let circles = circles::among_siblings(&arrows);
    let is_debt = |circle: &circles::Circle| {
        rules::CIRCLES.iter().any(|(members, _)| {
            let members: BTreeSet<&str> = members.iter().copied().collect();
            circle
                .members
                .iter()
                .map(String::as_str)
                .collect::<BTreeSet<_>>()
                == members
        })
    };
    let wrong = circles.iter().filter(|circle| !is_debt(circle));
    hold(wrong.map(circles::Circle::to_string), "circles");
    let known = circles.iter().filter(|circle| is_debt(circle)).count();
    assert_eq!(
        known,
        rules::CIRCLES.len(),
        "a circle of rules::CIRCLES is gone"
    );
}

#[test]
fn packages_depend_on_those_that_they_may() {
    let manifests = manifests::read(&root());
    let mut wrong = Vec::new();
    for manifest in &manifests {
        let name = &manifest.name;
        let rule = rules::PACKAGES.iter().find(|rule| rule.name == name);
        let Some(rule) = rule else {
            wrong.push(format!("{name} is not in rules::PACKAGES"));
            continue;
        };
        for (found, allowed, kind) in [
            (&manifest.dependencies, rule.needs, "depends on"),
            (&manifest.for_tests, rule.tests_need, "is tested with"),
        ] {
            let own = found.iter().filter(|other| other.starts_with("weft"));
            let unlisted = own.filter(|other| !allowed.contains(&other.as_str()));
            wrong.extend(unlisted.map(|other| format!("{name} {kind} {other}")));
            let banned = found.iter().filter_map(|other| {
                let (_, why) = rules::BANNED.iter().find(|(banned, _)| banned == other)?;
                Some(format!("{name} {kind} {other}: {why}"))
            });
            wrong.extend(banned);
        }
        let never = rule.never.iter().filter(|other| {
            let found = &manifest.dependencies;
            found.iter().any(|found| found == **other)
        });
        wrong.extend(never.map(|other| format!("{name} depends on {other}")));
    }
    let names = manifests.iter().map(|manifest| manifest.name.as_str());
    let names: BTreeSet<&str> = names.collect();
    let gone = rules::PACKAGES
        .iter()
        .filter(|rule| !names.contains(rule.name));
    wrong.extend(gone.map(|rule| format!("{} of rules::PACKAGES is gone", rule.name)));
    hold(wrong, "packages");
}

#[test]
fn unsafe_code_is_where_it_may_be() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files(&root(), "rs") {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let lines = text.lines().map(str::trim_start);
        if !lines
            .clone()
            .any(|line| line.starts_with("#") && line.contains("(unsafe_code"))
        {
            continue;
        }
        seen += 1;
        let is_listed = rules::UNSAFE
            .iter()
            .any(|(place, _)| file.starts_with(place));
        if !is_listed {
            wrong.push(file);
        }
    }
    hold(
        wrong,
        "files that allow unsafe code and are not in rules::UNSAFE",
    );
    assert!(
        seen > 5,
        "only {seen} files allow unsafe code: is it looked for rightly?"
    );
}

#[test]
fn one_name_is_one_type_in_a_crate() {
    let mut wrong = Vec::new();
    let mut unneeded: BTreeSet<(&str, &str)> = rules::SAME_NAME
        .iter()
        .map(|(krate, name, _)| (*krate, *name))
        .collect();
    for krate in crates() {
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for module in &krate.modules {
            for name in &module.types {
                places.entry(name).or_default().push(module.path.join("::"));
            }
        }
        for (name, places) in places.iter().filter(|(_, places)| places.len() > 1) {
            let known = rules::SAME_NAME
                .iter()
                .find(|rule| rule.0 == krate.name && rule.1 == *name);
            match known {
                Some((krate, name, _)) => _ = unneeded.remove(&(*krate, *name)),
                None => wrong.push(format!("{} {name}: {}", krate.name, places.join(", "))),
            }
        }
    }
    hold(wrong, "types of one name that are not in rules::SAME_NAME");
    let unneeded = unneeded
        .iter()
        .map(|(krate, name)| format!("{krate} {name}"));
    hold(
        unneeded,
        "rules::SAME_NAME of which there is one type by now",
    );
}

/// The project's own files that end in `.extension`, from the root on.
fn files(root: &Path, extension: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let file = path.strip_prefix(root).unwrap();
                found.push(file.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}
