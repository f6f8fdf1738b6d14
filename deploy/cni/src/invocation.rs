//! The `CNI_*` variables of a call.

use crate::error::{Code, Error};

/// What the runtime asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Attach a container.
    Add,
    /// Detach a container.
    Del,
    /// Is a container still attached?
    Check,
    /// Forget containers that are gone.
    Gc,
    /// Could containers be attached?
    Status,
    /// Which versions of the spec are understood?
    Version,
}

/// Name of a command and the variables it cannot do without.
const COMMANDS: [(&str, Command, &[&str]); 6] = [
    ("ADD", Command::Add, &[ID, NETNS, IFNAME, PATH]),
    ("DEL", Command::Del, &[ID, IFNAME, PATH]),
    ("CHECK", Command::Check, &[ID, NETNS, IFNAME, PATH]),
    ("GC", Command::Gc, &[PATH]),
    ("STATUS", Command::Status, &[PATH]),
    ("VERSION", Command::Version, &[]),
];
const ID: &str = "CNI_CONTAINERID";
const NETNS: &str = "CNI_NETNS";
const IFNAME: &str = "CNI_IFNAME";
const PATH: &str = "CNI_PATH";

/// Longest name of an interface (`IFNAMSIZ` less the terminator).
const IFNAME_MAX: usize = 15;
/// Longest name of a file or directory (`NAME_MAX`). A network's is that of a directory, here
/// and with `host-local`.
pub(crate) const NAME_MAX: usize = 255;
/// Longest id of a container: it and an interface's name, with a colon between them, are the
/// name of a file.
const ID_MAX: usize = NAME_MAX - 1 - IFNAME_MAX;

/// A call. Variables the command does without may be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`: a plain name, fit to be a file's.
    pub container_id: String,
    /// `CNI_IFNAME`: a name that an interface can have.
    pub ifname: String,
    /// `CNI_PATH`: directories with plugins, separated by colons.
    pub path: String,
}

impl Invocation {
    /// Read and check the variables, by the rules of the Go library's `skel` package.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Result<Invocation, Error> {
        let value = |name: &str| env(name).unwrap_or_default();
        let name = value("CNI_COMMAND");
        let Some((_, command, needed)) = COMMANDS.iter().find(|(word, ..)| *word == name) else {
            return Err(invalid(format!("unknown CNI_COMMAND: {name}")));
        };
        let missing = needed.iter().copied().filter(|name| value(name).is_empty());
        let missing: Vec<_> = missing.collect();
        if !missing.is_empty() {
            let missing = missing.join(",");
            return Err(invalid(format!(
                "required env variables [{missing}] missing"
            )));
        }
        if needed.contains(&ID) {
            check_name(&value(ID), ID_MAX)
                .map_err(|why| invalid(format!("CNI_CONTAINERID is not a plain name: {why}")))?;
        }
        if needed.contains(&IFNAME) {
            check_ifname(&value(IFNAME))
                .map_err(|why| invalid(format!("CNI_IFNAME is not an interface name: {why}")))?;
        }
        Ok(Invocation {
            command: *command,
            container_id: value(ID),
            ifname: value(IFNAME),
            path: value(PATH),
        })
    }
}

fn invalid(msg: String) -> Error {
    Error::new(Code::InvalidEnvironment, msg)
}

/// Whether `name` is a letter or digit followed by letters, digits, `_`, `.` and `-`, and at
/// most `max` bytes: what container ids and network names have to be. No such name leads out
/// of a directory.
pub(crate) fn check_name(name: &str, max: usize) -> Result<(), String> {
    if name.len() > max {
        let length = name.len();
        return Err(format!("it has {length} bytes, and {max} is the limit"));
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let starts = name
        .bytes()
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric());
    if starts && name.bytes().all(plain) {
        Ok(())
    } else {
        Err(format!("{name:?}"))
    }
}

fn check_ifname(name: &str) -> Result<(), String> {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if name.len() > IFNAME_MAX || name == "." || name == ".." || name.contains(bad) {
        return Err(format!("{name:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(pairs: &[(&str, &str)]) -> Result<Invocation, Error> {
        Invocation::from_env(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const ADD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        (ID, "c-1"),
        (NETNS, "/run/netns/x"),
        (IFNAME, "eth0"),
        (PATH, "/opt/cni/bin"),
    ];

    #[test]
    fn all_that_is_missing_is_named() {
        let error = from(&[("CNI_COMMAND", "ADD"), (IFNAME, "eth0")]).unwrap_err();
        assert_eq!((error.code, error.details.as_str()), (4, ""));
        assert_eq!(
            error.msg,
            "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_PATH] missing"
        );
        let call = from(&[
            ("CNI_COMMAND", "DEL"),
            (ID, "c-1"),
            (IFNAME, "eth0"),
            (PATH, "x"),
        ]);
        assert_eq!(call.unwrap().command, Command::Del, "without a netns");
        assert_eq!(from(&ADD).unwrap().container_id, "c-1");
        assert!(from(&[("CNI_COMMAND", "VERSION")]).is_ok());
    }

    #[test]
    fn unknown_commands_are_refused() {
        for command in ["", "add", "FETCH"] {
            let error = from(&[("CNI_COMMAND", command)]).unwrap_err();
            assert_eq!(error.code, 4, "{command}");
        }
    }

    #[test]
    fn container_ids_are_plain_names() {
        let with = |id: &str| {
            let mut pairs = ADD;
            pairs[1].1 = id;
            from(&pairs)
        };
        for id in ["a", "0af", "k8s_pod.default-1"] {
            assert!(with(id).is_ok(), "{id}");
        }
        let long = "a".repeat(ID_MAX + 1);
        for id in [
            "../../etc/passwd",
            "..",
            ".",
            "a/b",
            "-a",
            "_a",
            "a b",
            "ä",
            "a:b",
            &long,
        ] {
            assert_eq!(with(id).unwrap_err().code, 4, "{id}");
        }
        assert!(with(&long[1..]).is_ok());
    }

    #[test]
    fn interface_names_are_checked() {
        for name in ["..", "a/b", "a:1", "e 0", "sixteen-letters-"] {
            let mut pairs = ADD;
            pairs[3].1 = name;
            assert_eq!(from(&pairs).unwrap_err().code, 4, "{name}");
        }
    }
}
