//! What a long command is doing: a bar on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// Progress on standard error. Clones draw the same bar.
#[derive(Clone)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    runs: usize,
    done: usize,
}

impl Progress {
    /// Start with the setting-up.
    pub(crate) fn new() -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_finish(ProgressFinish::AndClear);
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Progress {
            bar,
            runs: 0,
            done: 0,
        }
    }

    /// Setting something up.
    pub(crate) fn step(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("setting up: {what}")),
            None => eprintln!("setting up: {what}"),
        }
    }

    /// From here on it is measurements, this many.
    pub(crate) fn measure(&mut self, runs: usize) {
        self.runs = runs;
        if let Some(bar) = &self.bar {
            bar.set_length(runs as u64);
            let template = "{bar:30} {pos}/{len}  {msg}  ({elapsed} of about {duration})";
            // The template is a constant; were it wrong, the plain bar would do.
            bar.set_style(
                ProgressStyle::with_template(template)
                    .unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar.reset();
        }
    }

    /// The next measurement begins.
    pub(crate) fn run(&mut self, what: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.done as u64);
                bar.set_message(what.to_owned());
            }
            None => eprintln!("measuring {}/{}: {what}", self.done + 1, self.runs),
        }
        self.done += 1;
    }

    /// Let `f` write to the terminal.
    pub(crate) fn pause(&self, f: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(f),
            None => f(),
        }
    }

    /// Nothing more is going on; leave the terminal clean.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
