//! What a line of the log holds, and the two ways to write it.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};
use weft_control::text::line;

/// One line. All texts are escaped and of bounded length.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    /// RFC 3339.
    pub(super) time: String,
    #[serde(serialize_with = "named")]
    pub(super) level: Level,
    /// The module that says it.
    pub(super) target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    pub(super) message: String,
    /// What else an event of a library holds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) fields: BTreeMap<&'static str, String>,
}

fn named<S: serde::Serializer>(level: &Level, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(level.as_str())
}

impl Line {
    pub(super) fn new(time: String, level: Level, target: &str) -> Line {
        Line {
            time,
            level,
            target: target.to_owned(),
            code: None,
            message: String::new(),
            fields: BTreeMap::new(),
        }
    }

    pub(super) fn of(event: &Event<'_>, time: String) -> Line {
        let about = event.metadata();
        let mut line = Line::new(time, *about.level(), about.target());
        event.record(&mut line);
        line
    }

    /// As an object on one line.
    pub(super) fn json(&self) -> String {
        // Texts under names of texts cannot fail.
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// As people read it: time, level, the module if it is wanted, code, message and the rest.
    pub(super) fn text(&self, target: bool, colours: bool) -> String {
        let colour = match self.level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            _ => "34",
        };
        let painted = |text: &str, colour: &str| match colours {
            true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        };
        let level = format!("{:>5}", self.level.as_str());
        let mut text = format!("{} {}", painted(&self.time, "2"), painted(&level, colour));
        if target {
            let target = format!("{}:", self.target);
            text.push(' ');
            text.push_str(&painted(&target, "2"));
        }
        for part in self.code.iter().chain([&self.message]) {
            text.push(' ');
            text.push_str(part);
        }
        for (name, value) in &self.fields {
            // Writing to a String cannot fail.
            let _ = write!(text, " {name}={value}");
        }
        text.push('\n');
        text
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "code" => self.code = Some(line(value)),
            "message" => self.message = line(value),
            // Where in a library a record of the log crate comes from.
            "log.target" => self.target = line(value),
            name if name.starts_with("log.") => {}
            name => _ = self.fields.insert(name, line(value)),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = line(&format!("{value:?}"));
        match field.name() {
            "message" => self.message = value,
            name if name.starts_with("log.") => {}
            name => _ = self.fields.insert(name, value),
        }
    }
}
