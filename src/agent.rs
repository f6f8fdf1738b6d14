//! `weft agent`: the command line, and the way out.

use crate::{log, version};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use weft_control::agent::{self, AgentOptions};
use weft_control::flags::{self, Command, FlagError};

/// Run a node until it is told to stop.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    match flags::parse(args, env) {
        Ok(Command::Run {
            options,
            given,
            warnings,
        }) => start(&options, &given, &warnings),
        Ok(Command::Version) => {
            // On stderr, as flanneld does.
            status(writeln!(io::stderr(), "{}", version::TEXT))
        }
        Ok(Command::Help(text)) => status(io::stdout().write_all(text.as_bytes())),
        Err(error) => {
            // Where nobody can be told, the status still tells.
            let _ = writeln!(io::stderr(), "weft agent: {error}");
            ExitCode::from(FlagError::EXIT_STATUS)
        }
    }
}

/// Of a command that only writes.
fn status(written: io::Result<()>) -> ExitCode {
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn start(options: &AgentOptions, given: &[String], warnings: &[String]) -> ExitCode {
    log::start(options.log_level());
    tracing::info!("{} starting with {}", version::TEXT, settings(given));
    for warning in warnings {
        tracing::warn!(code = "W0102", "{warning}");
    }
    let outcome = match options.remove {
        true => agent::remove(options).map_err(|error| (error.code(), error.to_string())),
        false => agent::run(options).map_err(|error| (error.code(), error.to_string())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            tracing::error!(code, "{error}");
            ExitCode::FAILURE
        }
    }
}

/// What was asked for, in one line.
fn settings(given: &[String]) -> String {
    match given {
        [] => "all settings at their defaults".to_owned(),
        given => given.join(" "),
    }
}
