//! The command line and environment of `weft agent`.
//!
//! Flags have flanneld's names, types, defaults and Go's syntax; one table drives
//! parsing, environment, help text and what is said of flags that are not there yet. A
//! library such as clap is of no use here: Go's `-flag=value` with one dash, its booleans
//! that take a value only after `=`, and the `FLANNELD_*` rules would all have to be
//! written around it, and that is the whole of the work.

mod apply;
mod error;
mod etcd;
mod flag;
mod help;
mod kube;
mod syntax;
mod table;
mod value;

use crate::agent::{AgentOptions, LogFormat};
use crate::backend::EngineKind;
use crate::subnets::kube::NodeRef;
use crate::text::escaped;
pub use error::FlagError;
pub use etcd::{etcd_flags, etcd_options};
pub use flag::{By, Flag};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the agent.
    Run {
        /// All settings.
        options: Box<AgentOptions>,
        /// Flags and variables that were given, as they would be written; no secrets.
        given: Vec<String>,
        /// What was given and has no effect, one line each, for the log.
        warnings: Vec<String>,
    },
    /// Print the version.
    Version,
    /// Print this text.
    Help(String),
}

/// Read the arguments (without the program's name), then the environment through `env`.
///
/// A variable `FLANNELD_<NAME>` counts if its flag is not on the command line and it is not
/// empty; if its value is no value of the flag's type it is ignored with a warning.
pub fn parse(
    args: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, FlagError> {
    read(args, env).map_err(|FlagError(reason)| FlagError(escaped(&reason)))
}

/// What a complaint about a command line is to look like, as far as the line and the environment
/// still tell.
pub fn log_format(args: &[String], env: impl Fn(&str) -> Option<String>) -> LogFormat {
    let given = args.iter().enumerate().rev().find_map(|(index, arg)| {
        let text = arg.strip_prefix('-')?;
        let value = text.trim_start_matches('-').strip_prefix("log-format")?;
        match value.strip_prefix('=') {
            Some(value) => Some(value),
            None if value.is_empty() => args.get(index + 1).map(String::as_str),
            None => None,
        }
    });
    let given = given.map(str::to_owned);
    let given = given.or_else(|| env("FLANNELD_LOG_FORMAT"));
    given
        .and_then(|value| value.parse().ok())
        .unwrap_or_default()
}

fn read(
    args: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, FlagError> {
    let given = match syntax::read(args)? {
        Some(given) => given,
        None => return Ok(Command::Help(help::text())),
    };
    if given
        .iter()
        .rfind(|(flag, _)| flag.name == "version")
        .is_some_and(|(_, on)| value::parse_bool(on) == Some(true))
    {
        return Ok(Command::Version);
    }
    let (from_env, mut warnings) = syntax::read_env(&given, &env);
    let given = given
        .into_iter()
        .map(|(flag, value)| (flag, value, By::Flag));
    let from_env = from_env
        .into_iter()
        .map(|(flag, value)| (flag, value, By::Variable));
    let settings: Vec<_> = given.chain(from_env).collect();
    let mut options = apply::defaults();
    for (flag, value, by) in &settings {
        apply::apply(&mut options, flag, value, *by)?;
        warnings.extend(table::no_effect(flag, value, *by));
    }
    options.kube.node = NodeRef::from_env(&env);
    check_together(&options)?;
    let called = |is_it: fn(&str) -> bool| {
        let found = settings.iter().find(|(flag, ..)| is_it(flag.name));
        found.map(|(flag, _, by)| flag.called(*by))
    };
    let file = called(|name| name == "subnets-file").filter(|_| options.subnets_file.is_some());
    if let (Some(file), Some(etcd)) = (&file, called(|name| name.starts_with(etcd::PREFIX))) {
        let rule = "leases are either in a file or in etcd; leave one of them out";
        return Err(FlagError(format!("{file} and {etcd}: {rule}")));
    }
    let api = called(|name| name == "kube-subnet-mgr").filter(|_| options.kube_subnets);
    if let (Some(file), Some(api)) = (file, &api) {
        let rule = "leases are either in a file or in the Kubernetes API; leave one of them out";
        return Err(FlagError(format!("{file} and {api}: {rule}")));
    }
    if api.is_none() {
        warnings.extend(kube::unused(&settings));
    }
    let shown = |(flag, value, _): &(&Flag, String, By)| {
        format!("-{}={}", flag.name, flag.shown(value).escape_debug())
    };
    let given = settings.iter().map(shown).collect();
    Ok(Command::Run {
        options: Box::new(options),
        given,
        warnings,
    })
}

/// Rules for several flags at once.
fn check_together(options: &AgentOptions) -> Result<(), FlagError> {
    let workers = &options.backend.workers;
    if workers.engine == EngineKind::Ring && !workers.spin.is_zero() {
        let rule = "flag -spin-us is for the poll engine: with it, -engine must be auto or poll";
        return Err(FlagError(rule.to_owned()));
    }
    if options.remove_state && !options.remove {
        let rule = "flag -remove-state says what -remove takes away: give both";
        return Err(FlagError(rule.to_owned()));
    }
    if options.drain && !(options.remove && options.kube_subnets) {
        let rule = "flag -drain says what -remove takes away in a cluster: give both, and -kube-subnet-mgr";
        return Err(FlagError(rule.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
