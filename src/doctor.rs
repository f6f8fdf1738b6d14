//! `weft doctor`: what is wrong with this node and the ways to others, and what mends it.

mod table;

use crate::agents::Meant;
use crate::ping::{Known, NotKnown, known};
use crate::words::{self, Refusal, print};
use clap::Parser;
use std::ffi::OsString;
use std::process::ExitCode;
use weft_control::doctor::{self, Asked, CheckVerdict, Finding};
use weft_control::ping;
use weft_control::text::line;

const ENDS: &str = "\
Ends with 0, with 1 if a check has failed (a warning is none), and with 2 if the command line is wrong.";

/// Look for what is wrong with this node and the ways to others, and tell what mends it
#[derive(Clone, Debug, Parser)]
#[command(name = "weft doctor", disable_version_flag = true, after_help = ENDS)]
struct Args {
    /// Ask this node alone of all others: its subnet, its underlay address, or a name for that
    #[arg(long, value_name = "NODE")]
    peer: Option<String>,
    /// As JSON, a line for each check
    #[arg(long)]
    json: bool,
    /// Tell of what is well, too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    meant: Meant,
}

/// Act on the words after `weft doctor`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft doctor", words.iter().cloned());
    let args = match args {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft doctor"),
    };
    let asked = match asked(&args) {
        Ok(asked) => asked,
        Err(complaint) => {
            eprintln!("weft doctor: {}", line(&complaint));
            return ExitCode::from(2);
        }
    };
    let facts = doctor::gather(asked);
    let findings = doctor::examine(&facts);
    let text = match args.json {
        true => findings.iter().map(json).collect(),
        false => table::told(&findings, args.all),
    };
    print(&text);
    match findings
        .iter()
        .any(|finding| finding.verdict == CheckVerdict::Failure)
    {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Whom to ask, or why there is no agent. The error is that the command line does not say which
/// agent, or names no node.
fn asked(args: &Args) -> Result<Result<Asked, String>, String> {
    let Known {
        socket,
        agent,
        status,
        peers,
    } = match known(&args.meant) {
        Ok(known) => known,
        Err(NotKnown::Silent(reason)) => return Ok(Err(reason)),
        Err(NotKnown::Several(complaint)) => return Err(complaint),
    };
    let chosen = match &args.peer {
        None => peers.clone(),
        Some(given) => {
            let target = ping::find(given, &status, &peers, ping::resolve);
            vec![target.map_err(|error| error.to_string())?.peer]
        }
    };
    Ok(Ok(Asked {
        socket,
        agent,
        status,
        peers,
        chosen,
    }))
}

fn json(finding: &Finding) -> String {
    format!("{}\n", serde_json::to_string(finding).unwrap_or_default())
}
