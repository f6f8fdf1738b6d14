//! How to reach etcd: the agent's flags, read by clap.

use clap::builder::OsStr;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use weft_control::flags::{self, By, Flag};
use weft_control::subnets::etcd::EtcdOptions;

/// What is given or, without that, the agent's defaults. An empty value is none: flanneld's
/// environment files have those.
#[derive(Clone, Debug)]
pub(crate) struct Etcd(EtcdOptions);

impl Etcd {
    pub(crate) fn options(&self) -> &EtcdOptions {
        &self.0
    }
}

impl Args for Etcd {
    fn augment_args(command: Command) -> Command {
        let command = command.next_help_heading("etcd");
        command.args(flags::etcd_flags().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Etcd::augment_args(command)
    }
}

impl FromArgMatches for Etcd {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Etcd, clap::Error> {
        let given = |name: &str| {
            let value = matches.get_one::<String>(name)?;
            let by = match matches.value_source(name) {
                Some(ValueSource::EnvVariable) => By::Variable,
                _ => By::Flag,
            };
            (!value.is_empty()).then(|| (value.clone(), by))
        };
        let options = flags::etcd_options(given);
        options
            .map(Etcd)
            .map_err(|error| clap::Error::raw(ErrorKind::ValueValidation, error))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Etcd::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A flag of the agent's as one of clap's, which may stand before and behind the subcommand.
fn argument(flag: &'static Flag) -> Arg {
    let value = match flag.name {
        "etcd-endpoints" => "URLS",
        "etcd-prefix" => "PATH",
        name if name.ends_with("file") => "FILE",
        _ => "TEXT",
    };
    let argument = Arg::new(flag.name)
        .long(flag.name)
        .global(true)
        .value_name(value)
        .env(OsStr::from(flag.variable()))
        .hide_env(true)
        .help(flag.help);
    match flag.default {
        "" => argument,
        default => argument.default_value(default),
    }
}
