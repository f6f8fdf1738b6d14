//! Why rules cannot be written or read, and what that means.

use tracing::debug;

/// What was asked of a program, and why it cannot be had. One line.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// A program is not installed.
    #[error("there is no {program} in PATH; install the package {package}{instead}")]
    Missing {
        /// Its name.
        program: String,
        /// The package it comes with.
        package: &'static str,
        /// What can be done instead.
        instead: &'static str,
    },
    /// A program says no.
    #[error("{command}: {reason}")]
    Failed {
        /// The command line.
        command: String,
        /// What it said.
        reason: String,
    },
    /// Another program changes the same rules, or they are listed in another spelling.
    #[error("{table} is not as it was written: {fault}")]
    NotAsWritten {
        /// The table.
        table: String,
        /// What is wrong with it.
        fault: String,
    },
    /// Masquerading was asked for and cannot be had.
    #[error("cannot masquerade: {0}; or leave out -ip-masq")]
    Masquerade(Box<FirewallError>),
}

impl FirewallError {
    /// The code of one that ends the agent, see [`crate::codes`].
    pub const CODE: &str = "W0705";

    pub(super) fn missing(program: &str) -> FirewallError {
        let (package, instead) = if program.contains("tables") {
            ("iptables", ", or set EnableNFTables")
        } else {
            ("nftables", ", or leave out EnableNFTables")
        };
        FirewallError::Missing {
            program: program.to_owned(),
            package,
            instead,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, FirewallError::Missing { .. })
    }

    /// Whether it shows that there are no rules, for want of the program or of its part of the
    /// kernel: no nfnetlink, or no nf_tables in it.
    pub(super) fn shows_none(&self) -> bool {
        let without = [
            "Protocol not supported",
            "Operation not supported",
            "Invalid argument",
        ];
        match self {
            FirewallError::Failed { reason, .. } => without.iter().any(|of| reason.contains(of)),
            _ => self.is_missing(),
        }
    }

    pub(super) fn for_masquerade(self) -> FirewallError {
        FirewallError::Masquerade(Box::new(self))
    }
}

/// What rules that cannot be listed are to a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// None: a node whose own rules are right is not to be kept waiting by another tool.
    Nothing,
    /// A reason to say that they may be left.
    Failure,
}

impl Unreadable {
    /// What a removal has done that met with this error.
    pub(super) fn removed(self, error: FirewallError) -> Result<Vec<&'static str>, FirewallError> {
        if self == Unreadable::Failure && !error.shows_none() {
            return Err(error);
        }
        debug!("no rules of an earlier start: {error}");
        Ok(Vec::new())
    }
}
