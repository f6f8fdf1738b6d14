//! The two formats of a subnets file, brought to one form.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::path::Path;
use toml::Spanned;

/// How a subnets file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Toml,
}

/// A JSON object and the line of the file that it begins in, from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) line: usize,
    pub(super) json: String,
}

/// What a file holds, not yet looked into.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) config: Part,
    pub(super) leases: Vec<Part>,
}

impl Format {
    /// The format that a file's name asks for.
    pub(super) fn of(path: &Path) -> Option<Format> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            _ => None,
        }
    }

    /// Take a file apart; the error is one line that says where.
    pub(super) fn read(self, text: &str) -> Result<Document, String> {
        match self {
            Format::Json => json(text),
            Format::Toml => toml(text),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json<'a> {
    #[serde(borrow)]
    config: &'a RawValue,
    #[serde(borrow, default)]
    leases: Vec<&'a RawValue>,
}

fn json(text: &str) -> Result<Document, String> {
    let read: Json<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut lines = Lines::of(text);
    let mut part = |value: &RawValue| {
        // Borrowed from the text: its place is the distance of the pointers.
        let at = value.get().as_ptr().addr() - text.as_ptr().addr();
        Part {
            line: lines.of_byte(at),
            json: value.get().to_owned(),
        }
    };
    Ok(Document {
        config: part(read.config),
        leases: read.leases.into_iter().map(part).collect(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Toml {
    config: Spanned<toml::Table>,
    #[serde(default)]
    leases: Vec<Spanned<toml::Table>>,
}

fn toml(text: &str) -> Result<Document, String> {
    let read: Toml = toml::from_str(text).map_err(|error| {
        let reason = error.message();
        match error.span() {
            Some(span) => {
                let line = Lines::of(text).of_byte(span.start);
                format!("line {line}: {reason}")
            }
            None => reason.to_owned(),
        }
    })?;
    let mut lines = Lines::of(text);
    let mut part = |table: Spanned<toml::Table>| {
        let line = lines.of_byte(table.span().start);
        match serde_json::to_string(table.get_ref()) {
            Ok(json) => Ok(Part { line, json }),
            Err(error) => Err(format!("line {line}: {error}")),
        }
    };
    Ok(Document {
        config: part(read.config)?,
        leases: read
            .leases
            .into_iter()
            .map(part)
            .collect::<Result<_, _>>()?,
    })
}

/// The lines of bytes that are asked for mostly in the order of the text, so that all of them
/// together cost one walk through it.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn of(text: &str) -> Lines<'_> {
        let (at, line) = (0, 1);
        Lines {
            text: text.as_bytes(),
            at,
            line,
        }
    }

    /// The line of the byte at `at`, from 1.
    fn of_byte(&mut self, at: usize) -> usize {
        if at < self.at {
            (self.at, self.line) = (0, 1);
        }
        let between = self.text.iter().take(at).skip(self.at);
        self.line += between.filter(|&&byte| byte == b'\n').count();
        self.at = at;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(document: &Document) -> Vec<usize> {
        let leases = document.leases.iter().map(|part| part.line);
        std::iter::once(document.config.line)
            .chain(leases)
            .collect()
    }

    #[test]
    fn both_formats_give_the_same_parts() {
        let toml = "[config]\nNetwork = \"10.5.0.0/16\"\n\n[[leases]]\nSubnet = \"10.5.1.0/24\"\n\
                    [leases.BackendData]\nVNI = 1\n[[leases]]\nSubnet = \"10.5.2.0/24\"\n";
        let toml = Format::Toml.read(toml).unwrap();
        assert_eq!(lines(&toml), [1, 4, 8]);
        let json = "{\n\"config\":\n{\"Network\":\"10.5.0.0/16\"},\"leases\":[\n\
                    {\"BackendData\":{\"VNI\":1},\"Subnet\":\"10.5.1.0/24\"},\n\
                    {\"Subnet\":\"10.5.2.0/24\"}]}";
        let json = Format::Json.read(json).unwrap();
        assert_eq!(lines(&json), [3, 4, 5]);
        assert_eq!(toml.config.json, json.config.json);
        let texts = |document: &Document| -> Vec<String> {
            document
                .leases
                .iter()
                .map(|part| part.json.clone())
                .collect()
        };
        assert_eq!(texts(&toml), texts(&json));
    }

    #[test]
    fn a_config_behind_the_leases_has_its_line() {
        let json = "{\"leases\":[\n{\"a\":1},\n\n{\"a\":2}],\n\"config\":{}}";
        assert_eq!(lines(&Format::Json.read(json).unwrap()), [5, 2, 4]);
        let toml = "[[leases]]\na = 1\n\n[[leases]]\na = 2\n[config]\n";
        assert_eq!(lines(&Format::Toml.read(toml).unwrap()), [6, 1, 4]);
    }

    #[test]
    fn the_extension_decides() {
        assert_eq!(Format::of(Path::new("/etc/peers.toml")), Some(Format::Toml));
        assert_eq!(Format::of(Path::new("peers.JSON")), Some(Format::Json));
        for path in ["peers", "peers.yaml", "toml", ""] {
            assert_eq!(Format::of(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_is_one_line_with_its_place() {
        for (format, text, words) in [
            (Format::Toml, "[config]\nNetwork = \n", "line 2: "),
            (
                Format::Toml,
                "[config]\n[[lease]]\n",
                "line 2: unknown field `lease`",
            ),
            (Format::Toml, "[[leases]]\n", "missing field `config`"),
            (Format::Toml, "[config]\n[leases]\n", "line 2: "),
            (Format::Json, "{\n\"config\":{},}", "line 2 column"),
            (
                Format::Json,
                "{\"config\":{},\n\"leses\":[]}",
                "unknown field `leses`",
            ),
            (Format::Json, "", "line 1"),
        ] {
            let error = format.read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }
}
