//! What a test logs, from info upwards, without what tests beside it log.

use std::cell::RefCell;
use std::io::{self, Write};
use std::marker::PhantomData;
use std::sync::Once;
use tracing_subscriber::fmt::format::debug_fn;

thread_local! {
    static LINES: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// The log of this thread, as long as this value lives.
///
/// One subscriber serves all threads of the process. With one for each test, `tracing` asks
/// whoever meets a log line first whether anybody wants it, and remembers the answer: a thread
/// without a subscriber says no for all.
pub struct Log {
    /// It must be dropped where it was made.
    _of_this_thread: PhantomData<*const ()>,
}

impl Log {
    /// Begin with an empty log.
    pub fn start() -> Log {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            let message = debug_fn(|writer, field, value| match field.name() {
                "message" => write!(writer, "{value:?}"),
                _ => Ok(()),
            });
            let subscriber = tracing_subscriber::fmt()
                .fmt_fields(message)
                .with_writer(|| ThreadsLines)
                .with_ansi(false)
                .with_target(false)
                .without_time()
                .finish();
            // The only one who can have been first is a test with a subscriber of its own.
            tracing::subscriber::set_global_default(subscriber).expect("nobody else subscribes");
        });
        LINES.set(Some(Vec::new()));
        Log {
            _of_this_thread: PhantomData,
        }
    }

    /// Level and message of each line since the start.
    pub fn lines(&self) -> Vec<String> {
        LINES.with_borrow(|lines| {
            let bytes = lines.as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(bytes);
            text.lines().map(|line| line.trim().to_owned()).collect()
        })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        LINES.set(None);
    }
}

struct ThreadsLines;

impl Write for ThreadsLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.with_borrow_mut(|lines| {
            if let Some(lines) = lines {
                lines.extend_from_slice(bytes);
            }
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Log;

    fn say(what: &str) {
        tracing::info!("{what}");
    }

    #[test]
    fn each_thread_has_a_log_of_its_own_whoever_met_a_line_first() {
        let met = std::thread::spawn(|| say("nobody asked")).join();
        assert!(met.is_ok());
        let log = Log::start();
        say("mine");
        let other = std::thread::spawn(|| {
            let log = Log::start();
            say("another's");
            log.lines()
        });
        assert_eq!(other.join().ok(), Some(vec!["INFO another's".to_owned()]));
        assert_eq!(log.lines(), ["INFO mine"]);
        drop(log);
        say("late");
        assert_eq!(Log::start().lines(), [""; 0]);
    }
}
