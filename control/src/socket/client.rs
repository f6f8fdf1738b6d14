//! The side of who asks: blocking, as there is nothing else to do meanwhile.

use super::place;
use super::protocol::{ANSWER_MAX, Answer, Reply, Verb};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the agent may take.
const TIME: Duration = Duration::from_secs(20);

/// Why there is no answer. One line.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The directory cannot be read.
    #[error("no agent is seen in {}: {source}{}", dir.display(), as_root(source))]
    Dir {
        /// The directory.
        dir: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// The agent cannot be asked.
    #[error("{}: {reason}", path.display())]
    Agent {
        /// Its socket.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What to do about an error, if that is known.
fn as_root(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; it takes root",
        _ => "",
    }
}

/// The sockets in `dir` that an agent answers on, and what each says to `request`. Those of agents
/// that were killed are left out.
pub fn find(dir: &Path, request: &Verb) -> Result<Vec<(PathBuf, Reply)>, AskError> {
    let sockets = place::all(dir).map_err(|source| AskError::Dir {
        dir: dir.to_owned(),
        source,
    })?;
    let mut found = Vec::new();
    for path in sockets {
        match UnixStream::connect(&path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            connected => {
                let reply = connected.and_then(|stream| exchange(stream, request));
                let reply = reply.map_err(|error| failed(&path, &error))?;
                found.push((path, reply));
            }
        }
    }
    Ok(found)
}

/// Ask the agent called `agent` whose socket is in `dir` for something that a conversation follows
/// on; `None` if there is none.
pub fn begin(dir: &Path, agent: &str, request: &Verb) -> Result<Option<UnixStream>, AskError> {
    let path = place::path(dir, agent);
    let begun = UnixStream::connect(&path).and_then(|mut stream| {
        stream.set_write_timeout(Some(TIME))?;
        stream.write_all(request.line().as_bytes())?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    match begun {
        Ok(stream) => Ok(Some(stream)),
        Err(error) if is_nobody(&error) => Ok(None),
        Err(error) => Err(failed(&path, &error)),
    }
}

/// Whether nobody listens: there is no socket, or that of an agent that has ended.
fn is_nobody(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
    kinds.contains(&error.kind())
}

/// Ask the agent whose socket is at `path`; what it says, if that is no error.
pub fn ask(path: &Path, request: &Verb) -> Result<Reply, AskError> {
    let reply = UnixStream::connect(path).and_then(|stream| exchange(stream, request));
    let reply = reply.map_err(|error| failed(path, &error))?;
    match &reply.answer {
        Answer::Error(reason) => Err(AskError::Agent {
            path: path.to_owned(),
            reason: reason.clone(),
        }),
        Answer::FastPath(_) | Answer::Status(_) | Answer::Peers(_) => Ok(reply),
    }
}

fn failed(path: &Path, error: &io::Error) -> AskError {
    AskError::Agent {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn exchange(mut stream: UnixStream, request: &Verb) -> io::Result<Reply> {
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    stream.write_all(request.line().as_bytes())?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream).take(ANSWER_MAX);
    reader.read_until(b'\n', &mut line)?;
    Reply::read(&line).map_err(io::Error::other)
}
