//! Every load over every contestant that needs no agent.
#![allow(clippy::unwrap_used)]

use std::path::Path as FilePath;
use std::time::Duration;
use weft_benches::load::Workload;
use weft_benches::load::rounds::{self, Event, Plan};
use weft_benches::report::Comparison;
use weft_lab::{Arena, Cluster, Contestant, Etcd, Lab, LabOptions};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// An arena without agents: pods in fixed subnets.
fn arena() -> weft_lab::Result<Arena> {
    let mut lab = Lab::new(LabOptions::default())?;
    for number in [1, 2] {
        let subnet = format!("10.244.{number}.1/24").parse().unwrap();
        lab.attach_pod(number, subnet, 1450)?;
    }
    let etcd = Etcd::start(&lab, 1)?;
    Arena::new(Cluster {
        agents: Vec::new(),
        envs: Vec::new(),
        etcd: Some(etcd),
        peers_file: None,
        lab,
    })
}

#[test]
fn contestants_without_agents_meet_every_load() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let mut arena = arena()?;
    let tun_tap = Contestant::of("tun-tap").unwrap();
    let plan = Plan {
        contestants: vec![Contestant::direct(), Contestant::kernel(), tun_tap],
        workloads: Workload::ALL.to_vec(),
        rounds: 1,
        time: Duration::from_secs(1),
    };
    let (mut begun, mut samples) = (0, Vec::new());
    rounds::run(&plan, &mut arena, |event| {
        match event {
            Event::Begins(_) => begun += 1,
            Event::Measured(sample) => samples.push(sample),
            Event::Failed(run, error) | Event::Out(run, error) => panic!("{run:?}: {error}"),
        }
        Ok(())
    })?;
    assert_eq!((samples.len(), begun), (plan.runs(), plan.runs()));
    for sample in &samples {
        let (workload, m) = (sample.run.workload, &sample.measurement);
        let value = (workload.main_figure().of)(m);
        assert!(value > 0.0 && value.is_finite(), "{sample:?}");
        assert!(m.gbits > 0.0 || workload == Workload::Connect, "{sample:?}");
        assert!(m.count > 0 || workload.is_iperf(), "{sample:?}");
        assert_eq!(m.iperf3.is_some(), workload.is_iperf());
        assert!(m.cpu.busy() > 0.0, "{sample:?}");
    }
    eprintln!("{}", Comparison::new(&samples).table());
    Ok(())
}

#[test]
fn who_cannot_run_is_out_and_the_others_go_on() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let mut arena = arena()?;
    // There are no agents, so weft carries nothing.
    let plan = Plan {
        contestants: vec![Contestant::weft(), Contestant::direct()],
        workloads: vec![Workload::PingPong],
        rounds: 2,
        time: Duration::from_millis(200),
    };
    let (mut out, mut measured) = (Vec::new(), 0);
    rounds::run(&plan, &mut arena, |event| {
        match event {
            Event::Out(run, _) => out.push(run.contestant.key),
            Event::Measured(_) => measured += 1,
            Event::Begins(_) => {}
            Event::Failed(run, error) => panic!("{run:?}: {error}"),
        }
        Ok(())
    })?;
    assert_eq!((out, measured), (vec!["weft"], 2));
    Ok(())
}

#[test]
fn the_forwarder_carries_what_is_sent_and_leaves_no_device() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let mut arena = arena()?;
    arena.choose(Contestant::of("tun-tap").unwrap())?;
    let node = arena.cluster.lab.node(1).ns.clone();
    let carried = |node: &weft_lab::Namespace| -> weft_lab::Result<u64> {
        let path = FilePath::new("/sys/class/net/tt-lab/statistics/tx_packets");
        Ok(node
            .run(&["cat", &path.to_string_lossy()])?
            .trim()
            .parse()
            .unwrap())
    };
    let before = carried(&node)?;
    let (from, to) = arena.pods()?;
    weft_lab::topology::ping(&from.ns, to.address, 5, 1422, true)?;
    assert_eq!(carried(&node)? - before, 5);
    let forwarder = weft_lab::tuntap::TunTap::start(&arena.cluster.lab, 1, 2, 1450);
    let error = forwarder.unwrap_err().to_string();
    assert!(
        error.starts_with("tun-tap forwarder: "),
        "the name is taken: {error}"
    );
    Ok(())
}
