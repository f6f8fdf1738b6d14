//! `weft ping`: another node through the tunnel, by each way.

use crate::agents::{self, Meant};
use crate::words::{self, Refusal, print};
use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use weft_control::ping::{self, PingOptions, PingReport};
use weft_control::socket::{self, Answer, Reply, Verb};
use weft_control::status::{NodeStatus, PeerStatus};
use weft_control::text::line;

const ENDS: &str = "\
Ends with 0, with 1 if a way had no answer, and with 2 if nothing could be measured or the command line is wrong.";

/// Measure round trip, loss and path MTU to another node through the tunnel, by the fast path and
/// by userspace
#[derive(Clone, Debug, Parser)]
#[command(name = "weft ping", disable_version_flag = true, after_help = ENDS)]
struct Args {
    /// The node: its subnet, its underlay address, a name for that, or an address in the subnet
    node: String,
    /// Requests by each way
    #[arg(short, long, default_value = "5", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Seconds from one request to the next
    #[arg(short, long, default_value = "0.2", value_parser = seconds)]
    interval: Duration,
    /// Bytes of data in each, besides 28 of headers (48 of IPv6)
    #[arg(short, long, default_value = "56", value_parser = clap::value_parser!(u16).range(0..=65_000))]
    size: u16,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    meant: Meant,
}

/// A pause between requests, of a millisecond at least.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "not a number of seconds from 0.001 to 60".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    match (0.001..=60.0).contains(&seconds) {
        true => Ok(Duration::from_secs_f64(seconds)),
        false => Err(wrong()),
    }
}

/// Act on the words after `weft ping`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft ping", words.iter().cloned());
    let args = match args {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft ping"),
    };
    match act(&args) {
        Ok(report) => {
            print(&told(&report, args.json));
            match report.is_answered() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(complaint) => {
            eprintln!("weft ping: {}", line(&complaint));
            ExitCode::from(2)
        }
    }
}

fn act(args: &Args) -> Result<PingReport, String> {
    let Known {
        socket,
        agent,
        status,
        peers,
    } = known(&args.meant)?;
    let target = ping::find(&args.node, &status, &peers, ping::resolve);
    let target = target.map_err(|error| error.to_string())?;
    let options = PingOptions {
        count: args.count,
        interval: args.interval,
        size: args.size.into(),
    };
    let report = ping::ping(&socket, &agent, &status, &target, options);
    report.map_err(|error| error.to_string())
}

/// What one agent says of its node.
pub(crate) struct Known {
    pub(crate) socket: PathBuf,
    pub(crate) agent: String,
    pub(crate) status: NodeStatus,
    pub(crate) peers: Vec<PeerStatus>,
}

/// Why there is nobody to ask. One line each.
#[derive(Debug)]
pub(crate) enum NotKnown {
    /// It was not said which of several agents.
    Several(String),
    /// None answers, or not with what it was asked for.
    Silent(String),
}

impl From<NotKnown> for String {
    fn from(why: NotKnown) -> String {
        match why {
            NotKnown::Several(line) | NotKnown::Silent(line) => line,
        }
    }
}

/// Ask the one agent that is meant.
pub(crate) fn known(meant: &Meant) -> Result<Known, NotKnown> {
    let found = meant.ask(&Verb::Status).map_err(NotKnown::Silent)?;
    let [(socket, Reply { agent, answer })] = &found[..] else {
        return Err(NotKnown::Several(agents::ambiguous(&found)));
    };
    let silent = |answer: &Answer| NotKnown::Silent(agents::refusal(answer));
    let Answer::Status(status) = answer else {
        return Err(silent(answer));
    };
    let reply = socket::ask(socket, &Verb::Peers);
    let reply = reply.map_err(|error| NotKnown::Silent(error.to_string()))?;
    let Answer::Peers(peers) = reply.answer else {
        return Err(silent(&reply.answer));
    };
    Ok(Known {
        socket: socket.clone(),
        agent: agent.clone(),
        status: status.as_ref().clone(),
        peers,
    })
}

fn told(report: &PingReport, json: bool) -> String {
    if json {
        let text = serde_json::to_string(report).unwrap_or_default();
        return format!("{text}\n");
    }
    // What others have written, such as the name of a device, must not end a line or hide one.
    let text = report.to_string();
    text.lines()
        .map(|text| format!("{}\n", line(text)))
        .collect()
}
