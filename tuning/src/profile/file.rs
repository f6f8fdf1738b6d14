//! Profiles in TOML: `profile = "latency"`, and single knobs such as `rx-ring = 1024`.

use super::{NoProfile, Profile, Wish, Wishes, hint, nearest};
use crate::catalog::{Kind, Values};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use toml::de::{DeTable, DeValue};

/// The key that names the profile that a file departs from.
const BASE: &str = "profile";

/// Why there is no profile. One line, which says where.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// No profile has this name.
    #[error(transparent)]
    Name(#[from] NoProfile),
    /// The file cannot be read.
    #[error("cannot read the profile {0}: {1}")]
    Unreadable(String, io::Error),
    /// It says something that cannot be.
    #[error("{0}: {1}")]
    Wrong(String, String),
}

pub(super) fn read(path: &Path) -> Result<Wishes, ProfileError> {
    let name = path.display().to_string();
    match fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(error) => Err(ProfileError::Unreadable(name, error)),
    }
}

fn parse(file: &str, text: &str) -> Result<Wishes, ProfileError> {
    let place = |at: usize| {
        let before = text.as_bytes().iter().take(at);
        format!(
            "{file}:{}",
            1 + before.filter(|&&byte| byte == b'\n').count()
        )
    };
    let wrong = |at: usize, what: String| ProfileError::Wrong(place(at), what);
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        wrong(at, error.message().replace('\n', " "))
    })?;
    let mut wishes = Wishes::default();
    let mut own = BTreeMap::new();
    for (key, value) in table.get_ref() {
        let (name, at) = (key.get_ref().as_ref(), key.span().start);
        if name == BASE {
            wishes.profile = base(value.get_ref()).map_err(|what| wrong(at, what))?;
            continue;
        }
        let kind = Kind::of(name).ok_or_else(|| {
            let names = Kind::ALL.iter().map(|kind| kind.name());
            let near = nearest(name, names.chain([BASE]));
            wrong(at, format!("unknown key {name:?}{}", hint(near)))
        })?;
        let value = wanted(kind, value.get_ref()).map_err(|what| wrong(at, what))?;
        let place = place(at);
        own.insert(kind, Wish { value, place });
    }
    wishes.own = own;
    Ok(wishes)
}

fn base(value: &DeValue<'_>) -> Result<Profile, String> {
    let name = value
        .as_str()
        .ok_or("profile: the name of a profile is wanted")?;
    name.parse()
        .map_err(|error: NoProfile| format!("profile: {error}"))
}

/// A value as knobs have it; none for `"leave"`.
fn wanted(kind: Kind, value: &DeValue<'_>) -> Result<Option<String>, String> {
    let text = match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Boolean(true) => "on".to_owned(),
        DeValue::Boolean(false) => "off".to_owned(),
        _ => String::new(),
    };
    if text == "leave" {
        return Ok(None);
    }
    let values = kind.values();
    let value = values.read(&text);
    let value = value
        .ok_or_else(|| format!("{}: {} or \"leave\" is wanted", kind.name(), about(values)))?;
    Ok(Some(value))
}

fn about(values: Values) -> String {
    match values {
        Values::Switch => "true, false".to_owned(),
        Values::Number { least, most } => format!("a number of {least} to {most}"),
        Values::PowerOfTwo { most } => format!("0, a power of two up to {most}"),
        Values::Cpus => "a list of CPUs such as \"0-3,8\", \"none\"".to_owned(),
        Values::Word => "a word".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        parse("tune.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn single_knobs_depart_from_a_profile() {
        let text = "# a node\nprofile = \"latency\"\nrx-ring = 1024\ngro = \"leave\"\n\
                    tso = false\nrps = \"0-3\"\nrfs = 4096\n";
        let wishes = parse("tune.toml", text).unwrap();
        assert_eq!(wishes.profile, Profile::Latency);
        let value = |kind: &Kind| wishes.own[kind].value.as_deref();
        assert_eq!(value(&Kind::RxRing), Some("1024"));
        assert_eq!(value(&Kind::Gro), None);
        assert_eq!(value(&Kind::Tso), Some("off"));
        assert_eq!(value(&Kind::Rps), Some("0-3"));
        assert_eq!(wishes.own[&Kind::RxRing].place, "tune.toml:3");
        assert_eq!(wishes.own.len(), 5);
        assert_eq!(parse("tune.toml", "").unwrap(), Wishes::default());
    }

    #[test]
    fn a_mistake_is_told_with_file_line_and_key() {
        assert_eq!(
            complaint("profile = \"latency\"\nrx-rng = 1024\n"),
            "tune.toml:2: unknown key \"rx-rng\"; did you mean \"rx-ring\"?"
        );
        let text = complaint("\n\nrx-ring = 0\n");
        assert_eq!(
            text,
            "tune.toml:3: rx-ring: a number of 1 to 1048576 or \"leave\" is wanted"
        );
        let text = complaint("rfs = 1000");
        assert!(
            text.starts_with("tune.toml:1: rfs: 0, a power of two"),
            "{text}"
        );
        let text = complaint("profile = \"latencey\"");
        assert!(
            text.starts_with("tune.toml:1: profile: unknown") && text.contains("\"latency\""),
            "{text}"
        );
        for text in [
            "gro = 7",
            "gro = []",
            "rps = \"x\"",
            "profile = 1",
            "governor = \"a b\"",
            "rx-ring = 1.5",
        ] {
            let said = complaint(text);
            let key = text.split(' ').next().unwrap();
            assert!(said.starts_with(&format!("tune.toml:1: {key}: ")), "{said}");
            assert_eq!(said.lines().count(), 1);
        }
        let said = complaint("gro = true\nrx-ring = \n");
        assert!(
            said.starts_with("tune.toml:2: ") && !said.contains('\n'),
            "{said}"
        );
        let said = complaint("gro = true\ngro = true\n");
        assert!(said.starts_with("tune.toml:2: "), "{said}");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Wishes::of("/nonexistent/tune.toml")
            .unwrap_err()
            .to_string();
        assert!(error.contains("/nonexistent/tune.toml"), "{error}");
    }
}
