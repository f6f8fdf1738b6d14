//! Why a command line cannot be used.

/// What is wrong, as one line for stderr.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FlagError(pub(super) String);

impl FlagError {
    /// Its code, see [`crate::codes`].
    pub const CODE: &str = "W0101";

    /// The exit status that goes with it.
    pub const EXIT_STATUS: u8 = 2;
}
