//! Reading files of assignments, as shells and systemd do.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::str::FromStr;

/// The assignments of a dotenv file: `KEY=VALUE`, optionally behind `export`, optionally
/// quoted, `#` comments. The last assignment of a key wins.
pub fn dotenv(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(assignment).collect()
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if key.starts_with('#') {
        return None;
    }
    for quote in ['"', '\''] {
        if let Some(quoted) = value.strip_prefix(quote) {
            return Some((key, quoted.split(quote).next().unwrap_or_default()));
        }
    }
    let value = value.split(" #").next().unwrap_or_default();
    Some((key, value.trim_end()))
}

/// What the regular file at `path` holds. A FIFO would hold up the agent until somebody writes.
pub(super) fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    match std::fs::metadata(path)?.is_file() {
        true => std::fs::read(path),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// The elements of a comma list that parse.
fn list<T: FromStr>(value: &str) -> Vec<T> {
    let elements = value.split(',').map(str::trim);
    elements
        .filter_map(|element| element.parse().ok())
        .collect()
}

/// The one element of a comma list that parses; none if there are several.
pub(super) fn single<T: FromStr>(value: &str) -> Option<T> {
    let mut elements = list(value);
    let first = elements.pop();
    if elements.is_empty() { first } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_syntax() {
        let text = "# comment\n\nexport A=1\nB=\"two words\" # why\nC='x'\nD=4 # four\n\
                    #E=5\nnonsense\nF = 6 \nA=7\n";
        let values = dotenv(text);
        let expected = [
            ("A", "7"),
            ("B", "two words"),
            ("C", "x"),
            ("D", "4"),
            ("F", "6"),
        ];
        assert_eq!(values, BTreeMap::from(expected));
    }
}
