//! `weft demo`: two nodes on this machine, measured against the kernel.

mod args;

use crate::progress::Progress;
use crate::words::print;
use args::Args;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use weft_benches::load::Workload;
use weft_benches::load::rounds::{self, Event, Plan, Sample};
use weft_benches::report::{Comparison, Host};
use weft_lab::{Arena, Cluster, ClusterOptions, Contestant, Error, Pod, Regime, guard, tools};

/// TCP throughput of flannel's `udp` backend in Gbit/s, measured once on two cores.
const FLANNEL_UDP_GBITS: f64 = 0.38;

/// Run the demo with the words after `weft demo`.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = match args::parse(args) {
        Ok(args) => args,
        Err(refusal) => return refusal.tell("weft demo"),
    };
    let result = if args.remove { remove() } else { show(&args) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            guard::wait_if_interrupted();
            eprintln!("weft demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn remove() -> weft_lab::Result<()> {
    check_machine(false)?;
    let removed = guard::remove_orphans(true)?;
    print(&match removed.len() {
        0 => "nothing to remove\n".to_owned(),
        _ => format!("removed: {}\n", removed.join(", ")),
    });
    Ok(())
}

/// Everything a measurement needs of the machine, checked before anything is made.
pub(crate) fn check_machine(tools: bool) -> weft_lab::Result<()> {
    if let Some(reason) = weft_lab::unavailable() {
        return Err(Error::new(reason));
    }
    if let Some(missing) = tools::missing_beside_etcd().filter(|_| tools) {
        return Err(Error::new(missing.to_string()));
    }
    if tools && !std::path::Path::new("/dev/net/tun").exists() {
        return Err(Error::new(
            "there is no /dev/net/tun; try `modprobe tun`, or give the container the device",
        ));
    }
    Ok(())
}

fn show(args: &Args) -> weft_lab::Result<()> {
    check_machine(true)?;
    let mut progress = Progress::new();
    let mut options = ClusterOptions::new(own_binary()?);
    options.etcd = !args.no_etcd && tools::has_etcd();
    let cluster = Cluster::start(&options, |what| progress.step(what))?;
    progress.step("first pings");
    cluster.ping_all()?;
    let mut arena = Arena::new(cluster)?;
    let heading = heading(&arena.cluster, args)?;
    progress.pause(|| print(&heading));

    let plan = plan(args);
    progress.measure(plan.runs() * args.regime.0.len());
    for &regime in args.regime.0.iter().filter(|_| args.rounds > 0) {
        arena.cluster.lab.set_regime(regime)?;
        let samples = measure(&mut arena, &plan, &mut progress)?;
        let report = report(regime, &samples);
        progress.pause(|| print(&report));
    }
    progress.finish();
    arena.choose(Contestant::weft())?;
    print(&counted(&arena.cluster));
    if args.keep {
        let text = how_to_enter(&arena.cluster)?;
        arena.keep()?;
        print(&text);
    }
    Ok(())
}

/// This very program.
pub(crate) fn own_binary() -> weft_lab::Result<PathBuf> {
    std::env::current_exe().map_err(|e| Error::because("cannot find the weft binary", e))
}

fn pods(cluster: &Cluster) -> weft_lab::Result<(&Pod, &Pod)> {
    Ok((cluster.lab.node(1).pod()?, cluster.lab.node(2).pod()?))
}

fn plan(args: &Args) -> Plan {
    Plan {
        contestants: vec![
            Contestant::direct(),
            Contestant::kernel(),
            Contestant::weft(),
        ],
        workloads: Workload::FEW.to_vec(),
        rounds: args.rounds,
        time: Duration::from_secs(args.seconds),
    }
}

/// Carry out the plan; the first thing that fails ends it.
fn measure(
    arena: &mut Arena,
    plan: &Plan,
    progress: &mut Progress,
) -> weft_lab::Result<Vec<Sample>> {
    let regime = arena.cluster.lab.regime();
    let mut samples = Vec::new();
    rounds::run(plan, arena, |event| {
        match event {
            Event::Begins(run) => progress.run(&format!("{regime} {run}")),
            Event::Measured(sample) => samples.push(sample),
            Event::Failed(run, error) | Event::Out(run, error) => {
                return Err(Error::because(run.contestant.name, error));
            }
        }
        Ok(())
    })?;
    Ok(samples)
}

fn heading(cluster: &Cluster, args: &Args) -> weft_lab::Result<String> {
    let (a, b) = pods(cluster)?;
    let (version, host) = (env!("CARGO_PKG_VERSION"), Host::this());
    let (rounds, seconds, mtu) = (args.rounds, args.seconds, cluster.mtu());
    let (a, b, largest) = (a.address, b.address, mtu - 28);
    let mut text = format!(
        "weft {version}; {host}\n\
         Pods {a} and {b} ping each other, also with {largest}-byte payloads and DF set.\n"
    );
    if let Some(file) = &cluster.peers_file {
        let file = file.path().display();
        let why = if args.no_etcd {
            ""
        } else {
            ", since there is no etcd in PATH"
        };
        let _ = writeln!(text, "The nodes know each other from {file}{why}.");
    }
    if rounds > 0 {
        let plural = if rounds == 1 { "" } else { "s" };
        let _ = writeln!(
            text,
            "Underlay MTU 1500; the pods' MTU is {mtu} on all three paths.\n\
             {rounds} interleaved round{plural} of {seconds} s; median [min-max]; \
             the ratio is the median of the rounds' ratios."
        );
    }
    Ok(text)
}

fn report(regime: Regime, samples: &[Sample]) -> String {
    let comparison = Comparison::new(samples);
    let mut text = format!("\n{}\n{}", regime.describe(), comparison.table());
    if let Some(share) = comparison.agents().user_share() {
        let percent = share * 100.0;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "Userspace share of the CPU time of weft's two agents: {percent:.1} %"
        );
    }
    let figure = Workload::Tcp1.main_figure();
    let weft = comparison.summary(Workload::Tcp1, Contestant::weft(), figure);
    if let Some(weft) = weft {
        let times = weft.median / FLANNEL_UDP_GBITS;
        let _ = writeln!(
            text,
            "TCP 1 against flannel's udp backend: {times:.0} times its {FLANNEL_UDP_GBITS} Gbit/s \
             (a reference from a\nmachine of two cores, not measured in this run)"
        );
    }
    text
}

