//! The CNI plugin `flannel`, as flannel-io/cni-plugin behaves on Linux.
//!
//! It makes no interface itself: it turns its own network configuration and the node's
//! `subnet.env` into the configuration of another plugin (`bridge` unless told otherwise),
//! keeps that text so that DEL finds it again, and runs that plugin.
//!
//! Protocol: CNI spec 1.1 and all older ones. A command comes in `CNI_*` variables with the
//! configuration on standard input; the answer, or an error as JSON, goes to standard output.

pub mod delegate;
pub mod error;
pub mod invocation;
pub mod netconf;
pub mod render;
pub mod state;
pub mod subnet_env;

mod check;
mod commands;
mod gc;
mod remedy;

pub use error::{Code, Error};
pub use invocation::{Command, Invocation};
pub use netconf::NetConf;
pub use subnet_env::SubnetEnv;

use std::io::{Read, Write};
use std::process::ExitCode;

/// Versions of the CNI spec that a configuration may name, oldest first.
pub const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];

/// Do what the variables `env` and the configuration on `stdin` ask for. Results and errors
/// go to `stdout`; the status is 1 after an error.
pub fn run(
    env: impl Fn(&str) -> Option<String>,
    stdin: impl Read,
    mut stdout: impl Write,
) -> ExitCode {
    // Somebody tries the plugin by hand: tell, as all CNI plugins do.
    if env("CNI_COMMAND").is_none_or(|command| command.is_empty()) {
        eprintln!(
            "CNI plugin flannel of weft {}\nCNI protocol versions supported: {}",
            env!("CARGO_PKG_VERSION"),
            VERSIONS.join(", ")
        );
        return ExitCode::SUCCESS;
    }
    let (answer, status) = match commands::answer(env, stdin) {
        Ok(result) => (result, ExitCode::SUCCESS),
        Err(error) => (error.to_json().into_bytes(), ExitCode::FAILURE),
    };
    match stdout.write_all(&answer).and_then(|()| stdout.flush()) {
        Ok(()) => status,
        Err(_) => ExitCode::FAILURE,
    }
}
