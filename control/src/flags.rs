//! The command line and environment of `weft agent`.
//!
//! Flags have flanneld's names, types, defaults and Go's syntax; one table drives
//! parsing, environment, help text and what is said of flags that are not there yet. A
//! library such as clap is of no use here: Go's `-flag=value` with one dash, its booleans
//! that take a value only after `=`, and the `FLANNELD_*` rules would all have to be
//! written around it, and that is the whole of the work.

mod apply;
mod syntax;
mod table;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;
pub use weft_dataplane::worker::Engine;
pub use weft_dataplane::worker::tunnel::TunnelGso;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the agent.
    Run {
        /// All settings.
        options: AgentOptions,
        /// Environment variables that were ignored, one line each, for the log.
        warnings: Vec<String>,
    },
    /// Print the version.
    Version,
    /// Print this text.
    Help(String),
}

/// Settings of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// etcd servers, `http://host:port` or `host:port`.
    pub etcd_endpoints: Vec<String>,
    /// Path in etcd that `config` and `subnets` are under.
    pub etcd_prefix: String,
    /// Names or addresses of the external interface, the first that matches wins.
    pub iface: Vec<String>,
    /// Address that peers are told to send to; `None`: the interface's.
    pub public_ip: Option<Ipv4Addr>,
    /// The file that container runtimes read the subnet from.
    pub subnet_file: PathBuf,
    /// How long before its end a lease is renewed.
    pub renew_margin: Duration,
    /// Log verbosity: 0 is info, from 1 debug.
    pub verbosity: u8,
    /// Where the MAC address and other state is kept across restarts.
    pub state_dir: PathBuf,
    /// TUN queues and workers; `None`: one for every two cores.
    pub queues: Option<usize>,
    /// What moves packets between TUN device and sockets.
    pub engine: Engine,
    /// How received datagrams are checked.
    pub admit: Admit,
    /// Sockets to send from; `None`: chosen by the dataplane.
    pub tx_sockets: Option<usize>,
    /// Set DF on outer packets, and learn the MTU of the path to each peer.
    pub outer_df: bool,
    /// Let the TUN device hand over TCP super-packets.
    pub tso: bool,
    /// Let the TUN device hand over UDP super-packets.
    pub uso: bool,
    /// Send trains with UDP segmentation offload.
    pub udp_gso: bool,
    /// Receive trains with UDP receive offload.
    pub udp_gro: bool,
    /// How long idle workers look for packets before they sleep.
    pub spin: Duration,
    /// When to send TCP super-packets whole.
    pub tunnel_gso: TunnelGso,
}

/// How received datagrams are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Admit {
    /// Only from live peers, and only for sources inside their own subnets.
    #[default]
    Strict,
    /// From anybody with the right VNI and MAC address, as kernel VXLAN does.
    Loose,
}

/// Why a command line cannot be used. One line, for stderr.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FlagError(String);

impl FlagError {
    /// The exit status that goes with it.
    pub const EXIT_STATUS: u8 = 2;
}

impl AgentOptions {
    /// The log level that `-v` asks for.
    pub fn log_level(&self) -> Level {
        match self.verbosity {
            0 => Level::INFO,
            _ => Level::DEBUG,
        }
    }
}

/// Read the arguments (without the program's name), then the environment through `env`.
///
/// A variable `FLANNELD_<NAME>` counts if its flag is not on the command line and it is not
/// empty; if its value is no value of the flag's type it is ignored with a warning.
pub fn parse(
    args: impl IntoIterator<Item = String>,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Command, FlagError> {
    let given = match syntax::read(args)? {
        Some(given) => given,
        None => return Ok(Command::Help(table::help())),
    };
    if given
        .iter()
        .rfind(|(flag, _)| flag.name == "version")
        .is_some_and(|(_, on)| syntax::parse_bool(on) == Some(true))
    {
        return Ok(Command::Version);
    }
    let (from_env, warnings) = syntax::read_env(&given, env);
    let mut options = apply::defaults();
    for (flag, value) in given.iter().chain(&from_env) {
        apply::apply(&mut options, flag, value)?;
    }
    if options.engine == Engine::Ring && !options.spin.is_zero() {
        let rule = "flag -spin-us is for the poll engine: with it, -engine must be auto or poll";
        return Err(FlagError(rule.to_owned()));
    }
    Ok(Command::Run { options, warnings })
}

#[cfg(test)]
mod tests;
