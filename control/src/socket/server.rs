//! The agent's side.

use super::place;
use super::protocol::{Answer, REQUEST_MAX, Reply, Verb};
use crate::connections::Connections;
use crate::hand_over::Claim;
use std::fs::{self, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// Connections that are open at a time.
const CONNECTIONS: usize = 8;

/// How long a client may take to ask, and to read its answer.
const CLIENT_TIME: Duration = Duration::from_secs(5);

/// How long the agent's loop may take to answer: as long as its slowest task.
const AGENT_TIME: Duration = Duration::from_secs(10);

/// What is answered when too many wait.
const BUSY: &str = "the agent is busy with other requests; try again";

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// What comes to the agent.
#[derive(Debug)]
pub enum Call {
    /// A request, and whom to answer.
    Question(Verb, AnswerTo),
    /// A process that is to take over, and the connection to it.
    Successor(Claim, UnixStream),
}

/// Who waits for an answer.
#[derive(Debug)]
pub struct AnswerTo(oneshot::Sender<Answer>);

impl AnswerTo {
    /// Tell the client.
    pub fn answer(self, answer: Answer) {
        // It may have gone.
        let _ = self.0.send(answer);
    }
}

/// Requests, as they come.
#[derive(Debug, Default)]
pub struct Calls(Option<mpsc::Receiver<Call>>);

impl Calls {
    /// Wait for the next one; for ever, if there is no socket.
    pub async fn next(&mut self) -> Call {
        let next = match &mut self.0 {
            Some(calls) => calls.recv().await,
            None => None,
        };
        match next {
            Some(call) => call,
            None => std::future::pending().await,
        }
    }
}

/// A socket that is there until this is dropped.
#[derive(Debug)]
pub struct LocalSocket {
    path: PathBuf,
    server: JoinHandle<()>,
}

impl LocalSocket {
    /// Listen in `dir` on the current runtime, for the agent called `agent`.
    pub fn start(dir: &Path, agent: &str) -> Result<(LocalSocket, Calls), SocketError> {
        let path = place::path(dir, agent);
        let failed = |source| SocketError {
            path: path.clone(),
            source,
        };
        let listener = listen(dir, &path).map_err(failed)?;
        let (sender, calls) = mpsc::channel(CONNECTIONS);
        let server = tokio::spawn(serve(listener, agent.to_owned(), sender));
        Ok((LocalSocket { path, server }, Calls(Some(calls))))
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        self.server.abort();
        let _ = fs::remove_file(&self.path);
    }
}

fn listen(dir: &Path, path: &Path) -> io::Result<UnixListener> {
    place::prepare(dir)?;
    if !place::make_room(path)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn serve(listener: UnixListener, agent: String, calls: mpsc::Sender<Call>) {
    let mut open = Connections::new(CONNECTIONS);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.add(connection(stream, agent.clone(), calls.clone()))
                    .await
            }
            Err(error) => {
                // Out of file descriptors, most likely: each that is closed is one.
                debug!("cannot accept a connection to the local socket: {error}");
                if !open.close_oldest().await {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn connection(stream: UnixStream, agent: String, calls: mpsc::Sender<Call>) {
    let own = rustix::process::geteuid().as_raw();
    let is_root = |uid| uid == 0 || uid == own;
    let allowed = stream.peer_cred().is_ok_and(|peer| is_root(peer.uid()));
    let mut stream = BufReader::new(stream);
    let asked = match allowed {
        true => request(&mut stream).await,
        false => Err("only root may ask".to_owned()),
    };
    let answer = match asked {
        // It says no more before it is answered, so that nothing is left in the buffer.
        Ok(Verb::HandOver(claim)) => match calls.try_reserve() {
            Ok(place) => return place.send(Call::Successor(claim, stream.into_inner())),
            Err(_) => Answer::Error(BUSY.to_owned()),
        },
        Ok(verb) => answer(verb, &calls).await,
        Err(reason) => Answer::Error(reason),
    };
    let line = Reply { agent, answer }.line();
    // A client that breaks off is its own concern.
    let _ = timeout(CLIENT_TIME, stream.get_mut().write_all(line.as_bytes())).await;
}

async fn request(stream: &mut BufReader<UnixStream>) -> Result<Verb, String> {
    Verb::read(&line(stream).await?)
}

async fn answer(verb: Verb, calls: &mpsc::Sender<Call>) -> Answer {
    let answered = async {
        let (answer, answered) = oneshot::channel();
        calls
            .try_send(Call::Question(verb, AnswerTo(answer)))
            .map_err(|_| BUSY.to_owned())?;
        let answered = within(AGENT_TIME, answered).await;
        answered.ok_or("the agent is ending, or has not come so far yet: it waits for its network config, for a lease, or is busy; try again")?
            .map_err(|_| "the agent is ending".to_owned())
    };
    answered.await.unwrap_or_else(Answer::Error)
}

/// One line, without more than that.
async fn line(stream: &mut BufReader<UnixStream>) -> Result<Vec<u8>, String> {
    let mut line = Vec::new();
    let mut limited = stream.take(REQUEST_MAX as u64);
    let read = within(CLIENT_TIME, limited.read_until(b'\n', &mut line)).await;
    read.ok_or("no request within 5 s")?
        .map_err(|error| error.to_string())?;
    match line.pop() {
        Some(b'\n') => Ok(line),
        _ if line.len() + 1 >= REQUEST_MAX => Err("the request is too long".to_owned()),
        _ => Err("the request ends without a line break".to_owned()),
    }
}

async fn within<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    timeout(time, future).await.ok()
}

#[cfg(test)]
mod tests;
