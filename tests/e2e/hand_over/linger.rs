//! Managers that start again what has ended, as kubelet does: the agent that has handed over must
//! not take over again at once, and must not stay when nobody carries packets.

use super::{SOON, await_lines};
use crate::cluster::Cluster;
use weft_lab::{Regime, skips_test, wait_until};

#[test]
fn an_agent_that_lingers_ends_with_the_one_that_took_over() {
    if skips_test() {
        return;
    }
    let cluster = Cluster::of_weft_with(2, Regime::R1, &["-linger"]);
    let agent = &cluster.agents[&1];
    let mut heir = agent.beside(&[]).unwrap();
    await_lines(&cluster, 1, &["staying, as -linger says"], 1);
    assert!(heir.ended().unwrap().is_none());
    cluster.await_path(1, 2);
    heir.kill().unwrap();
    await_lines(&cluster, 1, &["the process that took over has ended"], 1);
    let gone = || agent.pid().is_none_or(|pid| !is_running(pid));
    assert!(wait_until(SOON, gone), "it stays");

    // The manager starts both: one carries the packets, the other one stays.
    let mut both = vec![agent.beside(&[]).unwrap()];
    await_lines(&cluster, 1, &["ready: "], 3);
    both.push(agent.beside(&[]).unwrap());
    await_lines(&cluster, 1, &["staying, as -linger says"], 2);
    cluster.await_path(2, 1);
    for process in &mut both {
        assert!(process.ended().unwrap().is_none());
    }
    // Whichever it is that stays: a signal ends it.
    for process in &mut both {
        assert!(process.stop().unwrap().success());
    }
}

/// Whether a process is there and has not ended.
fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}
