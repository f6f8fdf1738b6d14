//! What a flag is: the type of its value, how it is called, and what may be shown of it.

use super::error::FlagError;
use super::value::{parse_bool, parse_int, parse_switch};
use Kind::{Bool, Int, Repeated, Switch, Text};

/// One flag.
#[derive(Debug, PartialEq, Eq)]
pub struct Flag {
    /// Its name, without dashes.
    pub name: &'static str,
    pub(super) kind: Kind,
    /// The default as it would be written on the command line.
    pub default: &'static str,
    /// What it is for; empty of a flag that does nothing.
    pub help: &'static str,
    pub(super) status: Status,
}

/// The type of a flag's value, as Go's `flag` package has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    /// A `Bool` that can also be left to weft: `auto`, and `on` and `off` for both others.
    Switch,
    Text,
    /// Text; each further value is added.
    Repeated,
}

/// Whether a flag does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Works,
    /// As `Works`, and the value must not be shown.
    Secret,
    /// flanneld has it and weft takes it, but it does nothing; the reason.
    NoEffect(&'static str),
}

/// How a setting was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// On the command line.
    Flag,
    /// By the environment variable of its flag.
    Variable,
}

impl Flag {
    /// The environment variable that counts where the flag is not given.
    pub fn variable(&self) -> String {
        let name = self.name.to_ascii_uppercase().replace(['-', '.'], "_");
        format!("FLANNELD_{name}")
    }

    /// Whether a value is one of the flag's type; if not, what it should be.
    pub(super) fn check(&self, value: &str) -> Result<(), &'static str> {
        let (fits, wanted) = match self.kind {
            Bool => (parse_bool(value).is_some(), "true or false"),
            Int => (parse_int(value).is_some(), "an integer"),
            Switch => (parse_switch(value).is_some(), "auto, on or off"),
            Text | Repeated => (true, ""),
        };
        if fits { Ok(()) } else { Err(wanted) }
    }

    /// Whether it is there to be used, and not without effect.
    pub(super) fn does_something(&self) -> bool {
        matches!(self.status, Status::Works | Status::Secret)
    }

    /// Whether a value means the same as the default.
    pub(super) fn is_default(&self, value: &str) -> bool {
        match self.kind {
            Bool => parse_bool(value) == parse_bool(self.default),
            Int => parse_int(value) == parse_int(self.default),
            Switch => parse_switch(value) == parse_switch(self.default),
            Text | Repeated => value == self.default,
        }
    }

    /// What who has given it knows it by.
    pub(super) fn called(&self, by: By) -> String {
        match by {
            By::Flag => format!("flag -{}", self.name),
            By::Variable => self.variable(),
        }
    }

    /// That a value breaks a rule.
    pub(super) fn refusal(&self, value: &str, by: By, rule: &str) -> FlagError {
        let (called, value) = (self.called(by), self.shown(value));
        FlagError(format!("invalid value {value:?} for {called}: {rule}"))
    }

    /// A value as it may be shown to people.
    pub(super) fn shown<'a>(&self, value: &'a str) -> &'a str {
        // Credentials of the form scheme://user:password@host are refused, not repeated.
        let may_hold_some = ["etcd-endpoints", "kube-api-url"].contains(&self.name);
        let credentials = may_hold_some && value.contains('@');
        match self.status == Status::Secret || credentials {
            true => "***",
            false => value,
        }
    }
}
