//! Commands in the namespace of the calling thread, which must succeed.

use std::process::Command;

/// Run `ip` with the words of `args`.
pub(crate) fn ip(args: &str) {
    weft_lab::ip(args).unwrap();
}

/// Run a program with the words of `args`.
pub(crate) fn run(program: &str, args: &str) {
    weft_lab::run(Command::new(program).args(args.split_whitespace())).unwrap();
}
