//! The log: each event is one line of bounded length, whatever others have written into it.

use std::io;
use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatFields, debug_fn};
use tracing_subscriber::prelude::*;
use weft_control::text::line;

/// Log to stderr: weft's own lines from `level` on, warnings of everything below it.
pub(crate) fn start(level: Level) {
    let own = LevelFilter::from_level(level);
    let targets = Targets::new()
        .with_default(LevelFilter::WARN)
        .with_target("weft", own)
        .with_target("weft_control", own)
        .with_target("weft_dataplane", own);
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(fields())
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        // They would go to stderr, too: with a full disk behind it, to a panic.
        .log_internal_errors(false)
        .with_target(level > Level::INFO);
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .init();
}

/// Writes the message and what else an event holds.
fn fields() -> impl for<'writer> FormatFields<'writer> + 'static {
    debug_fn(|writer, field, value| {
        let value = line(&format!("{value:?}"));
        match field.name() {
            "message" => write!(writer, "{value}"),
            // Where in a library a record of the log crate comes from.
            name if name.starts_with("log.") => Ok(()),
            name => write!(writer, " {name}={value}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Text(Arc<Mutex<Vec<u8>>>);

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let text = Text::default();
        let writer = text.clone();
        let lines = tracing_subscriber::fmt::layer()
            .fmt_fields(fields())
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), log);
        let bytes = text.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn nothing_forges_a_line_or_hides_in_one() {
        let device = "we\u{1b}[2J\n ERROR it is over\u{202e}";
        let text = logged(|| tracing::warn!(device, "{device} is gone"));
        let shown = r"we\u{1b}[2J\n ERROR it is over\u{202e}";
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{text:?}");
        assert!(
            lines[0].contains(&format!("WARN {shown} is gone")),
            "{text:?}"
        );
        assert!(!lines[0].contains(char::is_control), "{text:?}");
    }

    #[test]
    fn no_line_is_endless() {
        let long = "x".repeat(1 << 20);
        let text = logged(|| tracing::warn!("{long}"));
        assert!(text.len() < 5000, "{}", text.len());
        assert!(text.ends_with("x...\n"));
    }

    #[test]
    fn what_weft_says_is_left_alone() {
        let text = logged(|| tracing::info!("a \"b\" \\ c \u{e9}"));
        assert_eq!(text, " INFO a \"b\" \\ c \u{e9}\n");
    }
}
