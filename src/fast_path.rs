//! `weft fast-path`: how the fast path of a running agent is, and another mode for it.

use crate::words::{self, Refusal, print};
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use weft_control::backend::FastPathMode;
use weft_control::socket::{self, Answer, Reply, Verb};
use weft_control::text::line;

/// Ask a running agent how its fast path is, or switch it; the agent's flag counts again when it
/// starts again
#[derive(Clone, Debug, Parser)]
#[command(name = "weft fast-path", disable_version_flag = true, after_help = AFTER)]
struct Args {
    #[arg(default_value = "show")]
    action: Switch,
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

const AFTER: &str = "\
Ends with 0, with 1 if no agent answers or more than one could be meant, and with 2 if the command line is wrong.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Switch {
    /// How it is
    Show,
    /// Packets that are cheaper in the kernel
    Auto,
    /// All packets that it can carry
    On,
    /// None
    Off,
}

impl Switch {
    fn mode(self) -> Option<FastPathMode> {
        match self {
            Switch::Show => None,
            Switch::Auto => Some(FastPathMode::Auto),
            Switch::On => Some(FastPathMode::On),
            Switch::Off => Some(FastPathMode::Off),
        }
    }
}

/// Act on the words after `weft fast-path`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft fast-path", words.iter().cloned());
    let args = match args {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft fast-path"),
    };
    match act(&args) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("weft fast-path: {}", line(&complaint));
            ExitCode::FAILURE
        }
    }
}

/// The names of agents that have answered.
fn names(found: &[(PathBuf, Reply)]) -> String {
    let names: Vec<&str> = found.iter().map(|(_, r)| r.agent.as_str()).collect();
    names.join("; ")
}

fn act(args: &Args) -> Result<String, String> {
    let dir = &args.socket_dir;
    let show = Verb::FastPath { mode: None };
    let mut found = socket::find(dir, &show).map_err(|error| error.to_string())?;
    let meant = |name: &str| args.agent.as_ref().is_none_or(|part| name.contains(part));
    let all = names(&found);
    found.retain(|(_, reply)| meant(&reply.agent));
    let names = names(&found);
    let (path, shown) = match (&found[..], args.action.mode()) {
        ([], _) if all.is_empty() => return Err(format!("no agent answers in {}", dir.display())),
        ([], _) => return Err(format!("--agent names none of those that answer: {all}")),
        (several @ [_, _, ..], None) => return told(several.iter().map(|(_, reply)| reply), true),
        ([_, _, ..], Some(_)) => {
            return Err(format!(
                "several agents run, choose one by --agent: {names}"
            ));
        }
        ([(path, reply)], _) => (path, reply),
    };
    let Some(mode) = args.action.mode() else {
        return told([shown], false);
    };
    let request = Verb::FastPath { mode: Some(mode) };
    let reply = socket::ask(path, &request).map_err(|error| error.to_string())?;
    told([&reply], false)
}

/// What agents say, a line for each of their tunnels.
fn told<'a>(replies: impl IntoIterator<Item = &'a Reply>, named: bool) -> Result<String, String> {
    let mut text = String::new();
    for Reply { agent, answer } in replies {
        let prefix = match named {
            true => format!("{}: ", line(agent)),
            false => String::new(),
        };
        match answer {
            Answer::Error(reason) if !named => return Err(reason.clone()),
            Answer::Error(reason) => text += &format!("{prefix}{}\n", line(reason)),
            Answer::FastPath(tunnels) if tunnels.is_empty() => {
                text += &format!("{prefix}no tunnel: the kernel carries all packets by itself\n");
            }
            Answer::FastPath(tunnels) => {
                for tunnel in tunnels {
                    text += &format!("{prefix}{}\n", line(&tunnel.to_string()));
                }
            }
        }
    }
    Ok(text)
}
