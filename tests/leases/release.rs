//! What `weft leases release` deletes, and what it asks before.

use crate::lab::{Lab, complaint, value};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Output, Stdio};

/// A terminal: the end that a person types at, and the one that a program reads from.
fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap();
    let program = File::options()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOCTTY.bits().cast_signed())
        .open(name.to_str().unwrap())
        .unwrap();
    (person.into(), program)
}

/// A release that has asked and waits for the answer.
struct Asked {
    person: File,
    command: Child,
    question: String,
}

impl Asked {
    fn of(lab: &Lab, what: &str) -> Asked {
        let (person, stdin) = terminal();
        let mut command = lab.command(&["release", what]);
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = command.spawn().unwrap();
        let mut question = Vec::new();
        let stderr = command.stderr.as_mut().unwrap();
        while !question.ends_with(b"[y/N] ") {
            let mut byte = [0];
            stderr.read_exact(&mut byte).unwrap();
            question.extend(byte);
        }
        Asked {
            person,
            command,
            question: String::from_utf8(question).unwrap(),
        }
    }

    fn answer(mut self, typed: &str) -> Output {
        self.person.write_all(typed.as_bytes()).unwrap();
        self.command.wait_with_output().unwrap()
    }
}

#[test]
fn on_a_terminal_it_asks_and_only_yes_counts() {
    const END_OF_FILE: &str = "\u{4}";
    let lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    for no in ["n\n", "\n", "never\n", END_OF_FILE] {
        let asked = Asked::of(&lab, "10.5.7.0/24");
        for words in [
            "10.5.7.0-24 is the lease of 192.0.2.7",
            "weft takes the subnet again at once, and ends only if another node has it by then",
            "stop its agent first",
        ] {
            assert!(asked.question.contains(words), "{}", asked.question);
        }
        let output = asked.answer(no);
        assert_eq!(output.status.code(), Some(1), "{no:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.trim(), "weft leases: nothing was released");
        assert_eq!(
            said.starts_with('\n'),
            no == END_OF_FILE,
            "a line of its own"
        );
        assert_eq!(lab.cluster.leases(), ["10.5.7.0-24"], "{no:?}");
    }
    for yes in ["y\n", "Yes\n"] {
        lab.lease("10.5.7.0-24", 7);
        let asked = Asked::of(&lab, "10.5.7.0-24");
        assert_eq!(lab.cluster.leases(), ["10.5.7.0-24"], "asked before");
        let output = asked.answer(yes);
        assert!(output.status.success(), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.starts_with("10.5.7.0-24 is released"), "{said}");
        assert_eq!(lab.cluster.leases(), [""; 0], "{yes:?}");
    }
}

#[test]
fn what_changes_while_it_asks_stays() {
    let lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    let asked = Asked::of(&lab, "10.5.7.0-24");
    lab.lease("10.5.7.0-24", 8);
    let line = complaint(&asked.answer("y\n"), 1);
    assert!(line.contains("has changed meanwhile: look again"), "{line}");
    assert_eq!(lab.cluster.get("subnets/10.5.7.0-24"), Some(value(8)));
}

#[test]
fn without_a_terminal_it_wants_yes_on_the_command_line() {
    let lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    for stdin in [Stdio::null(), Stdio::piped()] {
        let mut command = lab.command(&["release", "10.5.7.0-24"]);
        let line = complaint(&command.stdin(stdin).output().unwrap(), 1);
        for word in ["192.0.2.7", "takes the subnet again", "--yes"] {
            assert!(line.contains(word), "{line}");
        }
        assert_eq!(lab.cluster.leases(), ["10.5.7.0-24"]);
    }
    lab.good(&["release", "10.5.7.0-24", "--yes"]);
    assert_eq!(lab.cluster.leases(), [""; 0]);
}

#[test]
fn a_lease_is_named_by_subnet_or_key_of_either_family() {
    let lab = Lab::new();
    let dual = "10.5.7.0-24&fd00:7::-64";
    for what in [
        dual,
        "10.5.7.0/24",
        "10.5.7.0-24",
        "fd00:7::/64",
        "fd00:7::-64",
    ] {
        lab.cluster.put(&format!("subnets/{dual}"), &value(7));
        let shown = lab.good(&["show", what]);
        assert!(
            shown.starts_with(&format!("key           {dual}\n")),
            "{what}: {shown}"
        );
        // A reservation is nobody's in use.
        lab.good(&["release", what]);
        assert_eq!(lab.cluster.leases(), [""; 0], "{what}");
    }

    for (what, words) in [
        ("10.5.7.0-25", "there is no lease 10.5.7.0-25"),
        ("10.5.7.1/24", "the subnet is 10.5.7.0/24"),
        ("192.0.2.7", "nor a key such as 10.5.34.0-24"),
    ] {
        let line = lab.bad(&["release", what]);
        assert!(line.contains(words), "{line}");
    }

    // One subnet under two keys, which only a fault or an operator can have made.
    lab.cluster.put("subnets/10.5.7.0-24", &value(7));
    lab.cluster.put(&format!("subnets/{dual}"), &value(8));
    let line = lab.bad(&["release", "10.5.7.0/24"]);
    assert!(
        line.contains(&format!("10.5.7.0-24 and {dual}: name one by its key")),
        "{line}"
    );
    lab.good(&["release", "10.5.7.0-24"]);
    assert_eq!(lab.cluster.leases(), [dual]);
}

#[test]
fn both_families_are_reserved_by_their_key() {
    let lab = Lab::new();
    let config = r#"{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00::/16","Backend":{"Type":"vxlan"}}"#;
    lab.cluster.put("config", config);
    let dual = "10.5.7.0-24&fd00:7::-64";
    let addresses = ["--public-ip=192.0.2.7", "--public-ipv6=2001:db8::7"];
    let said = lab.good(&["reserve", dual, addresses[0], addresses[1]]);
    assert!(said.starts_with(&format!("{dual} is reserved")), "{said}");
    let again = lab.good(&[
        "reserve",
        "10.5.7.0-24",
        "--ipv6-subnet=fd00:7::/64",
        addresses[0],
        addresses[1],
    ]);
    assert!(again.contains("has been reserved"), "{again}");
    assert_eq!(lab.cluster.leases(), [dual]);
}
