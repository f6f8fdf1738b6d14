//! Reading the file again and again.
//!
//! Its content is compared, not its times or its inode: that sees through editors that
//! rename, links that are turned and file systems that keep coarse times, and the file is
//! small.

use super::content::FileContent;
use super::format::Format;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// Pause between two looks. A change counts when two looks in a row have seen the same.
pub(super) const PERIOD: Duration = Duration::from_millis(400);

/// Larger files are refused: some 60,000 leases.
const SIZE_MAX: u64 = 16 << 20;

/// What is known of the file: neither before the first look, and at least one after it.
#[derive(Clone, Debug, Default)]
pub(super) struct FileState {
    /// The last good content.
    pub(super) content: Option<Arc<FileContent>>,
    /// What is wrong with the content there is now.
    pub(super) problem: Option<String>,
}

/// What a look finds, or why nothing can be read.
type Look = Result<Vec<u8>, String>;

/// The file and what has been seen of it.
pub(super) struct Poller {
    path: PathBuf,
    format: Format,
    /// What `state` comes from.
    parsed: Look,
    /// What the last look saw.
    seen: Look,
    state: FileState,
}

impl Poller {
    /// Look at the file for the first time; what is there counts at once.
    pub(super) fn new(path: PathBuf, format: Format) -> Poller {
        let look = read(&path);
        let mut poller = Poller {
            path,
            format,
            parsed: look.clone(),
            seen: look,
            state: FileState::default(),
        };
        poller.parse();
        poller
    }

    pub(super) fn state(&self) -> &FileState {
        &self.state
    }

    /// Look again; whether the state is another now.
    pub(super) fn look(&mut self) -> bool {
        let now = read(&self.path);
        if now != self.seen {
            // It may be half written: wait until it holds still.
            self.seen = now;
            return false;
        }
        if now == self.parsed {
            return false;
        }
        self.parsed = now;
        self.parse()
    }

    fn parse(&mut self) -> bool {
        let path = self.path.display();
        let content = match self.parsed.as_deref().map(std::str::from_utf8) {
            Ok(Ok(text)) => FileContent::parse(text, self.format),
            Ok(Err(_)) => Err("is not UTF-8 text".to_owned()),
            Err(reason) => Err(reason.clone()),
        };
        let before = self.state.clone();
        match content {
            Ok(content) => {
                self.state.problem = None;
                if before.content.as_deref() != Some(&content) {
                    self.state.content = Some(Arc::new(content));
                }
            }
            Err(reason) => self.state.problem = Some(format!("{path}: {reason}")),
        }
        self.log_changes(&before);
        self.state.problem != before.problem || !same(&self.state, &before)
    }

    /// Log what has changed, once there is a state to keep.
    fn log_changes(&self, before: &FileState) {
        let (Some(old), Some(new)) = (&before.content, &self.state.content) else {
            return;
        };
        let path = self.path.display();
        match &self.state.problem {
            Some(problem) => {
                if before.problem.as_ref() != Some(problem) {
                    warn!(code = "W0216", "{problem}; keeping what it held before");
                }
                return;
            }
            None if before.problem.is_some() => info!("{path} can be read again"),
            None => {}
        }
        if old.config != new.config {
            warn!(
                code = "W0217",
                "the network config in {path} has changed: it counts from the next start on, and so do the leases beside it"
            );
        }
        if !Arc::ptr_eq(old, new) {
            info!("{path} has changed, leases: {}", new.leases().len());
        }
    }
}

fn same(a: &FileState, b: &FileState) -> bool {
    match (&a.content, &b.content) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// Look at once, and then every [`PERIOD`], until nobody wants to know.
pub(super) async fn run(path: PathBuf, format: Format, sender: watch::Sender<FileState>) {
    // A large file takes its time, and a file system that hangs must not hang the agent.
    let first = tokio::task::spawn_blocking(move || Poller::new(path, format));
    let Ok(mut poller) = first.await else {
        return;
    };
    sender.send_replace(poller.state().clone());
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = sender.closed() => return,
            _ = period.tick() => {}
        }
        let look = move || {
            let changed = poller.look();
            (poller, changed)
        };
        match tokio::task::spawn_blocking(look).await {
            Ok((back, changed)) => {
                poller = back;
                if changed {
                    sender.send_replace(poller.state().clone());
                }
            }
            // Only when the runtime is going down.
            Err(_) => return,
        }
    }
}

fn read(path: &Path) -> Look {
    let failed = |error: io::Error| format!("cannot be read: {error}");
    // Opening a pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(failed)?;
    let length = file
        .take(SIZE_MAX + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    match length as u64 > SIZE_MAX {
        true => Err(format!("is larger than {} MiB", SIZE_MAX >> 20)),
        false => Ok(content),
    }
}
