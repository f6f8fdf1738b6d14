//! Run-to-completion loops.
