//! `weft fast-path`: how the fast path of a running agent is, and another mode for it.

use crate::agents::{self, ENDS, Meant};
use crate::words::{self, Refusal, print};
use clap::{Parser, ValueEnum};
use std::ffi::OsString;
use std::process::ExitCode;
use weft_control::backend::FastPathMode;
use weft_control::socket::{self, Answer, Reply, Verb};
use weft_control::text::line;

/// Ask a running agent how its fast path is, or switch it; the agent's flag counts again when it
/// starts again
#[derive(Clone, Debug, Parser)]
#[command(name = "weft fast-path", disable_version_flag = true, after_help = ENDS)]
struct Args {
    #[arg(default_value = "show")]
    action: Switch,
    #[command(flatten)]
    meant: Meant,
}

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

fn act(args: &Args) -> Result<String, String> {
    let found = args.meant.ask(&Verb::FastPath { mode: None })?;
    let (path, shown) = match (&found[..], args.action.mode()) {
        ([(path, reply)], _) => (path, reply),
        (several, None) => return told(several.iter().map(|(_, reply)| reply), true),
        (several, Some(_)) => return Err(agents::ambiguous(several)),
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
            Answer::FastPath(tunnels) if tunnels.is_empty() => {
                text += &format!("{prefix}no tunnel: the kernel carries all packets by itself\n");
            }
            Answer::FastPath(tunnels) => {
                for tunnel in tunnels {
                    text += &format!("{prefix}{}\n", line(&tunnel.to_string()));
                }
            }
            other if !named => return Err(agents::refusal(other)),
            other => text += &format!("{prefix}{}\n", agents::refusal(other)),
        }
    }
    Ok(text)
}
