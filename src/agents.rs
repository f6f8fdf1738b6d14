//! Which of the agents on this host is asked over its local socket.

use clap::Args;
use std::path::PathBuf;
use weft_control::socket::{self, Answer, Reply, Verb};
use weft_control::text::line;

/// How commands that ask an agent end.
pub(crate) const ENDS: &str = "\
Ends with 0, with 1 if no agent answers or more than one could be meant, and with 2 if the command line is wrong.";

/// Which agents are meant.
#[derive(Args, Clone, Debug)]
pub(crate) struct Meant {
    /// The agent that is meant, where several run: a part of its name
    #[arg(long, value_name = "TEXT")]
    agent: Option<String>,
    /// The agent's -socket-dir
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/run/weft",
        env = "FLANNELD_SOCKET_DIR"
    )]
    socket_dir: PathBuf,
}

impl Meant {
    /// Ask all that are meant; their sockets and answers, of one at least.
    pub(crate) fn ask(&self, request: &Verb) -> Result<Vec<(PathBuf, Reply)>, String> {
        let dir = &self.socket_dir;
        let mut found = socket::find(dir, request).map_err(|error| error.to_string())?;
        let all = names(&found);
        let meant = |name: &str| self.agent.as_ref().is_none_or(|part| name.contains(part));
        found.retain(|(_, reply)| meant(&reply.agent));
        match (found.is_empty(), all.is_empty()) {
            (false, _) => Ok(found),
            (true, true) => Err(format!("no agent answers in {}", dir.display())),
            (true, false) => Err(format!("--agent names none of those that answer: {all}")),
        }
    }
}

/// That one of several agents has to be chosen.
pub(crate) fn ambiguous(found: &[(PathBuf, Reply)]) -> String {
    let names = names(found);
    format!("several agents run, choose one by --agent: {names}")
}

/// Why an agent says nothing of what it was asked for.
pub(crate) fn refusal(answer: &Answer) -> String {
    match answer {
        Answer::Error(reason) => line(reason),
        _ => "the agent has answered something else".to_owned(),
    }
}

/// The names of agents that have answered.
fn names(found: &[(PathBuf, Reply)]) -> String {
    let names: Vec<&str> = found.iter().map(|(_, r)| r.agent.as_str()).collect();
    names.join("; ")
}
