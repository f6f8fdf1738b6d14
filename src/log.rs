//! The log: each event is one line of bounded length, whatever others have written into it, and no
//! kind of line comes without end.

mod limit;
mod line;

use limit::{LeftOut, Limiter};
use line::Line;
use std::fmt::Debug;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;
use weft_control::agent::LogFormat;
use weft_control::codes;
use weft_control::text::span;

/// Log to stderr: weft's own lines from `level` on, warnings of everything below it.
pub(crate) fn start(level: Level, format: LogFormat) {
    let own = LevelFilter::from_level(level);
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("weft", own)
        .with_target("weft_control", own)
        .with_target("weft_dataplane", own);
    let style = match format {
        LogFormat::Json => Style::Json,
        LogFormat::Text => Style::Text {
            target: level > Level::INFO,
            colours: io::stderr().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()),
        },
    };
    // With a full disk behind it there is nobody to tell.
    let lines = Lines::new(style, |text| _ = io::stderr().write_all(text.as_bytes()));
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .init();
}

/// How lines are written.
#[derive(Clone, Copy)]
enum Style {
    Json,
    Text { target: bool, colours: bool },
}

impl Style {
    fn write(self, line: &Line) -> String {
        match self {
            Style::Json => line.json(),
            Style::Text { target, colours } => line.text(target, colours),
        }
    }
}

/// Writes events as lines.
struct Lines<W> {
    style: Style,
    write: W,
    started: Instant,
    limiter: Mutex<Limiter>,
}

impl<W: Fn(&str)> Lines<W> {
    fn new(style: Style, write: W) -> Lines<W> {
        Lines {
            style,
            write,
            started: Instant::now(),
            // The last kind is that of all warnings without a code, which are of libraries.
            limiter: Mutex::new(Limiter::new(codes::all().count() + 1)),
        }
    }

    /// What is written of an event at `now`, a time since the start.
    fn take(&self, event: &Event<'_>, now: Duration) -> String {
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let told = limiter
            .ended(now)
            .map(|left| self.style.write(&summary(&left)));
        let mut text: String = told.collect();
        if kind(event).is_none_or(|kind| limiter.admits(kind, now)) {
            text.push_str(&self.style.write(&Line::of(event, time())));
        }
        text
    }
}

impl<S: Subscriber, W: Fn(&str) + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let text = self.take(event, self.started.elapsed());
        if !text.is_empty() {
            (self.write)(&text);
        }
    }
}

/// Which of the limits counts for an event; none of what goes well, and of errors, one of which is
/// the last line of an agent that ends.
fn kind(event: &Event<'_>) -> Option<usize> {
    struct Kind(Option<usize>);
    impl Visit for Kind {
        fn record_str(&mut self, field: &Field, value: &str) {
            if field.name() == "code" {
                self.0 = codes::all().position(|code| code.id == value);
            }
        }
        fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
    }
    let mut kind = Kind(None);
    event.record(&mut kind);
    match *event.metadata().level() {
        Level::ERROR => None,
        Level::WARN => kind.0.or_else(|| Some(codes::all().count())),
        _ => kind.0,
    }
}

/// The line that stands for those that were not written.
fn summary(left: &LeftOut) -> Line {
    let mut line = Line::new(time(), Level::WARN, module_path!());
    let code = codes::all().nth(left.kind).map(|code| code.id);
    let whose = code.map_or("warnings of libraries: ", |_| "");
    let (lines, time) = (left.lines, span(left.time));
    line.message = format!("{whose}said {lines} times more in the last {time}");
    line.code = code.map(str::to_owned);
    line
}

/// As RFC 3339 has it.
fn time() -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

#[cfg(test)]
mod tests;
