//! The `weft` command: one thin file per subcommand.

mod agent;
mod agents;
mod bench;
mod commands;
mod connectivity;
mod demo;
mod doctor;
mod explain;
mod fast_path;
mod install_conf;
mod leases;
mod log;
mod mk_docker_opts;
mod ping;
mod progress;
mod status;
mod tune;
mod version;
mod words;

use commands::Command;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    match commands::select(&program, &args) {
        Ok((Command::Agent, args)) => agent::run(args),
        Ok((Command::Demo, args)) => demo::run(args.iter().cloned()),
        Ok((Command::Bench, args)) => bench::run(args),
        Ok((Command::MkDockerOpts, args)) => mk_docker_opts::run(args),
        Ok((Command::InstallConf, args)) => install_conf::run(args),
        Ok((Command::Leases, args)) => leases::run(args),
        Ok((Command::Status, args)) => status::run(args),
        Ok((Command::FastPath, args)) => fast_path::run(args),
        Ok((Command::Ping, args)) => ping::run(args),
        Ok((Command::Doctor, args)) => doctor::run(args),
        Ok((Command::Connectivity, args)) => connectivity::run(args),
        Ok((Command::Explain, args)) => explain::run(args),
        Ok((Command::Tune, args)) => tune::run(args),
        Ok((Command::Version, _)) => version::run(),
        Ok((Command::Help, _)) => commands::help(),
        Err(error) => {
            eprintln!("weft: {error}");
            ExitCode::from(2)
        }
    }
}
