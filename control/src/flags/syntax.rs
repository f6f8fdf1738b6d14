//! Go's command line syntax and flanneld's environment variables.

use super::error::FlagError;
use super::flag::{Flag, Kind};
use super::table::{self, TABLE};
use super::value::parse_bool;
use crate::text::shown;

/// Flags with their values, in the order given.
pub(super) type Given = Vec<(&'static Flag, String)>;

/// Split arguments into flags and values; `None` if help is asked for.
pub(super) fn read(args: impl IntoIterator<Item = String>) -> Result<Option<Given>, FlagError> {
    let mut args = args.into_iter();
    let mut given = Vec::new();
    while let Some(arg) = args.next() {
        if arg == "--" {
            // As in Go, no flags follow; and flanneld takes nothing else.
            return match args.next() {
                None => Ok(Some(given)),
                Some(arg) => Err(unexpected(&arg)),
            };
        }
        let Some(text) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(unexpected(&arg));
        };
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text, None),
        };
        if name == "h" {
            return Ok(None);
        }
        let flag = known(name)?;
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Bool | Kind::Switch) => "true".to_owned(),
            (None, _) => args
                .next()
                .ok_or_else(|| FlagError(format!("flag needs an argument: -{name}")))?,
        };
        flag.check(&value).map_err(|wanted| {
            FlagError(format!(
                "invalid value {value:?} for flag -{name}: must be {wanted}"
            ))
        })?;
        if name == "help" && parse_bool(&value) == Some(true) {
            return Ok(None);
        }
        given.push((flag, value));
    }
    Ok(Some(given))
}

fn unexpected(arg: &str) -> FlagError {
    FlagError(format!(
        "unexpected argument {arg:?}: flags start with a dash"
    ))
}

/// Values of `FLANNELD_<NAME>` for flags not given, and a line for each that is unusable.
pub(super) fn read_env(
    given: &Given,
    env: impl Fn(&str) -> Option<String>,
) -> (Given, Vec<String>) {
    let mut values = Vec::new();
    let mut warnings = Vec::new();
    // What to do at all is for the command line to say: a unit whose environment has it would do
    // it at each start.
    let asked = |flag: &Flag| {
        !matches!(
            flag.name,
            "version" | "help" | "remove" | "remove-state" | "drain"
        )
    };
    for flag in TABLE.iter().filter(|flag| asked(flag)) {
        if given.iter().any(|(other, _)| *other == flag) {
            continue;
        }
        let variable = flag.variable();
        let Some(value) = env(&variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        match flag.check(&value) {
            Ok(()) => values.push((flag, value)),
            Err(wanted) => warnings.push(format!(
                "{variable}={value:?} is ignored: must be {wanted}; using the default {:?}",
                flag.default
            )),
        }
    }
    (values, warnings)
}

fn known(name: &str) -> Result<&'static Flag, FlagError> {
    table::find(name).ok_or_else(|| match name {
        "" => FlagError("a flag without a name; see -help".to_owned()),
        name => {
            let hint = match table::nearest(name.trim_start_matches('-')) {
                Some(nearest) => format!("did you mean -{nearest}?"),
                None => "-help lists all".to_owned(),
            };
            FlagError(format!("unknown flag -{}; {hint}", shown(name)))
        }
    })
}
