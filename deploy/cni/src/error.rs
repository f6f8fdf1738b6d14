//! Errors as the CNI spec wants them: a code, one line, and details.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Error codes of the CNI spec, section 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The configuration names a version that is not supported.
    IncompatibleVersion = 1,
    /// A `CNI_*` variable is missing or invalid.
    InvalidEnvironment = 4,
    /// A file could not be read or written.
    Io = 5,
    /// The configuration is not the JSON it should be.
    Decode = 6,
    /// The configuration asks for something that cannot be.
    InvalidConfig = 7,
    /// What is missing will appear by itself.
    TryLater = 11,
    /// The answer to STATUS: no pods can be attached at present.
    NotAvailable = 50,
    /// Anything else; what the Go library calls `ErrInternal`.
    Internal = 999,
}

/// What went wrong, in the form that runtimes read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Version of the spec the answer follows, that of the configuration if it could be read.
    #[serde(rename = "cniVersion", default)]
    pub cni_version: String,
    /// A [`Code`], or a plugin's own code from 100 on.
    pub code: u32,
    /// What failed, on which input.
    pub msg: String,
    /// More, if there is more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Error {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Error {
        Error {
            cni_version: String::new(),
            code: code as u32,
            msg: msg.into(),
            details: String::new(),
        }
    }

    /// The same with `details` after those it has.
    pub fn with_details(mut self, details: impl AsRef<str>) -> Error {
        if !self.details.is_empty() {
            self.details += "; ";
        }
        self.details += details.as_ref();
        self
    }

    /// One error for all that went wrong on the way: the first, with the others as details.
    pub(crate) fn all(errors: Vec<Error>) -> Result<(), Error> {
        let all = errors.into_iter();
        let one = all.reduce(|first, other| first.with_details(other.to_string()));
        one.map_or(Ok(()), Err)
    }

    /// The same as an answer to a configuration of version `cni_version`.
    pub(crate) fn answering(mut self, cni_version: &str) -> Error {
        self.cni_version = cni_version.to_owned();
        self
    }

    /// The JSON object that goes to standard output.
    pub fn to_json(&self) -> String {
        let mut answer = self.clone();
        if answer.cni_version.is_empty() {
            answer.cni_version = crate::VERSIONS[crate::VERSIONS.len() - 1].to_owned();
        }
        // Numbers and strings always serialise.
        serde_json::to_string(&answer).unwrap_or_default() + "\n"
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        match self.details.as_str() {
            "" => Ok(()),
            details => write!(f, "; {details}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_objects_of_the_spec() {
        let error = Error::new(Code::InvalidConfig, "missing network name");
        assert_eq!(
            error.to_json(),
            "{\"cniVersion\":\"1.1.0\",\"code\":7,\"msg\":\"missing network name\"}\n"
        );
        let error = error.with_details("why").answering("0.3.1");
        assert_eq!(
            error.to_json(),
            "{\"cniVersion\":\"0.3.1\",\"code\":7,\"msg\":\"missing network name\",\
             \"details\":\"why\"}\n"
        );
    }
}
