//! The executable that container runtimes call.

use std::process::ExitCode;

fn main() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    weft_cni::run(env, std::io::stdin(), std::io::stdout())
}
