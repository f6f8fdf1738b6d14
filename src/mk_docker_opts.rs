//! `weft mk-docker-opts`: what dockerd has to be told of this node's subnet, as flannel's
//! `mk-docker-opts.sh` writes it.

use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use weft_control::host::subnet_env::dotenv;

const USAGE: &str = "\
usage: weft mk-docker-opts [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Generate Docker daemon options based on flannel env file
OPTIONS:
\t-f\tPath to flannel env file. Defaults to /run/flannel/subnet.env
\t-d\tPath to Docker env file to write to. Defaults to /run/docker_opts.env
\t-i\tOutput each Docker option as individual var. e.g. DOCKER_OPT_MTU=1500
\t-c\tOutput combined Docker options into DOCKER_OPTS var
\t-k\tSet the combined options key to this value (default DOCKER_OPTS=)
\t-m\tDo not output --ip-masq (useful for older Docker version)
";

/// The kernel's main routing table for IPv4.
const ROUTES: &str = "/proc/net/route";

/// Names of variables with single options; the environment may hold more of them.
const OPTION_PREFIX: &str = "DOCKER_OPT_";

/// Write the file. Every failure ends with status 1, as it does in the script.
pub(crate) fn run(args: &[OsString]) -> ExitCode {
    let Ok(options) = Options::parse(args) else {
        eprint!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match options.apply() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mk-docker-opts: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq)]
struct Options {
    flannel_env: PathBuf,
    docker_env: PathBuf,
    individual: bool,
    combined: bool,
    key: String,
    ip_masq: bool,
}

impl Options {
    /// By the rules of getopts: flags may be put together, values may follow without a
    /// blank, and what follows the first other word is ignored.
    fn parse(args: &[OsString]) -> Result<Options, lexopt::Error> {
        use lexopt::prelude::*;
        let mut options = Options {
            flannel_env: "/run/flannel/subnet.env".into(),
            docker_env: "/run/docker_opts.env".into(),
            individual: false,
            combined: false,
            key: "DOCKER_OPTS".into(),
            ip_masq: true,
        };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Short('f') => options.flannel_env = parser.value()?.into(),
                Short('d') => options.docker_env = parser.value()?.into(),
                Short('i') => options.individual = true,
                Short('c') => options.combined = true,
                Short('m') => options.ip_masq = false,
                Short('k') => options.key = parser.value()?.string()?,
                Value(_) => break,
                // -h and -? ask for the usage, and all others get it.
                other => return Err(other.unexpected()),
            }
        }
        if !options.individual && !options.combined {
            (options.individual, options.combined) = (true, true);
        }
        Ok(options)
    }

    fn apply(&self) -> Result<(), String> {
        // As in a shell that sources the file: it adds to the environment.
        let mut vars: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        // The agent may not have written it yet; then there are no options, and for the script
        // of flannel that is no failure.
        if !self.flannel_env.is_file() {
            let path = self.flannel_env.display();
            eprintln!(
                "mk-docker-opts: {path} is not there, so Docker gets no options of this node's \
                 subnet; the agent writes it once it has a lease (its -subnet-file)"
            );
        } else {
            let text = std::fs::read(&self.flannel_env)
                .map_err(|e| format!("cannot read {}: {e}", self.flannel_env.display()))?;
            let text = String::from_utf8_lossy(&text);
            let lines = dotenv(&text).into_iter();
            vars.extend(lines.map(|(key, value)| (key.to_owned(), value.to_owned())));
        }
        let output = self.render(&mut vars)?;
        self.write(&output)?;

        let own = vars.get("FLANNEL_SUBNET").and_then(|net| net.parse().ok());
        match own.and_then(|own| route_to(own, Path::new(ROUTES))) {
            Some(route) => Err(format!(
                "Your routing table already contains the subnet: {route}"
            )),
            None => Ok(()),
        }
    }

    /// Not by a rename: the path may be a pipe or /dev/stdout. A file that could not be written
    /// goes: Docker would give containers the addresses of an earlier subnet, or read half a line.
    fn write(&self, output: &str) -> Result<(), String> {
        let path = &self.docker_env;
        std::fs::write(path, output).map_err(|error| {
            let removed = path.is_file() && std::fs::remove_file(path).is_ok();
            let removed = if removed { ", so it is removed" } else { "" };
            format!("cannot write {}: {error}{removed}", path.display())
        })
    }

    /// The lines of the output, in the order of the variables' names.
    fn render(&self, vars: &mut BTreeMap<String, String>) -> Result<String, String> {
        let value = |key: &str| vars.get(key).filter(|value| !value.is_empty());
        let mut options = Vec::new();
        if let Some(subnet) = value("FLANNEL_SUBNET") {
            options.push(("BIP", format!("--bip={subnet}")));
        }
        if let Some(mtu) = value("FLANNEL_MTU") {
            options.push(("MTU", format!("--mtu={mtu}")));
        }
        if let Some(masquerades) = value("FLANNEL_IPMASQ").filter(|_| self.ip_masq) {
            // Docker masquerades exactly if the agent does not.
            let docker = match masquerades.as_str() {
                "true" => false,
                "false" => true,
                other => return Err(format!("Invalid value of FLANNEL_IPMASQ: {other}")),
            };
            options.push(("IPMASQ", format!("--ip-masq={docker}")));
        }
        let named = |(name, option)| (format!("{OPTION_PREFIX}{name}"), option);
        vars.extend(options.into_iter().map(named));

        let mut lines = String::new();
        let mut all = vars.get(&self.key).cloned().unwrap_or_default();
        for (name, option) in vars.iter().filter(|(k, _)| k.starts_with(OPTION_PREFIX)) {
            if self.individual {
                lines += &format!("{name}=\"{option}\"\n");
            }
            all += &format!(" {option}");
        }
        if self.combined {
            lines += &format!("{}=\"{all}\"\n", self.key);
        }
        Ok(lines)
    }
}

