//! Commands that run to their end, and scripts for them to run.

use crate::{Error, Result};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Run a command to its end; its standard output, or an error naming it and its complaint.
pub fn run(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command
        .stdin(Stdio::null())
        // Ctrl-C is for the lab, which stops its commands itself (see `guard`).
        .process_group(0)
        .output()
        .map_err(|e| Error::because(format!("cannot run `{shown}`"), e))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let complaint = if stderr.trim().is_empty() {
        stdout
    } else {
        stderr
    };
    Err(Error::because(
        format!("`{shown}` failed ({})", output.status),
        complaint.trim(),
    ))
}

/// A command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|w| w.to_string_lossy().into_owned()).collect();
    words.join(" ")
}

/// Write a shell script to `path` that can be run at once.
///
/// By a process of its own: one that this process starts in another thread holds, until it runs
/// something else, all files that are open here, and a program that anyone has open for writing
/// cannot be run (`ETXTBSY`).
pub fn script(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    let failed = |e| Error::because(format!("cannot write {}", path.display()), e);
    let mut writer = Command::new("sh")
        .args(["-c", "rm -f \"$0\" && cat >\"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let input = writer.stdin.take();
    let written = input.map(|mut input| write!(input, "#!/bin/sh\n{text}\n"));
    written.transpose().map_err(failed)?;
    match writer.wait().map_err(failed)?.success() {
        true => Ok(()),
        false => Err(Error::new(format!("cannot write {}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn scripts_run_at_once_whatever_other_threads_start() {
        let done = AtomicBool::new(false);
        let path = std::env::temp_dir().join(format!("weft-script-{}", std::process::id()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        assert!(Command::new("true").status().is_ok());
                    }
                });
            }
            let failure = (0..400).find_map(|round| {
                script(&path, &format!("echo {round}")).ok();
                let output = Command::new(&path).output();
                let right = |said: &[u8]| *said == *format!("{round}\n").as_bytes();
                (!output.as_ref().is_ok_and(|o| right(&o.stdout))).then_some(output)
            });
            done.store(true, Ordering::Relaxed);
            assert!(failure.is_none(), "{failure:?}");
        });
        let _ = std::fs::remove_file(path);
    }
}
