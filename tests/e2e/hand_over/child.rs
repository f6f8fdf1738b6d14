//! Successors that fail, each a process of its own: the agent that it leaves hanging may end it.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Uid;
use rustix::thread::set_thread_uid;
use serde_json::json;
use std::fs::Permissions;
use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use weft_control::hand_over::VERSION;
use weft_lab::Agent;

/// What the process is to do, in its environment, and whom to ask.
const STEP: &str = "WEFT_TEST_SUCCESSOR";
const SOCKET: &str = "WEFT_TEST_SOCKET";
const CLAIM: &str = "WEFT_TEST_CLAIM";

/// How long a process may take to end that is not wanted any more.
const END: Duration = Duration::from_secs(20);

pub(super) struct Child(std::process::Child);

impl Child {
    /// Start one that takes over from `agent` up to this step.
    pub(super) fn start(agent: &Agent, step: &str) -> Child {
        let socket = socket(agent);
        let file = agent.subnet_file();
        let name = format!("/coreos.com/network {}", file.display());
        let (mut version, mut name, mut dir) =
            (VERSION, name, agent.state_dir().display().to_string());
        match step {
            "another version" => version = 7,
            "another agent" => name = "/other /run/subnet.env".to_owned(),
            "another state" => dir = "/other".to_owned(),
            _ => {}
        }
        let claim = json!({
            "version": 1,
            "verb": "hand-over",
            "hand-over": version,
            "weft": "weft 9.9.9",
            "agent": name,
            "state-dir": dir,
            "what-others-may-say": true,
        });
        let process = Command::new(std::env::current_exe().unwrap())
            .args([
                "hand_over::child::a_successor_that_fails",
                "--exact",
                "--nocapture",
            ])
            .env(STEP, step)
            .env(SOCKET, socket)
            .env(CLAIM, format!("{claim}\n"))
            .stdout(Stdio::null())
            .spawn();
        Child(process.unwrap())
    }

    /// Wait until it has ended, by itself or because somebody has ended it.
    pub(super) fn expect_end(&mut self) {
        let begun = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < END, "it still runs");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The socket of an agent.
fn socket(agent: &Agent) -> PathBuf {
    let sockets = std::fs::read_dir(agent.socket_dir()).unwrap();
    let mut sockets: Vec<PathBuf> = sockets.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(sockets.len(), 1, "{sockets:?}");
    sockets.remove(0)
}

/// What an agent says to somebody who is not root, though he may open its socket.
pub(super) fn ask_as_nobody(agent: &Agent) -> String {
    let (dir, socket) = (agent.socket_dir(), socket(agent));
    let allow = |path: &Path, mode| {
        std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    for ancestor in dir.ancestors().take(3) {
        allow(ancestor, 0o755);
    }
    allow(&socket, 0o666);
    let ask = move || {
        // Of this thread alone.
        set_thread_uid(Uid::from_raw(65_534)).unwrap();
        let mut stream = UnixStream::connect(socket).unwrap();
        let _ = stream.write_all(b"{}\n");
        heard(&stream).0
    };
    std::thread::spawn(ask).join().unwrap()
}

/// A message, with its descriptors.
fn heard(stream: &UnixStream) -> (String, Vec<OwnedFd>) {
    let (mut text, mut given) = (Vec::new(), Vec::new());
    while text.last() != Some(&b'\n') {
        let mut bytes = [0; 4096];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let read = recvmsg(stream, &mut pieces, &mut control, RecvFlags::empty()).unwrap();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                given.extend(descriptors);
            }
        }
        assert!(read.bytes > 0, "it has hung up");
        text.extend_from_slice(&bytes[..read.bytes]);
    }
    (String::from_utf8(text).unwrap(), given)
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// Of no use but in a process of its own, which this ends.
#[test]
fn a_successor_that_fails() {
    let Ok(step) = std::env::var(STEP) else {
        return;
    };
    let [socket, claim] = [SOCKET, CLAIM].map(|name| std::env::var(name).unwrap());
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.write_all(claim.as_bytes()).unwrap();
    let (text, given) = heard(&stream);
    if text.contains("error") {
        return;
    }
    assert!(text.contains("\"offer\""), "{text}");
    assert!(given.len() > 3, "{}", given.len());
    let mut say = |text: &str| writeln!(stream, "{text}").unwrap();
    match step.as_str() {
        "says no" => return say(r#"{"error":"the moon is wrong"}"#),
        "says junk" => return say("\u{1b}[31m{]"),
        "is out of turn" => return say(r#"{"running":{}}"#),
        "is silent" => {
            // Until it is told that nobody waits any more.
            let (text, _) = heard(&stream);
            return assert!(text.contains("error"), "{text}");
        }
        "ends after the offer" => return,
        _ => say(r#"{"ready":{}}"#),
    }
    if step == "ends when it is ready" {
        return;
    }
    let (text, _) = heard(&stream);
    assert!(text.contains("\"yours\""), "{text}");
    let mut say = |text: &str| writeln!(stream, "{text}").unwrap();
    match step.as_str() {
        "gives up at its turn" => say(r#"{"error":"the moon is wrong"}"#),
        "hangs at its turn" => hang(),
        _ => {}
    }
}