/// A route by a gateway to exactly the subnet of `own`, as `ip route` would show it, in a
/// table like `/proc/net/route`. Docker's bridge could not have its addresses then.
fn route_to(own: Ipv4Net, table: &Path) -> Option<String> {
    let table = std::fs::read_to_string(table).ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let &[device, to, via, _, _, _, _, mask, ..] = &fields[..] else {
            return None;
        };
        let (to, via, mask) = (address(to)?, address(via)?, address(mask)?);
        let same = to == own.network() && mask == own.netmask();
        (same && !via.is_unspecified()).then(|| format!("{} via {via} dev {device}", own.trunc()))
    })
}

/// An address as the kernel prints it there: its bytes in memory order, read as a number.
fn address(hex: &str) -> Option<Ipv4Addr> {
    let number = u32::from_str_radix(hex, 16).ok()?;
    Some(Ipv4Addr::from(number.to_ne_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Options, lexopt::Error> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        Options::parse(&args)
    }

    #[test]
    fn arguments_are_read_as_getopts_does() {
        let options = parsed(&[]).unwrap();
        assert_eq!(options.flannel_env, Path::new("/run/flannel/subnet.env"));
        assert_eq!(options.docker_env, Path::new("/run/docker_opts.env"));
        assert!(options.individual && options.combined && options.ip_masq);
        let options = parsed(&["-icm", "-f/a", "-d", "/b", "-k", "KEY", "word", "-x"]).unwrap();
        assert!(options.individual && options.combined && !options.ip_masq);
        assert_eq!(options.flannel_env, Path::new("/a"));
        assert_eq!(options.docker_env, Path::new("/b"));
        assert_eq!(options.key, "KEY");
        let options = parsed(&["-c"]).unwrap();
        assert!(options.combined && !options.individual);
        for bad in [&["-h"][..], &["-?"], &["-x"], &["--help"], &["-f"]] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_options_in_the_environment_are_kept() {
        let mut vars = BTreeMap::from([
            ("DOCKER_OPT_AAA".to_owned(), "--debug".to_owned()),
            ("DOCKER_OPTS".to_owned(), "--live-restore".to_owned()),
            ("FLANNEL_MTU".to_owned(), "1450".to_owned()),
        ]);
        let lines = parsed(&[]).unwrap().render(&mut vars).unwrap();
        assert_eq!(
            lines,
            "DOCKER_OPT_AAA=\"--debug\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\n\
             DOCKER_OPTS=\"--live-restore --debug --mtu=1450\"\n"
        );
    }

    #[test]
    fn only_a_route_by_a_gateway_to_the_very_subnet_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("route");
        let hex = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let line = |to, via, mask| {
            let (to, via, mask) = (hex(to), hex(via), hex(mask));
            format!("eth0\t{to}\t{via}\t0003\t0\t0\t0\t{mask}\t0\t0\t0\n")
        };
        let found = |line: String| {
            std::fs::write(&table, format!("Iface\tDestination\n{line}nonsense\n")).unwrap();
            route_to("10.1.74.1/24".parse().unwrap(), &table)
        };
        let (net, via, mask) = ([10, 1, 74, 0], [10, 9, 0, 1], [255, 255, 255, 0]);
        assert_eq!(
            found(line(net, via, mask)).as_deref(),
            Some("10.1.74.0/24 via 10.9.0.1 dev eth0")
        );
        assert_eq!(found(line(net, [0; 4], mask)), None, "on the link");
        assert_eq!(found(line(net, via, [255, 255, 0, 0])), None, "wider");
        assert_eq!(found(line([10, 1, 7, 0], via, mask)), None, "another");
        assert_eq!(found(String::new()), None);
    }
}
