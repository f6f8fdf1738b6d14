//! What others have of a flood: a stream of numbered datagrams, round trips and TCP beside floods of
//! several kinds, for kernel VXLAN and for weft, in turns.
//!
//! `cargo run --release -p weft-benches --example overload -- target/release/weft [ROUNDS] [WORD]`,
//! as root. With a word, only floods and carriers whose line would have it.

#![allow(clippy::print_stdout)]

mod floods;
mod loads;

use floods::Flood;
use loads::Loads;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use weft_lab::{
    Agent, AgentOptions, Error, Lab, LabOptions, PeersFile, Regime, Result, Vtep, VxlanSpec,
    topology::ping, wait_until,
};

/// MTU of the overlay.
const MTU: u32 = 1450;

/// Where agents answer `/healthz`.
const HEALTH: u16 = 9_471;

/// Time for a flood to fill what it fills.
const WARM_UP: Duration = Duration::from_millis(500);

const CARRIERS: [(&str, &[&str]); 4] = [
    ("kernel", &[]),
    ("weft auto", &[]),
    ("weft ring", &["-fast-path=off", "-engine=ring"]),
    ("weft poll", &["-fast-path=off", "-engine=poll"]),
];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let binary = args
        .next()
        .ok_or_else(|| Error::new("usage: overload WEFT_BINARY [ROUNDS] [WORD]"))?;
    let binary = std::fs::canonicalize(binary).map_err(|e| Error::because("binary", e))?;
    let rounds = args.next().and_then(|n| n.parse().ok()).unwrap_or(3);
    let word = args.next().unwrap_or_default();
    println!("round carrier flood | {}", Loads::TITLE);
    for round in 1..=rounds {
        for (carrier, flags) in CARRIERS {
            if !Flood::ALL.iter().any(|f| line(carrier, *f).contains(&word)) {
                continue;
            }
            let scene = Scene::new(&binary, carrier, flags)?;
            for flood in Flood::ALL {
                if line(carrier, flood).contains(&word) {
                    let loads = scene.beside(flood)?;
                    println!("{round} {} | {loads}", line(carrier, flood));
                }
            }
        }
    }
    Ok(())
}

fn line(carrier: &str, flood: Flood) -> String {
    format!("{carrier:10} {:16}", flood.name())
}

/// Three nodes with two pods each. The first pod of node 1 floods; loads go from node 2 to the first
/// pod of node 3, or from the second pod of node 1 where its own node is flooded.
struct Scene {
    lab: Lab,
    agents: Vec<Agent>,
    _vteps: Vec<Vtep>,
    _file: Option<PeersFile>,
}

impl Scene {
    fn new(binary: &Path, carrier: &str, flags: &[&str]) -> Result<Scene> {
        let lab = Lab::new(LabOptions {
            nodes: 3,
            regime: Regime::R1,
            pods_per_node: 2,
            ..LabOptions::default()
        })?;
        let mut scene = Scene {
            lab,
            agents: Vec::new(),
            _vteps: Vec::new(),
            _file: None,
        };
        match carrier {
            "kernel" => scene.by_kernel()?,
            _ => scene.by_weft(binary.to_owned(), flags)?,
        }
        for from in [1, 2] {
            let (from, to) = (scene.lab.node(from).pod()?, scene.lab.node(3).pod()?);
            let reached = || ping(&from.ns, to.address, 1, 56, false).is_ok();
            if !wait_until(Duration::from_secs(10), reached) {
                return Err(Error::new("the pods do not reach each other"));
            }
        }
        Ok(scene)
    }

    /// Kernel VXLAN on all nodes, as flannel would set it up.
    fn by_kernel(&mut self) -> Result<()> {
        let mut vteps = Vec::new();
        for number in 1..=3 {
            let subnet = format!("10.244.{number}.1/24");
            let subnet = subnet.parse().map_err(|e| Error::because("subnet", e))?;
            let spec = VxlanSpec {
                mtu: MTU,
                ..VxlanSpec::flannel(1)
            };
            vteps.push(Vtep::create(&self.lab, number, spec, subnet)?);
            self.lab.attach_pod(number, subnet, MTU)?;
        }
        let peers: Vec<_> = vteps.iter().map(Vtep::as_peer).collect();
        for (i, vtep) in vteps.iter().enumerate() {
            for (_, peer) in peers.iter().enumerate().filter(|(j, _)| *j != i) {
                vtep.learn(peer)?;
                vtep.route(peer)?;
            }
        }
        self._vteps = vteps;
        Ok(())
    }

    fn by_weft(&mut self, binary: PathBuf, flags: &[&str]) -> Result<()> {
        let network = r#"{"Network":"10.244.0.0/16","Backend":{"Type":"vxlan"}}"#;
        let file = PeersFile::create(&self.lab, network, 1..=3)?;
        for number in 1..=3 {
            let mut options = AgentOptions::without_etcd(&binary, file.path());
            options.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
            options.flags.push(format!("-healthz-port={HEALTH}"));
            let mut agent = Agent::start(&self.lab, number, options)?;
            let env = agent.wait_ready()?;
            self.lab.attach_pod(number, env.subnet, env.mtu)?;
            self.agents.push(agent);
        }
        for agent in &self.agents {
            agent.wait_for_way()?;
        }
        self._file = Some(file);
        Ok(())
    }

    /// The loads while `flood` goes on.
    fn beside(&self, flood: Flood) -> Result<Loads> {
        let from = match flood.is_outbound() {
            true => &self.lab.node(1).pods[1],
            false => self.lab.node(2).pod()?,
        };
        let to = self.lab.node(3).pod()?;
        let asked = match flood.is_outbound() {
            true => 1,
            false => 3,
        };
        let health = (!self.agents.is_empty()).then_some(&self.lab.node(asked).ns);
        let before = self.drops(asked);
        let prepared = flood.prepare(&self.lab)?;
        let done = AtomicBool::new(false);
        let (loads, sent) = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| prepared.run(&done));
            std::thread::sleep(WARM_UP);
            let loads = Loads::measure(from, to, health);
            done.store(true, Ordering::SeqCst);
            (loads, flooding.join())
        });
        let mut loads = loads?;
        loads.flood = sent.map_err(|_| Error::new("the flood panicked"))??;
        for (name, count) in self.drops(asked) {
            let grown = count - before.iter().find(|b| b.0 == name).map_or(0, |b| b.1);
            if grown > 0 {
                loads.drops.push((name, grown));
            }
        }
        Ok(loads)
    }

    /// What the agent of this node has dropped, if there is one.
    fn drops(&self, number: usize) -> Vec<(String, u64)> {
        let counters = self.agents.get(number - 1).map(|agent| agent.counters());
        let counters = counters.and_then(Result::ok).unwrap_or_default();
        let drops = counters.into_iter();
        drops
            .filter(|(name, _)| name.starts_with("drop_"))
            .collect()
    }
}
