//! `weft status`: what a running agent and its node are doing.

use crate::agents::{self, ENDS, Meant};
use crate::words::{self, Refusal, print};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;
use weft_control::socket::{Answer, Reply, Verb};
use weft_control::text::line;

/// Tell what this node is doing: lease, peers, store, and how packets go
#[derive(Clone, Debug, Parser)]
#[command(name = "weft status", disable_version_flag = true, after_help = ENDS)]
struct Args {
    /// As JSON, a line for each agent
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    meant: Meant,
}

/// Act on the words after `weft status`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft status", words.iter().cloned());
    let args = match args {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft status"),
    };
    match act(&args) {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(complaint) => {
            eprintln!("weft status: {}", line(&complaint));
            ExitCode::FAILURE
        }
    }
}

fn act(args: &Args) -> Result<String, String> {
    let found = args.meant.ask(&Verb::Status)?;
    let several = found.len() > 1;
    let told = |reply: &Reply| told(reply, args.json, several);
    let all: Result<Vec<String>, String> = found.iter().map(|(_, reply)| told(reply)).collect();
    Ok(all?.join(if args.json { "" } else { "\n" }))
}

/// What one agent says of itself, with its name if it is one of `several`.
fn told(Reply { agent, answer }: &Reply, json: bool, several: bool) -> Result<String, String> {
    let name = line(agent);
    let status = match answer {
        Answer::Status(status) => status,
        other if several && !json => return Ok(format!("{name}: {}\n", agents::refusal(other))),
        other => return Err(agents::refusal(other)),
    };
    if json {
        let mut object = serde_json::json!({ "agent": agent });
        if let (Some(object), Ok(serde_json::Value::Object(status))) =
            (object.as_object_mut(), serde_json::to_value(status))
        {
            object.extend(status);
        }
        return Ok(format!("{object}\n"));
    }
    // What others have written, such as the name of a device, must not end a line or hide one.
    let text = status.to_string();
    let lines = text.lines().map(|text| format!("{}\n", line(text)));
    let head = several.then(|| format!("{name}:\n"));
    Ok(head.into_iter().chain(lines).collect())
}
