//! Programs that outlive the process that has attached them.

use crate::frames::frame;
use crate::nodes::{LIMIT, Node, PORT, config, isolated, nodes, start, table, underlay};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use weft_dataplane::fastpath::Policy;
use weft_dataplane::wire::frame::Wire;
use weft_lab::wait_until;

/// Tells a child of this test where the BPF file system is.
const CHILD: &str = "WEFT_TEST_BPFFS";

/// The agent's part in the test below: attach the programs, and wait for the end.
#[test]
fn child() {
    let Some(bpffs) = std::env::var_os(CHILD) else {
        return;
    };
    let auto = Policy {
        all: false,
        super_packets: true,
        mtu: 1500,
    };
    let config = config(2, Path::new(&bpffs));
    let _programs = start(config, &table(2, Wire::Vxlan), auto).unwrap();
    std::io::stdout().write_all(b"attached\n").unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}

/// Start the child in the namespaces of a node; returns when its programs are attached.
fn spawn(node: &Node, bpffs: &Path) -> Child {
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["process::child", "--exact", "--nocapture"])
            .env(CHILD, bpffs)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
    };
    let mut child = node.ns.enter(start).unwrap().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("attached")));
    child
}

/// A frame with an outer checksum is left to the workers, until their process has ended: then the
/// programs take it, too, and the map by which they know needs nobody's help.
#[test]
fn programs_take_what_was_the_workers_once_their_process_is_killed() {
    isolated(|bpffs| {
        let [a, b] = nodes(bpffs, Wire::Vxlan);
        let mut child = spawn(&b, bpffs);
        let (sender, receiver) = (a.outside(), b.inside());
        receiver
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        let arrives = || {
            sender
                .send_to(&frame(&a, &b, b"packet"), (underlay(2), PORT))
                .unwrap();
            weft_lab::uninterrupted(|| receiver.recv(&mut [0; 64])).is_ok()
        };
        // Nobody has the workers' port here.
        let before = arrives();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!before);
        assert!(wait_until(LIMIT, arrives));
    });
}
