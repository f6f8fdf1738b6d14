//! What the names of annotations begin with.

use regex::Regex;
use std::str::FromStr;
use std::sync::LazyLock;

/// A domain, a slash, and perhaps a word with a dash at its end.
static FORM: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^(?:[a-z0-9_-]+\.)+[a-z0-9_-]+/(?:[a-z0-9_-]+-)?$").ok());

/// What the names of annotations begin with: `domain/` or `domain/word-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnnotationPrefix(String);

impl AnnotationPrefix {
    /// As it is written in front of each name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for AnnotationPrefix {
    fn default() -> AnnotationPrefix {
        AnnotationPrefix("flannel.alpha.coreos.com/".to_owned())
    }
}

/// By flannel's rules: a slash, or the dash after a word, may be left out.
impl FromStr for AnnotationPrefix {
    type Err = &'static str;

    fn from_str(spelt: &str) -> Result<AnnotationPrefix, &'static str> {
        let mut prefix = spelt.to_owned();
        match spelt.matches('/').count() {
            0 => prefix.push('/'),
            1 if spelt.ends_with(['/', '-']) => {}
            1 => prefix.push('-'),
            _ => return Err("must have at most one slash"),
        }
        match FORM.as_ref().is_some_and(|form| form.is_match(&prefix)) {
            true => Ok(AnnotationPrefix(prefix)),
            false => Err("must be a domain, and perhaps a slash and a word, in lower case"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u20_prefixes_are_completed_as_flannel_does() {
        for (spelt, backend_type) in [
            (
                "flannel.alpha.coreos.com",
                Some("flannel.alpha.coreos.com/backend-type"),
            ),
            (
                "flannel.alpha.coreos.com/",
                Some("flannel.alpha.coreos.com/backend-type"),
            ),
            (
                "flannel.alpha.coreos.com/prefix",
                Some("flannel.alpha.coreos.com/prefix-backend-type"),
            ),
            (
                "flannel.alpha.coreos.com/prefix-",
                Some("flannel.alpha.coreos.com/prefix-backend-type"),
            ),
            ("org.com", Some("org.com/backend-type")),
            ("org9.com", Some("org9.com/backend-type")),
            ("org.com/9", Some("org.com/9-backend-type")),
            ("org", None),
            ("org/", None),
            ("org/prefix", None),
            ("org.COM", None),
            ("org.com/PREFIX", None),
            // Beyond flannel's own table.
            ("org.com/a/b", None),
            ("ORG.example.com", None),
            ("", None),
        ] {
            let prefix = spelt.parse::<AnnotationPrefix>().ok();
            let found = prefix.map(|prefix| format!("{}backend-type", prefix.as_str()));
            assert_eq!(found.as_deref(), backend_type, "{spelt:?}");
        }
    }

    #[test]
    fn the_default_is_flannels() {
        let default = "flannel.alpha.coreos.com".parse();
        assert_eq!(default, Ok(AnnotationPrefix::default()));
    }
}
