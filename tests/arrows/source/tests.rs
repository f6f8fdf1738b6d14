use super::*;
use tempfile::TempDir;

/// The arrows of a crate `one` with these files, each as `from -> to`.
fn arrows_of(files: &[(&str, &str)]) -> Vec<String> {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let crates = [
        read("one", &dir.path().join("lib.rs")),
        Crate {
            name: "other".to_owned(),
            modules: vec![Module::default()],
        },
    ];
    let spelt = |(krate, path): &(String, Segments)| match path.is_empty() {
        true => krate.clone(),
        false => path.join("::"),
    };
    let arrows = arrows(&crates);
    let mut shown: Vec<String> = arrows
        .iter()
        .map(|arrow| format!("{} -> {}", spelt(&arrow.from), spelt(&arrow.to)))
        .collect();
    shown.dedup();
    shown
}

const ROOT: (&str, &str) = ("lib.rs", "mod a; mod b;");
const B: (&str, &str) = ("b/mod.rs", "pub struct Thing; pub mod inner;");
const INNER: (&str, &str) = ("b/inner.rs", "pub fn work() {} pub struct Deep;");

#[test]
fn every_way_to_name_a_module_is_an_arrow() {
    for text in [
        "use crate::b::Thing;",
        "use crate::{b::Thing as Renamed};",
        "use super::b::*;",
        "use crate::b::{self};",
        "fn f() { let _ = crate::b::Thing; }",
        "fn f(_: &crate::b::Thing) {}",
        "impl Iterator for crate::b::Thing {}",
        "fn f() { println!(\"{}\", crate::b::NAME); }",
        "fn f() { use super::b::Thing; }",
        "mod own { use super::super::b::Thing; }",
    ] {
        let arrows = arrows_of(&[ROOT, B, INNER, ("a.rs", text)]);
        assert!(!arrows.is_empty(), "{text}");
        for arrow in arrows
            .iter()
            .filter(|arrow| !arrow.starts_with("a::own -> a"))
        {
            let leads = arrow == "a -> b" || arrow == "a::own -> b";
            assert!(leads, "{text}: {arrow}");
        }
    }
}

#[test]
fn a_name_that_is_passed_on_leads_to_where_it_is_defined() {
    let b = ("b/mod.rs", "pub mod inner; pub use inner::Deep;");
    for text in ["use crate::b::Deep;", "use crate::b::inner::work;"] {
        let arrows = arrows_of(&[ROOT, b, INNER, ("a.rs", text)]);
        assert_eq!(arrows, ["a -> b::inner", "b -> b::inner"], "{text}");
    }
    let all = ("b/mod.rs", "pub mod inner; pub use inner::*;");
    let arrows = arrows_of(&[ROOT, all, INNER, ("a.rs", "use crate::b::Deep;")]);
    assert_eq!(arrows, ["a -> b::inner", "b -> b::inner"]);
}

#[test]
fn another_crate_is_known_by_whoever_names_it() {
    let b = ("b/mod.rs", "pub mod inner; pub use other::Foreign;");
    let arrows = arrows_of(&[ROOT, b, INNER, ("a.rs", "use crate::b::Foreign;")]);
    assert_eq!(arrows, ["a -> b", "b -> other"]);
}

#[test]
fn what_is_for_tests_only_is_no_arrow() {
    for text in [
        "#[cfg(test)] mod tests { use crate::b::Thing; }",
        "#[cfg(test)] use crate::b::Thing;",
        "struct S; impl S { #[cfg(test)] fn f() { crate::b::inner::work(); } }",
        "pub(in crate::b) struct S;",
        "/// [`crate::b`]\nstruct S;",
    ] {
        let arrows = arrows_of(&[ROOT, B, INNER, ("a.rs", text)]);
        assert_eq!(arrows, [""; 0], "{text}");
    }
}