/// What weft's fast path took, and what weft dropped, by reason, on each node.
fn counted(cluster: &Cluster) -> String {
    let mut text = String::new();
    for (i, agent) in cluster.agents.iter().enumerate() {
        let Ok(counters) = agent.counters() else {
            let _ = writeln!(text, "weft on node {}: no counters to be had", i + 1);
            continue;
        };
        let drops = counters
            .iter()
            .filter(|(name, _)| name.starts_with("drop_"));
        let drops: Vec<_> = drops
            .map(|(name, count)| format!("{name}={count}"))
            .collect();
        let drops = match drops.is_empty() {
            true => "dropped nothing".to_owned(),
            false => drops.join(" "),
        };
        let percent = |part: &str, whole: &str| {
            let count = |name| counters.get(name).copied().unwrap_or(0);
            100 * count(part) / count(whole).max(1)
        };
        let _ = writeln!(
            text,
            "weft on node {}: fast path {} % of packets out, {} % of receives; {drops}",
            i + 1,
            percent("fast_sends", "tun_reads"),
            percent("fast_receives", "receives")
        );
    }
    text
}

fn how_to_enter(cluster: &Cluster) -> weft_lab::Result<String> {
    let mut text = String::from("\nThe nodes stay up. To enter them and their pods:\n");
    for node in cluster.lab.nodes() {
        let pod = node.pod()?;
        let _ = writeln!(
            text,
            "  ip netns exec {} bash   # node {}",
            node.ns.name(),
            node.number
        );
        let _ = writeln!(
            text,
            "  ip netns exec {} bash   # its pod, {}",
            pod.ns.name(),
            pod.address
        );
    }
    for agent in &cluster.agents {
        let _ = writeln!(text, "  less {}", agent.log_file().display());
    }
    let command = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("weft"));
    let command = command.display();
    for agent in &cluster.agents {
        let dir = agent.socket_dir();
        let _ = writeln!(text, "  {command} fast-path --socket-dir {}", dir.display());
    }
    let _ = writeln!(text, "To remove them: {command} demo --remove");
    Ok(text)
}
