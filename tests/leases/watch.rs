//! `weft leases watch`.

use crate::lab::{Lab, value};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use weft_lab::etcd::cluster::PREFIX;

/// How long a change may take until it is told.
const LIMIT: Duration = Duration::from_secs(60);

/// A running watch; killed when dropped.
struct Watch {
    process: Child,
    heard: Receiver<String>,
}

impl Watch {
    /// Start one and wait until it tells changes: they count from when it has begun.
    fn start(lab: &Lab) -> Watch {
        let mut process = lab
            .command(&["watch"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (sender, heard) = mpsc::channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let watch = Watch { process, heard };
        let first = (0..100).find_map(|n| {
            lab.cluster.put("subnets/10.5.8.0-24", &value(8 + n % 2));
            watch.heard.recv_timeout(Duration::from_millis(100)).ok()
        });
        let first = first.expect("a line");
        assert!(first.contains(" 10.5.8.0-24 192.0.2."), "{first}");
        watch
    }

    /// The next line with `words`, and those before it.
    fn expect(&self, words: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while !lines.last().is_some_and(|line| line.contains(words)) {
            match self.heard.recv_timeout(LIMIT) {
                Ok(line) => lines.push(line),
                Err(_) => panic!("nothing with {words:?}, but {lines:?}"),
            }
        }
        lines
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-r").args([from, to]).status();
    assert!(status.unwrap().success(), "cp {from:?} {to:?}");
}

#[test]
fn changes_are_told_as_they_happen() {
    let lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    let mut watch = Watch::start(&lab);
    lab.cluster
        .ctl(&["del", &format!("{PREFIX}/subnets/10.5.7.0-24")]);
    let lines = watch.expect("deleted");
    let deleted = lines.last().unwrap();
    assert!(deleted.contains("10.5.7.0-24 192.0.2.7 vxlan"), "{deleted}");
    kill_process(Pid::from_child(&watch.process), Signal::INT).unwrap();
    assert_eq!(watch.process.wait().unwrap().code(), Some(0));
}

#[test]
fn each_interruption_is_told_and_a_store_put_back_from_a_backup_is_listed_again() {
    let mut lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    let watch = Watch::start(&lab);
    let data = lab.cluster.data(0);
    let backup = data.with_extension("backup");

    lab.cluster.stop(0);
    watch.expect("interrupted: ");
    copy(&data, &backup);
    lab.cluster.resume(0);
    watch.expect("resumed");
    for n in 20..25 {
        lab.cluster.put("subnets/10.5.9.0-24", &value(n));
    }
    watch.expect("changed  10.5.9.0-24 192.0.2.24");

    lab.cluster.stop(0);
    watch.expect("interrupted: ");
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    lab.cluster.resume(0);
    let lines = watch.expect("resumed");
    let deleted = "deleted  10.5.9.0-24 192.0.2.24";
    assert!(lines.iter().any(|line| line.contains(deleted)), "{lines:?}");
    assert!(
        !lines.iter().any(|line| line.contains("10.5.7.0-24")),
        "{lines:?}"
    );

    // Its revision is one that the watch had seen before.
    lab.cluster.put("subnets/10.5.10.0-24", &value(10));
    watch.expect("new      10.5.10.0-24 192.0.2.10");
}

#[test]
fn a_store_that_is_put_back_and_goes_on_for_longer_is_listed_again() {
    let mut lab = Lab::new();
    lab.lease("10.5.7.0-24", 7);
    let watch = Watch::start(&lab);
    let data = lab.cluster.data(0);
    let backup = data.with_extension("backup");
    lab.cluster.stop(0);
    copy(&data, &backup);
    lab.cluster.resume(0);
    lab.cluster
        .ctl(&["del", &format!("{PREFIX}/subnets/10.5.7.0-24")]);
    watch.expect("deleted  10.5.7.0-24");
    lab.cluster.put("subnets/10.5.9.0-24", &value(9));
    watch.expect("new      10.5.9.0-24 192.0.2.9");

    // The watch sleeps while all this happens.
    let watching = Pid::from_child(&watch.process);
    kill_process(watching, Signal::STOP).unwrap();
    lab.cluster.stop(0);
    std::fs::remove_dir_all(&data).unwrap();
    copy(&backup, &data);
    lab.cluster.resume(0);
    for n in 0..10 {
        lab.cluster.put("subnets/10.5.10.0-24", &value(10 + n));
    }
    kill_process(watching, Signal::CONT).unwrap();
    let lines = watch.expect("new      10.5.7.0-24 192.0.2.7");
    for words in ["deleted  10.5.9.0-24", "new      10.5.10.0-24 192.0.2.19"] {
        assert!(
            lines.iter().any(|line| line.contains(words)),
            "{words}: {lines:?}"
        );
    }
    lab.cluster.put("subnets/10.5.11.0-24", &value(11));
    watch.expect("new      10.5.11.0-24 192.0.2.11");
}
