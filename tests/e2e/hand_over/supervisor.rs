//! A service manager in small: it keeps descriptors for the next process, as systemd does
//! (`FileDescriptorStoreMax`).

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use weft_lab::{Agent, Process};

/// The number of the first descriptor that is passed.
const FIRST: i32 = 3;

/// `LISTEN_PID` is the process that the shell becomes.
const SCRIPT: &str = r#"export LISTEN_PID=$$; exec "$@""#;

type Kept = Arc<Mutex<BTreeMap<String, OwnedFd>>>;

pub(super) struct Supervisor {
    socket: PathBuf,
    kept: Kept,
}

impl Supervisor {
    /// One that listens in `dir`, until the test ends.
    pub(super) fn new(dir: &Path) -> Supervisor {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let kept = Kept::default();
        let keeps = kept.clone();
        std::thread::spawn(move || while take_in(&socket, &keeps) {});
        Supervisor { socket: path, kept }
    }

    /// Names of what is kept.
    pub(super) fn kept(&self) -> Vec<String> {
        self.kept.lock().unwrap().keys().cloned().collect()
    }

    /// Put something else in the place of what is kept under this name.
    pub(super) fn replace(&self, name: &str, descriptor: OwnedFd) {
        let mut kept = self.kept.lock().unwrap();
        assert!(kept.insert(name.to_owned(), descriptor).is_some(), "{name}");
    }

    /// Start `agent` with what is kept.
    pub(super) fn start(&self, agent: &Agent) -> Process {
        let agents = agent.command();
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "sh"]);
        command.arg(agents.get_program()).args(agents.get_args());
        let set = agents
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        command.envs(set);
        command.env("NOTIFY_SOCKET", &self.socket);
        command.env("FDSTORE", "4096");
        let kept = self.kept.lock().unwrap();
        let names: Vec<&str> = kept.keys().map(String::as_str).collect();
        command.env("LISTEN_FDS", names.len().to_string());
        command.env("LISTEN_FDNAMES", names.join(":"));
        let passed = kept
            .values()
            .zip(FIRST..)
            .map(|(held, child_fd)| FdMapping {
                parent_fd: held.try_clone().unwrap(),
                child_fd,
            });
        command.fd_mappings(passed.collect()).unwrap();
        agent.namespace().spawn(command, &agent.log_file()).unwrap()
    }
}

/// Do what a message asks for; whether there was one.
fn take_in(socket: &UnixDatagram, kept: &Kept) -> bool {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let Ok(read) = recvmsg(socket, &mut pieces, &mut control, flags) else {
        return false;
    };
    let mut given = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            given.extend(descriptors);
        }
    }
    let text = std::str::from_utf8(&bytes[..read.bytes]).unwrap();
    let lines: BTreeMap<&str, &str> = text.lines().filter_map(|l| l.split_once('=')).collect();
    let name = lines.get("FDNAME").copied().unwrap_or("stored");
    let mut kept = kept.lock().unwrap();
    if lines.contains_key("FDSTORE") {
        assert_eq!(
            lines.get("FDPOLL"),
            Some(&"0"),
            "it would be closed with its first error"
        );
        assert!(!name.contains(':') && name.len() <= 255, "{name}");
        for descriptor in given {
            kept.insert(name.to_owned(), descriptor);
        }
    } else if lines.contains_key("FDSTOREREMOVE") {
        kept.remove(name);
    }
    true
}
