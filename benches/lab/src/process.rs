//! Processes that are stopped with their owner.

use crate::command::show;
use crate::{Error, Result, guard, wait_until};
use rustix::process::{Pid, Signal};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// A process that the lab started; stopped when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Process {
    /// Start `command` and let it run; both its outputs are appended to `log`.
    pub fn spawn(mut command: Command, log: &Path) -> Result<Process> {
        let _open = guard::creating()?;
        let what = show(&command);
        let open = || File::options().create(true).append(true).open(log);
        let outputs = open().and_then(|out| Ok((out.try_clone()?, out)));
        let (out, err) = outputs.map_err(|e| Error::because(log.display(), e))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Its own process group: Ctrl-C reaches the lab, which then stops it in order.
            .process_group(0)
            .spawn()
            .map_err(|e| Error::because(format!("cannot run `{what}`"), e))?;
        let log = log.to_owned();
        Ok(Process { child, what, log })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command as it was started.
    pub fn command(&self) -> &str {
        &self.what
    }

    /// Where both its outputs go.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What is in its log, also from processes before it.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Wait at most `limit` for a line with `text` in its log; the line.
    pub fn line_with(&self, text: &str, limit: Duration) -> Result<String> {
        let mut found = None;
        wait_until(limit, || {
            let log = self.log();
            found = log.lines().find(|l| l.contains(text)).map(str::to_owned);
            found.is_some()
        });
        let seconds = limit.as_secs();
        found.ok_or_else(|| Error::new(format!("no {text:?} in the log in {seconds} s")))
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)
            .map_err(|e| Error::because(format!("cannot signal `{}`", self.what), e))
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .map_err(|e| Error::because(format!("cannot wait for `{}`", self.what), e))
    }

    /// Wait for it to end by itself, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() >= end {
                let seconds = limit.as_secs();
                return Err(Error::new(format!(
                    "`{}` still runs after {seconds} s",
                    self.what
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ask it to end with SIGTERM, and after 5 s make it with SIGKILL.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        match self.wait(STOP_LIMIT) {
            Ok(status) => Ok(status),
            Err(_) => self.kill(),
        }
    }

    /// End it with SIGKILL.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        let what = &self.what;
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map_err(|e| Error::because(format!("cannot kill `{what}`"), e))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// Whether someone in the network namespace of process `pid` listens on this TCP port.
pub fn listens(pid: u32, port: u16) -> bool {
    let listening = |file: &str| {
        let table = fs::read_to_string(format!("/proc/{pid}/net/{file}"));
        table.is_ok_and(|table| has_listener(&table, port))
    };
    listening("tcp") || listening("tcp6")
}

/// Lines are `sl local_address:port rem_address:port state ...` in hex; state 0A is LISTEN.
fn has_listener(table: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    table.lines().skip(1).any(|line| {
        let mut words = line.split_whitespace();
        words.nth(1).is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, SocketAddrV4};

    #[test]
    fn listeners_are_found_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            0: 00000000:1451 00000000:0000 0A 00000000:00000000\n\
            1: 0100007F:0050 0100007F:1F90 01 00000000:00000000\n";
        assert!(has_listener(table, 5201));
        assert!(!has_listener(table, 80));
        assert!(!has_listener(table, 8080));
    }

    #[test]
    fn own_listener_is_seen() {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, listen, socket};
        // Bound throughout, so that the port is nobody else's.
        let own = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&own, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let bound = SocketAddrV4::try_from(getsockname(&own).unwrap()).unwrap();
        assert!(!listens(std::process::id(), bound.port()));
        listen(&own, 1).unwrap();
        assert!(listens(std::process::id(), bound.port()));
    }
}
