//! What has been measured so far, kept where a signal's last words can reach it.

use super::folder::Folder;
use crate::progress::Progress;
use crate::words::print;
use std::sync::{Arc, Mutex, PoisonError};
use weft_benches::load::rounds::Sample;
use weft_benches::report::{Failure, Setting, Sitting, text};
use weft_lab::{Result, guard};

/// A sitting on its way into a folder and onto the terminal.
#[derive(Clone)]
pub(crate) struct Book {
    /// `None` once it is closed.
    open: Arc<Mutex<Option<Open>>>,
    folder: Folder,
    progress: Progress,
}

struct Open {
    sitting: Sitting,
    /// Settings whose tables have been printed.
    printed: usize,
}

impl Book {
    /// Open it. If a signal ends the process, what is in it is printed and written first.
    pub(crate) fn open(sitting: Sitting, folder: Folder, progress: Progress) -> Book {
        let open = Open {
            sitting,
            printed: 0,
        };
        let book = Book {
            open: Arc::new(Mutex::new(Some(open))),
            folder,
            progress,
        };
        let last = book.clone();
        guard::on_interrupt(move || {
            if let Err(error) = last.close(Some("interrupted".to_owned())) {
                eprintln!("weft bench: {error}");
            }
        });
        book
    }

    fn edit(&self, f: impl FnOnce(&mut Open)) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = open.as_mut() {
            f(open);
        }
    }

    /// A setting begins.
    pub(crate) fn begin(&self, setting: Setting) {
        self.edit(|open| open.sitting.settings.push(setting));
    }

    /// A sample of the present setting. What iperf3 said goes to a file of its own.
    pub(crate) fn sample(&self, mut sample: Sample) -> Result<()> {
        let mut raw = sample.measurement.iperf3.take();
        let mut name = None;
        self.edit(|open| {
            if let Some(setting) = open.sitting.settings.last_mut() {
                name = setting.iperf3_file(&sample.run);
                setting.samples.push(sample);
            }
        });
        match name.zip(raw.take()) {
            Some((name, raw)) => self.folder.put(&name, &raw),
            None => Ok(()),
        }
    }

    /// A run of the present setting gave nothing.
    pub(crate) fn failure(&self, failure: Failure) {
        self.edit(|open| {
            if let Some(setting) = open.sitting.settings.last_mut() {
                setting.failures.push(failure);
            }
        });
    }

    /// Print the tables that have not been printed, and write the files.
    pub(crate) fn show(&self) -> Result<()> {
        let mut written = Ok(());
        self.edit(|open| written = show(open, &self.folder, &self.progress));
        written
    }

    /// The end, premature if there is a reason. Whether anything was measured. Closed once,
    /// a book stays closed.
    pub(crate) fn close(&self, broken_off: Option<String>) -> Result<bool> {
        let taken = self
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut open) = taken else {
            return Ok(true);
        };
        self.progress.finish();
        open.sitting.broken_off = broken_off;
        if open.sitting.measured() == 0 {
            self.folder.remove_if_empty();
            print(&text::shortcomings(&open.sitting));
            return Ok(false);
        }
        let written = show(&mut open, &self.folder, &self.progress);
        let notes = text::shortcomings(&open.sitting);
        let files = self.folder.contents();
        let gap = if notes.is_empty() { "" } else { "\n" };
        print(&format!("{gap}{notes}"));
        written?;
        print(&format!("\nwritten: {files}\n"));
        Ok(true)
    }
}

fn show(open: &mut Open, folder: &Folder, progress: &Progress) -> Result<()> {
    let sitting = &open.sitting;
    for setting in &sitting.settings[open.printed..] {
        if !setting.samples.is_empty() {
            let table = text::setting(setting, sitting.rounds);
            progress.pause(|| print(&table));
        }
    }
    open.printed = sitting.settings.len();
    folder.write(sitting)
}
