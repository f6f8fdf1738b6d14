//! `weft agent`: the command line, and the way out.

use crate::{log, version};
use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use tracing::Level;
use weft_control::agent::{self, AgentOptions, LogFormat};
use weft_control::flags::{self, Command, FlagError};

/// Run a node until it is told to stop.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let args = args.iter().map(|arg| arg.to_string_lossy().into_owned());
    let args: Vec<String> = args.collect();
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    match flags::parse(args.iter().cloned(), env) {
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
            refuse(&error, flags::log_format(&args, env));
            ExitCode::from(FlagError::EXIT_STATUS)
        }
    }
}

/// Say why a command line is of no use.
fn refuse(error: &FlagError, format: LogFormat) {
    match format {
        LogFormat::Text => {
            // Where nobody can be told, the status still tells.
            let _ = writeln!(io::stderr(), "weft agent: {} {error}", FlagError::CODE);
        }
        LogFormat::Json => {
            log::start(Level::INFO, format);
            tracing::error!(code = FlagError::CODE, "{error}");
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
    log::start(options.log_level(), options.log_format);
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
