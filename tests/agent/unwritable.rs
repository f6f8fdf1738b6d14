//! The agent with a stderr that cannot be written, as when the disk behind it is full.

use super::node::*;
use std::fs::File;
use std::process::Command;

/// The status of `weft agent` with these flags.
fn status(flags: &[&str]) -> Option<i32> {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let mut command = Command::new(WEFT);
    command.arg("agent").args(flags);
    command.stdout(full()).stderr(full());
    command.status().unwrap().code()
}

#[test]
fn the_status_is_that_of_the_outcome() {
    assert_eq!(status(&["-version"]), Some(1), "it could not be told");
    assert_eq!(status(&["-help"]), Some(1), "it could not be told");
    assert_eq!(status(&["-no-such-flag"]), Some(2));
    let logs_and_fails = [
        "-subnets-file=/nonexistent.toml",
        "-healthz-port=8471",
        "-healthz-ip=192.0.2.1",
    ];
    assert_eq!(status(&logs_and_fails), Some(1));
}
