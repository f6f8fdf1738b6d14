//! `weft connectivity`: every pair of many nodes, as a matrix.

mod rows;

use crate::agents::Meant;
use crate::ping::{Known, known};
use crate::words::{self, Refusal, print};
use clap::Parser;
use rows::Runner;
use std::ffi::OsString;
use std::process::ExitCode;
use weft_control::connectivity::{self, Matrix, Named, Row};
use weft_control::text::line;

const ENDS: &str = "\
Without nodes this node alone is measured, to all that it knows; with --json that is a row for a matrix. A node is \
the name of a file with such a row, if there is one, or else what --run makes a command of.

Ends with 0, with 1 if a pair has lost packets or could not be measured, and with 2 if nothing could be or the \
command line is wrong.";

/// Measure every pair of many nodes through the tunnel, and show them as a matrix
#[derive(Clone, Debug, Parser)]
#[command(name = "weft connectivity", disable_version_flag = true, after_help = ENDS)]
struct Args {
    /// Names of nodes, or files with their rows
    nodes: Vec<String>,
    /// What runs a command on a node, {node} being its name; words are split at spaces, and no
    /// shell sees them here
    #[arg(
        long,
        value_name = "COMMAND",
        default_value = "ssh -o BatchMode=yes -o ConnectTimeout=5 {node}"
    )]
    run: String,
    /// weft on the nodes
    #[arg(long, value_name = "PROGRAM", default_value = "weft")]
    weft: String,
    /// Requests to each node
    #[arg(short, long, default_value = "3", value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    /// As JSON: this node's row, or all pairs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    meant: Meant,
}

/// Act on the words after `weft connectivity`.
pub(crate) fn run(words: &[OsString]) -> ExitCode {
    let args: Result<Args, Refusal> = words::parse("weft connectivity", words.iter().cloned());
    let args = match args {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft connectivity"),
    };
    let outcome = match args.nodes.is_empty() {
        true => own(&args),
        false => Ok(all(&args)),
    };
    outcome.unwrap_or_else(|complaint| {
        eprintln!("weft connectivity: {}", line(&complaint));
        ExitCode::from(2)
    })
}

/// This node's row.
fn own(args: &Args) -> Result<ExitCode, String> {
    let Known {
        agent,
        status,
        peers,
        ..
    } = known(&args.meant)?;
    let row = connectivity::measure(&agent, &status, &peers, args.count);
    let row = row.map_err(|error| error.to_string())?;
    match args.json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string(&row).unwrap_or_default()
        )),
        false => print(&told(&row)),
    }
    let is_well = |entry: &connectivity::Reached| entry.received == entry.sent && entry.whole;
    Ok(match row.peers.iter().all(is_well) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A row for people, a line for each node.
fn told(row: &Row) -> String {
    let mut text = String::new();
    for entry in &row.peers {
        let (subnet, public) = (entry.subnet.to_string(), entry.public.to_string());
        let cell = connectivity::Cell::Measured(entry);
        let why = entry.refusal.as_deref().map_or(String::new(), line);
        text += format!("{subnet:<18} {public:<15} {:>7} {why}", cell.to_string()).trim_end();
        text.push('\n');
    }
    text
}

/// All pairs of the nodes that are named.
fn all(args: &Args) -> ExitCode {
    let runner = Runner {
        run: &args.run,
        weft: &args.weft,
        count: args.count,
    };
    let matrix = Matrix::new(runner.rows(&args.nodes));
    match args.json {
        true => print(&json(&matrix)),
        false => {
            let text = matrix.to_string();
            print(
                &text
                    .lines()
                    .map(|text| format!("{}\n", line(text)))
                    .collect::<String>(),
            );
        }
    }
    match (
        matrix.faults().is_empty(),
        matrix.missing().count() == args.nodes.len(),
    ) {
        (true, _) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
        (false, true) => ExitCode::from(2),
    }
}

fn json(matrix: &Matrix) -> String {
    let missing = matrix
        .missing()
        .map(|(name, why)| serde_json::json!({ "node": name, "reason": why }));
    let missing: Vec<serde_json::Value> = missing.collect();
    let all = serde_json::json!({ "version": 1, "pairs": matrix.pairs(), "missing": missing });
    format!("{all}\n")
}

/// A node whose row cannot be had.
fn without(name: &str, reason: impl Into<String>) -> Named {
    Named {
        name: name.to_owned(),
        row: Err(reason.into()),
    }
}
