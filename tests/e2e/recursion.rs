//! Leases whose address the node itself routes into a tunnel: what is sent to them comes back.

use crate::cluster::{Cluster, ENGINES, PREFIX, lines_with};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use weft_lab::topology::{UNDERLAY, ping};
use weft_lab::{Regime, skips_test, wait_until};

/// A node that lies in its own subnet, and a pod of it.
const NODE: &str = "10.244.250.9";
const KEY: &str = "10.244.250.0-24";
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 250, 5);

/// The agent looks at routes each ten seconds, on a machine that may be slow.
const LOOK: Duration = Duration::from_secs(30);

/// Reads that a ping may cost: itself, once more as an outer packet, and what the kernel says
/// by itself when a device comes up.
const FEW: u64 = 30;

/// The lab, on whose first node weft runs, whose log and counters are looked at.
struct Scene {
    cluster: Cluster,
    what: String,
}

impl Scene {
    fn new(engine: &str, kind: &str, flags: &[&str]) -> Scene {
        let config = format!(
            r#"{{"Network":"10.244.0.0/16","SubnetMax":"10.244.127.0","Backend":{{"Type":"{kind}"}}}}"#
        );
        let mut cluster = Cluster::configured(2, Regime::R1, &config);
        cluster.flags = vec![engine.to_owned()];
        cluster
            .flags
            .extend(flags.iter().map(|&flag| flag.to_owned()));
        cluster.join(1);
        let what = format!("{engine} {kind}");
        Scene { cluster, what }
    }

    /// Write the lease, as its node does again and again.
    fn put(&self, kind: &str) {
        let value = match kind {
            "vxlan" => format!(
                r#"{{"PublicIP":"{NODE}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0a:00:00:00:00:03"}}}}"#
            ),
            _ => format!(r#"{{"PublicIP":"{NODE}"}}"#),
        };
        let key = format!("{PREFIX}/subnets/{KEY}");
        self.cluster.etcd.put(&key, &value).unwrap();
    }

    fn lines(&self, words: &[&str]) -> usize {
        let words: Vec<&str> = words.iter().copied().chain([KEY]).collect();
        lines_with(&self.cluster.agents[&1].log_file(), &words).len()
    }

    fn await_line(&self, words: &[&str]) {
        let said = wait_until(LOOK, || self.lines(words) > 0);
        assert!(said, "{}: nothing with {words:?}", self.what);
    }

    fn route(&self, action: &str) {
        let line = format!("route {action} {NODE}/32 dev {UNDERLAY}");
        self.cluster.lab.node(1).ns.ip(&line).unwrap();
    }

    /// A ping is dropped and does not go round. It is counted, at the latest when the agent knows
    /// of the route: the programs send by the underlay's device whatever routes say, where nobody
    /// has the address.
    fn ping_is_dropped(&self) {
        let count = |name: &str| self.cluster.counter(1, name);
        let drops = count("drop_recursion");
        let counted = wait_until(LOOK, || {
            let reads = count("tun_reads");
            assert!(ping(&self.cluster.pod(1).ns, POD, 1, 56, false).is_err());
            // It has waited a second for its answer, in which a loop makes ten thousands.
            let reads = count("tun_reads") - reads;
            assert!(reads < FEW, "{}: {reads} reads for one ping", self.what);
            count("drop_recursion") > drops
        });
        assert!(counted, "{}: not counted", self.what);
    }
}

fn comes_to_rest(engine: &str, kind: &str, flags: &[&str]) {
    let mut scene = Scene::new(engine, kind, flags);
    let warning = [" WARN ", "tunnel", "-public-ip"];
    scene.put(kind);
    scene.await_line(&warning);
    scene.ping_is_dropped();
    // Once, however often it is renewed.
    for _ in 0..3 {
        scene.put(kind);
    }
    scene.route("add");
    scene.await_line(&[" INFO ", "outside the tunnel again"]);
    assert_eq!(scene.lines(&warning), 1, "{}", scene.what);
    // The route changes underneath, and the agent does not know yet.
    scene.route("del");
    scene.ping_is_dropped();

    let start = Instant::now();
    let status = scene.cluster.agents.get_mut(&1).unwrap().stop().unwrap();
    assert!(status.unwrap().success(), "{}", scene.what);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "{}: {took:?}", scene.what);
}

#[test]
fn what_is_routed_back_into_the_tunnel_does_not_loop() {
    if skips_test() {
        return;
    }
    let [ring, poll] = ENGINES;
    // Where the host masquerades, outer packets have another source when they come back.
    comes_to_rest(ring, "vxlan", &["-ip-masq"]);
    comes_to_rest(ring, "udp", &[]);
    comes_to_rest(poll, "vxlan", &[]);
    comes_to_rest(poll, "udp", &["-ip-masq"]);
}
