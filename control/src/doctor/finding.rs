//! What a check says.

use serde::{Deserialize, Serialize};

/// What needs an agent says this without one.
pub(super) const NO_AGENT: &str = "no agent answers";

/// How it stands, the worse the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckVerdict {
    /// As it should be.
    Ok,
    /// It cannot be seen from here.
    Unknown,
    /// Packets pass, and it costs something or will.
    Warning,
    /// Packets do not pass, or soon will not.
    Failure,
}

/// What mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remedy {
    /// A command for this host.
    Run(String),
    /// Something that no command on this host does.
    Do(String),
}

/// A command that mends it.
pub(super) fn run(command: impl Into<String>) -> Remedy {
    Remedy::Run(command.into())
}

/// What somebody has to do.
pub(super) fn advise(what: impl Into<String>) -> Remedy {
    Remedy::Do(what.into())
}

/// The outcome of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The check's name.
    pub id: String,
    /// What it looks at.
    pub title: String,
    /// How that stands.
    pub verdict: CheckVerdict,
    /// Why.
    pub why: String,
    /// What mends it, the first thing to try first.
    pub remedies: Vec<Remedy>,
}

/// What a check has seen so far.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) verdict: CheckVerdict,
    pub(super) why: String,
    pub(super) remedies: Vec<Remedy>,
}

impl Look {
    /// All is well, unless something is found.
    pub(super) fn ok(why: impl Into<String>) -> Look {
        Look {
            verdict: CheckVerdict::Ok,
            why: why.into(),
            remedies: Vec::new(),
        }
    }

    /// Nothing can be seen.
    pub(super) fn unknown(why: impl Into<String>) -> Look {
        Look {
            verdict: CheckVerdict::Unknown,
            ..Look::ok(why)
        }
    }

    /// Something costs, or will.
    pub(super) fn warn(&mut self, why: impl AsRef<str>, remedy: Remedy) {
        self.add(CheckVerdict::Warning, why.as_ref(), remedy);
    }

    /// Something stops packets, or soon will.
    pub(super) fn fail(&mut self, why: impl AsRef<str>, remedy: Remedy) {
        self.add(CheckVerdict::Failure, why.as_ref(), remedy);
    }

    /// A further remedy of what was found last.
    pub(super) fn or(&mut self, remedy: Remedy) {
        self.remedies.push(remedy);
    }

    pub(super) fn add(&mut self, verdict: CheckVerdict, why: &str, remedy: Remedy) {
        match self.verdict {
            CheckVerdict::Ok | CheckVerdict::Unknown => self.why = why.to_owned(),
            CheckVerdict::Warning | CheckVerdict::Failure => {
                self.why = format!("{}; {why}", self.why)
            }
        }
        self.verdict = self.verdict.max(verdict);
        if !self.remedies.contains(&remedy) {
            self.remedies.push(remedy);
        }
    }
}
