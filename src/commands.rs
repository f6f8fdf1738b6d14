//! Which subcommand a command line asks for.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use weft_control::text::nearest;

/// A subcommand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Run a node.
    Agent,
    /// Two nodes on this machine, measured.
    Demo,
    /// All contestants on this machine, measured, with a report.
    Bench,
    /// Write Docker's options.
    MkDockerOpts,
    /// Put a configuration file in place.
    InstallConf,
    /// Ask a running agent what it is doing.
    Status,
    /// Ask a running agent of its fast path.
    FastPath,
    /// Measure the way to another node.
    Ping,
    /// Look for what is wrong.
    Doctor,
    /// Measure every pair of nodes.
    Connectivity,
    /// Inspect the host, and set it up.
    Tune,
    /// Look at leases in etcd, reserve and release them.
    Leases,
    /// Tell what the codes of the log mean.
    Explain,
    /// Print the version.
    Version,
    /// Print the list of subcommands.
    Help,
}

/// Name, what the help says, and the command; also the order of the help.
const COMMANDS: &[(&str, &str, Command)] = &[
    (
        "agent",
        "run this node: lease, tunnel device, packets (takes flanneld's flags)",
        Command::Agent,
    ),
    (
        "demo",
        "make two nodes on this machine and measure them against the kernel",
        Command::Demo,
    ),
    (
        "bench",
        "measure all ways between two nodes and write tables, JSON and HTML",
        Command::Bench,
    ),
    (
        "mk-docker-opts",
        "write options for dockerd from subnet.env",
        Command::MkDockerOpts,
    ),
    (
        "install-conf",
        "copy a file in one step: weft install-conf SRC DST",
        Command::InstallConf,
    ),
    (
        "leases",
        "list, show, reserve, release and watch the leases in etcd",
        Command::Leases,
    ),
    (
        "status",
        "tell what this node is doing: lease, peers, store, ways, drops",
        Command::Status,
    ),
    (
        "fast-path",
        "show or switch the fast path of a running agent: weft fast-path off",
        Command::FastPath,
    ),
    (
        "ping",
        "measure the way to another node through the tunnel: weft ping 10.5.34.0/24",
        Command::Ping,
    ),
    (
        "doctor",
        "look for what is wrong with this node and the ways to others, and what mends it",
        Command::Doctor,
    ),
    (
        "connectivity",
        "measure every pair of many nodes: weft connectivity node1 node2 node3",
        Command::Connectivity,
    ),
    (
        "explain",
        "tell what a code of the log means, and what to do: weft explain W0201",
        Command::Explain,
    ),
    (
        "tune",
        "inspect this host and set it up for weft, in a way that can be undone",
        Command::Tune,
    ),
    ("version", "print the version", Command::Version),
    ("help", "print this list", Command::Help),
];

/// Names of links to this program that stand for a subcommand.
const LINKS: &[(&str, Command)] = &[
    ("flanneld", Command::Agent),
    ("install-conf", Command::InstallConf),
];

/// Why no subcommand could be found. One line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("no command given; try: weft help")]
    Missing,
    #[error("unknown command {given:?}; {}weft help lists all", did_you_mean(*.nearest))]
    Unknown {
        given: String,
        nearest: Option<&'static str>,
    },
}

/// The subcommand and its own arguments.
///
/// `program` is the name this was started by, `args` all that follows it.
pub(crate) fn select<'a>(
    program: &OsStr,
    args: &'a [OsString],
) -> Result<(Command, &'a [OsString]), CommandError> {
    let link = Path::new(program).file_name();
    if let Some((_, command)) = LINKS
        .iter()
        .find(|(name, _)| link == Some(OsStr::new(name)))
    {
        return Ok((*command, args));
    }
    let (name, rest) = args.split_first().ok_or(CommandError::Missing)?;
    let name = name.to_string_lossy();
    match name.as_ref() {
        "-h" | "-help" | "--help" => return Ok((Command::Help, rest)),
        "-V" | "-version" | "--version" => return Ok((Command::Version, rest)),
        _ => {}
    }
    match COMMANDS.iter().find(|(command, ..)| *command == name) {
        Some((.., command)) => Ok((*command, rest)),
        None => Err(CommandError::Unknown {
            nearest: nearest(&name, COMMANDS.iter().map(|(name, ..)| *name)),
            given: name.into_owned(),
        }),
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or(String::new(), |name| format!("did you mean {name:?}? "))
}

/// Print the list of subcommands on standard output.
pub(crate) fn help() -> ExitCode {
    let mut text = String::from("usage: weft COMMAND [FLAGS]\n\n");
    for (name, about, _) in COMMANDS {
        text.push_str(&format!("  {name:<16}{about}\n"));
    }
    text.push_str("\nStarted through a link named flanneld, weft behaves as `weft agent`.\n");
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(program: &str, args: &[&str]) -> Result<(Command, usize), String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        match select(OsStr::new(program), &args) {
            Ok((command, rest)) => Ok((command, rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn subcommands_get_the_rest() {
        assert_eq!(
            selected("weft", &["agent", "-iface=eth0"]),
            Ok((Command::Agent, 1))
        );
        assert_eq!(
            selected("/usr/bin/weft", &["version"]),
            Ok((Command::Version, 0))
        );
        assert_eq!(selected("weft", &["--version"]), Ok((Command::Version, 0)));
        assert_eq!(selected("weft", &["--help"]), Ok((Command::Help, 0)));
    }

    #[test]
    fn a_link_named_flanneld_is_the_agent() {
        assert_eq!(
            selected("/opt/bin/flanneld", &["-version"]),
            Ok((Command::Agent, 1))
        );
        assert_eq!(selected("flanneld", &[]), Ok((Command::Agent, 0)));
        assert_eq!(selected("flanneld", &["version"]), Ok((Command::Agent, 1)));
    }

    #[test]
    fn a_link_named_install_conf_copies() {
        assert_eq!(
            selected("/opt/bin/install-conf", &["a", "b"]),
            Ok((Command::InstallConf, 2))
        );
        assert_eq!(
            selected("weft", &["install-conf", "a", "b"]),
            Ok((Command::InstallConf, 2))
        );
    }

    #[test]
    fn unknown_commands_name_the_nearest() {
        let error = selected("weft", &["agnet"]).unwrap_err();
        assert!(
            error.contains("\"agnet\"") && error.contains("\"agent\""),
            "{error}"
        );
        let error = selected("weft", &["verison"]).unwrap_err();
        assert!(error.contains("\"version\""), "{error}");
        let error = selected("weft", &["reboot"]).unwrap_err();
        assert_eq!(error, "unknown command \"reboot\"; weft help lists all");
        assert!(selected("weft", &[]).is_err());
    }

    #[test]
    fn every_command_has_its_own_name() {
        for (i, (name, ..)) in COMMANDS.iter().enumerate() {
            assert!(COMMANDS[i + 1..].iter().all(|(other, ..)| other != name));
        }
    }
}
