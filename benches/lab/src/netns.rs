//! Network namespaces and the processes in them.

use super::{Error, Result, guard, run};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A named network namespace; removed, with all that runs in it, when the last clone drops.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Owned>);

#[derive(Debug)]
struct Owned {
    name: String,
}

impl Drop for Owned {
    fn drop(&mut self) {
        if path_of(&self.name).exists() {
            // There is nobody left to tell; `weft demo --remove` finds what stays behind.
            let _ = remove(&self.name);
        }
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

impl Namespace {
    /// Make a namespace of this name, its loopback up. Fails if the name is taken.
    pub fn create(name: &str) -> Result<Namespace> {
        let _open = guard::creating()?;
        super::ip(&format!("netns add {name}"))?;
        let namespace = Namespace(Arc::new(Owned {
            name: name.to_owned(),
        }));
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name under which `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Run `ip` inside, with the words of `args`.
    pub fn ip(&self, args: &str) -> Result<String> {
        super::ip(&format!("-n {} {args}", self.name()))
    }

    /// A command that will run inside.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name()]).arg(program);
        command
    }

    /// Run a command inside to its end; its standard output.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, args) = words
            .split_first()
            .ok_or_else(|| Error::new("no command given"))?;
        run(self.command(program).args(args))
    }

    /// Start `command` (from [`Namespace::command`]) and let it run; both its outputs are
    /// appended to `log`.
    pub fn spawn(&self, mut command: Command, log: &Path) -> Result<Process> {
        let _open = guard::creating()?;
        let what = super::show(&command);
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
        Ok(Process { child, what })
    }

    /// Run `f` on a thread of its own inside and wait for it. Sockets it opens belong to
    /// the namespace for as long as they live.
    pub fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.move_thread().map(|()| f()));
            thread.join().map_err(|_| {
                Error::new(format!("a thread in namespace {} panicked", self.name()))
            })?
        })
    }

    /// Move the calling thread into the namespace for good. Meant for threads made for it.
    pub fn move_thread(&self) -> Result<()> {
        let name = self.name();
        let file = File::open(path_of(name)).map_err(|e| Error::because(name, e))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|e| Error::because(format!("cannot enter namespace {name}"), e))
    }

    /// Set a sysctl inside, such as `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.enter(|| fs::write(&path, value))?
            .map_err(|e| Error::because(format!("{} in {}", path.display(), self.name()), e))
    }

    /// Read a file under `/proc/net` as seen from inside, such as `snmp`.
    pub fn proc_net(&self, file: &str) -> Result<String> {
        // /proc/net belongs to the process; the thread's own view is elsewhere.
        let path = Path::new("/proc/thread-self/net").join(file);
        self.enter(|| fs::read_to_string(&path))?
            .map_err(|e| Error::because(format!("{} in {}", path.display(), self.name()), e))
    }
}

/// Kill what runs inside the namespace `name` and delete it. Fine if it is gone already, or
/// goes meanwhile: a signal may come while its owner is at it.
pub(super) fn remove(name: &str) -> Result<()> {
    match try_remove(name) {
        Err(_) if !path_of(name).exists() => Ok(()),
        result => result,
    }
}

fn try_remove(name: &str) -> Result<()> {
    for signal in [Signal::TERM, Signal::KILL] {
        let pids = pids(name)?;
        if pids.is_empty() {
            break;
        }
        for &pid in &pids {
            let _ = rustix::process::kill_process(pid, signal);
        }
        wait_until(Duration::from_secs(3), || {
            self::pids(name).is_ok_and(|left| left.is_empty())
        });
    }
    super::ip(&format!("netns del {name}")).map(drop)
}

/// Processes inside, leaving out our own (whose threads may be there).
fn pids(name: &str) -> Result<Vec<Pid>> {
    let own = rustix::process::getpid();
    let list = super::ip(&format!("netns pids {name}"))?;
    let pids = list.split_whitespace().filter_map(|pid| pid.parse().ok());
    let pids = pids.filter_map(Pid::from_raw).filter(|&pid| pid != own);
    // A dead child that is not yet waited for still appears; it holds nothing.
    Ok(pids.filter(|&pid| !is_zombie(pid)).collect())
}

fn is_zombie(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |s| {
        let after_name = s.rsplit(')').next().unwrap_or_default();
        after_name.trim_start().starts_with('Z')
    })
}

/// Ask `done` every 10 ms until it says yes or the time is over; what it said last.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
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

/// A process that the lab started; stopped when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
}

impl Process {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The command as it was started.
    pub fn command(&self) -> &str {
        &self.what
    }

    /// Send a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)
            .map_err(|e| Error::because(format!("cannot signal `{}`", self.what), e))
    }

    /// How it ended, or `None` while it runs.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.child
            .try_wait()
            .map_err(|e| Error::because(format!("cannot wait for `{}`", self.what), e))
    }

    /// Wait for it to end by itself, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
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
    pub fn stop(&mut self) -> Result<std::process::ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::TERM)?;
        match self.wait(Duration::from_secs(5)) {
            Ok(status) => Ok(status),
            Err(_) => self.kill(),
        }
    }

    /// End it with SIGKILL.
    pub fn kill(&mut self) -> Result<std::process::ExitStatus> {
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
