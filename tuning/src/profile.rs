//! What a host is wanted for: a profile by name, or a file that departs from one.

mod file;

pub use file::ProfileError;

use crate::catalog::Kind;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// What a host is to be good at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// As many bytes as possible.
    #[default]
    Throughput,
    /// Short round trips, also beside streams.
    Latency,
    /// One or two cores, little memory: nothing that takes either.
    SmallHost,
}

/// A name that is no profile's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown profile {given:?}: throughput, latency, small-host, or a file that ends in .toml{}", hint(*.near))]
pub struct NoProfile {
    given: String,
    near: Option<&'static str>,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 3] = [Profile::Throughput, Profile::Latency, Profile::SmallHost];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Throughput => "throughput",
            Profile::Latency => "latency",
            Profile::SmallHost => "small-host",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = NoProfile;

    fn from_str(text: &str) -> Result<Profile, NoProfile> {
        let found = Profile::ALL
            .into_iter()
            .find(|profile| profile.name() == text);
        found.ok_or_else(|| NoProfile {
            given: text.to_owned(),
            near: nearest(text, Profile::ALL.map(Profile::name)),
        })
    }
}

/// What is wanted of one kind of knob in place of the profile's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The value, as [`crate::Knobs`] has it; none: to be left alone.
    pub value: Option<String>,
    /// The file and the line that say so.
    pub place: String,
}

/// A profile, and where it is departed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// What counts for all that is not named.
    pub profile: Profile,
    /// By kind.
    pub own: BTreeMap<Kind, Wish>,
}

impl Wishes {
    /// Those of a profile's name, or of the file at a path that ends in `.toml`.
    pub fn of(named: &str) -> Result<Wishes, ProfileError> {
        if named.ends_with(".toml") || named.contains('/') {
            return file::read(Path::new(named));
        }
        Ok(Wishes {
            profile: named.parse()?,
            own: BTreeMap::new(),
        })
    }
}

/// The name that `given` may be a slip of: at most a third of it differs.
fn nearest<'a>(given: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distance = |name: &str| strsim::damerau_levenshtein(given, name);
    let near = names.into_iter().map(|name| (distance(name), name));
    let near = near.filter(|(distance, name)| 3 * distance <= name.len().max(given.len()));
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

fn hint(near: Option<&str>) -> String {
    near.map_or(String::new(), |name| format!("; did you mean {name:?}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_slips_have_a_hint() {
        for profile in Profile::ALL {
            assert_eq!(profile.name().parse(), Ok(profile));
        }
        let error = "troughput".parse::<Profile>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean \"throughput\"?"), "{error}");
        let error = "x".parse::<Profile>().unwrap_err().to_string();
        assert!(!error.contains("did you mean"), "{error}");
    }
}
