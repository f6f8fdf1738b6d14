//! Command lines of subcommands: Go's style or clap's, and complaints of one line.

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// Why there are no arguments to act on.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// Help was asked for: print this and end well.
    Help(String),
    /// A flag or value is wrong: print this one line and end with status 2.
    Bad(String),
}

impl Refusal {
    /// Say so on behalf of `command`.
    pub(crate) fn tell(self, command: &str) -> ExitCode {
        match self {
            Refusal::Help(text) => {
                print(&text);
                ExitCode::SUCCESS
            }
            Refusal::Bad(line) => {
                eprintln!("{command}: {line}");
                ExitCode::from(2)
            }
        }
    }
}

/// Print to standard output; nobody reading it is no reason to fail.
pub(crate) fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Read the words after `command`. Flags may be written in Go's style, with one dash.
pub(crate) fn parse<T: Parser>(
    command: &str,
    words: impl Iterator<Item = OsString>,
) -> Result<T, Refusal> {
    let words = std::iter::once(command.into()).chain(words.map(two_dashes));
    T::try_parse_from(words).map_err(|error| refuse(&error))
}

/// What may have been meant, where clap knows something like it.
fn suggestion(error: &clap::Error) -> Option<&str> {
    let of = [
        ContextKind::SuggestedArg,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ];
    of.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(near) => Some(near.as_str()),
        ContextValue::Strings(near) => near.first().map(String::as_str),
        _ => None,
    })
}

fn two_dashes(word: OsString) -> OsString {
    match word.to_str() {
        Some(text) if text.len() > 2 && text.starts_with('-') && !text.starts_with("--") => {
            format!("-{text}").into()
        }
        _ => word,
    }
}

fn refuse(error: &clap::Error) -> Refusal {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelp {
        return Refusal::Help(text);
    }
    let first = text.lines().next().unwrap_or_default();
    let mut line = first.trim_start_matches("error: ").to_owned();
    // The list of what is missing would be on lines of its own.
    if let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) {
        line = format!("{line} {}", missing.join(", "));
    }
    if let Some(near) = suggestion(error) {
        line += &format!("; did you mean '{near}'?");
    } else if error.kind() == ErrorKind::MissingSubcommand {
        line += "; --help lists them";
    }
    Refusal::Bad(line)
}
