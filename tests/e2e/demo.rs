//! `weft demo` as a user runs it.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use weft_lab::{skips_test, wait_until};

/// The namespaces and lab directories there are. As with every test here that measures, no
/// other lab may come or go meanwhile.
pub(crate) fn traces() -> BTreeSet<String> {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let namespaces = listed.lines().filter_map(|line| line.split(' ').next());
    let namespaces = namespaces.filter(|name| name.starts_with("weft-"));
    // Not every machine has a place for files in memory.
    let places = [std::env::temp_dir(), PathBuf::from("/dev/shm")];
    let entries = places.into_iter().filter_map(|dir| fs::read_dir(dir).ok());
    let names = entries
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let directories = names.filter(|name| name.starts_with("weft-lab-"));
    namespaces.map(str::to_owned).chain(directories).collect()
}

fn demo() -> Command {
    let mut command = Command::new(crate::cluster::weft());
    command.args(["demo", "--quick"]);
    command
}

#[test]
fn the_demo_prints_its_table_and_leaves_nothing() {
    if skips_test() {
        return;
    }
    let before = traces();
    let output = demo().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let news = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{news}");
    for row in ["TCP 1 stream", "TCP 4 reverse", "UDP 64 B", "UDP one way"] {
        let line = text.lines().find(|line| line.starts_with(row));
        let ratio = line.and_then(|line| line.split_whitespace().last()?.parse::<f64>().ok());
        assert!(ratio.is_some_and(|ratio| ratio > 0.0), "{row}: {text}");
    }
    assert_eq!(traces(), before);
}

#[test]
fn a_demo_that_is_interrupted_leaves_nothing() {
    if skips_test() {
        return;
    }
    let before = traces();
    let mut child = demo()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Four namespaces and the name of a directory: by then etcd and the agents are about to start.
    let built = wait_until(Duration::from_secs(20), || {
        traces().len() >= before.len() + 5
    });
    std::thread::sleep(Duration::from_secs(2));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert!(built, "no lab was made");
    assert!(!status.success());
    assert_eq!(traces(), before);
}
