//! Underlays of other MTUs than 1500, and paths that are smaller than the underlay.

use crate::cluster::{Cluster, NEWS, WORKERS};
use crate::errors::Errors;
use crate::traffic::{tcp, udp, udp_super};
use crate::tunnel_gso::send_until_whole;
use std::time::{Duration, Instant};
use weft_lab::topology::{UNDERLAY, ping};
use weft_lab::{Regime, run, skips_test, wait_until};

/// IP, UDP, VXLAN and Ethernet headers around an inner packet.
const OVERHEAD: u32 = 50;

/// IP and ICMP header of an echo.
const ECHO: u32 = 28;

/// The MTU in the middle of the path, and the longest inner packet that it carries.
const MIDDLE: u32 = 1_300;
const MIDDLE_INNER: u32 = MIDDLE - OVERHEAD;

/// Both engines, by their flags.
const ENGINES: [&str; 2] = ["-engine=ring", "-engine=poll"];

/// What `ping` prints, whether or not it is answered.
fn ping_says(cluster: &Cluster, from: usize, to: usize, args: &[&str]) -> String {
    let mut command = cluster.pod(from).ns.command("ping");
    command.args(["-n", "-i", "0.1", "-W", "1"]).args(args);
    command.arg(cluster.pod(to).address.to_string());
    match run(&mut command) {
        Ok(text) => text,
        Err(error) => error.to_string(),
    }
}

/// Pings of the largest size that fits, and TCP and UDP of every size, both ways.
fn exchange(cluster: &Cluster, inner_mtu: u32) {
    let largest = inner_mtu - ECHO;
    for (from, to) in [(1, 2), (2, 1)] {
        let (from, to) = (cluster.pod(from), cluster.pod(to));
        ping(&from.ns, to.address, 5, largest, true).unwrap();
        ping(&from.ns, to.address, 5, largest + 1, false).unwrap();
        tcp(from, to, 4, 4 << 20);
        udp(from, to, &[0, 1_001, largest as usize, 20_000], 20);
        udp_super(from, to, largest as usize, 6, 77);
    }
}

#[test]
fn jumbo_and_small_underlays_are_used_to_the_last_byte() {
    if skips_test() {
        return;
    }
    for (mtu, regime) in [
        (9_000, Regime::R1),
        (9_000, Regime::R3),
        (1_280, Regime::R1),
        (1_280, Regime::R3),
    ] {
        let cluster = Cluster::on_underlay(2, mtu, regime, None, &[]);
        let errors = Errors::of(&cluster);
        exchange(&cluster, mtu - OVERHEAD);
        for number in [1, 2] {
            assert_eq!(cluster.counter(number, "drop_send_failed"), 0);
            assert_eq!(cluster.counter(number, "path_mtus_learned"), 0);
        }
        errors.assert_none_since(&cluster);
    }
}

#[test]
fn a_configured_mtu_above_the_underlays_loses_nothing() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        for regime in [Regime::R1, Regime::R3] {
            let cluster =
                Cluster::on_underlay(2, 1_500, regime, Some(4_000), &[engine, "-tunnel-gso=off"]);
            let errors = Errors::of(&cluster);
            let (a, b) = (cluster.pod(1), cluster.pod(2));
            // Before anything is learned IP fragments the outer packets.
            ping(&a.ns, b.address, 5, 3_950 - ECHO, true).unwrap();
            for (from, to) in [(a, b), (b, a)] {
                tcp(from, to, 4, 4 << 20);
                udp(from, to, &[1_001, 1_422, 20_000], 20);
                // The sender knows better by now than to ask for more.
                udp_super(from, to, 1_400, 6, 77);
                ping(&from.ns, to.address, 5, 3_950 - ECHO, false).unwrap();
            }
            // The first train of node 1 tells; after that all TCP segments fit. Pod 1, which was
            // told, may advertise so small a segment size that node 2 has nothing to learn.
            assert_eq!(
                cluster.counter(1, "path_mtus_learned"),
                1,
                "{engine} {regime}"
            );
            assert!(cluster.counter(1, "icmp_sent") > 0, "{engine} {regime}");
            for number in [1, 2] {
                assert_eq!(
                    cluster.counter(number, "downgrades"),
                    0,
                    "{engine} {regime}"
                );
                assert_eq!(cluster.counter(number, "drop_send_failed"), 0);
                assert_eq!(cluster.counter(number, "drop_too_big"), 0);
            }
            errors.assert_none_since(&cluster);
        }
    }
}

/// Nothing was lost on the way out of nodes 1 and 2, nor arrived damaged.
fn assert_nothing_lost(cluster: &Cluster, errors: &Errors, what: &str) {
    for number in [1, 2] {
        for counter in ["downgrades", "drop_send_failed", "drop_too_big"] {
            let count = cluster.counter(number, counter);
            assert_eq!(count, 0, "{what}: {counter} of node {number}");
        }
    }
    errors.assert_none_since(cluster);
}

#[test]
fn above_the_underlays_mtu_only_super_packets_that_fit_leave_whole() {
    if skips_test() {
        return;
    }
    for (engine, regime, tunnel) in [
        (ENGINES[0], Regime::R1, "-tunnel-gso=auto"),
        (ENGINES[1], Regime::R1, "-tunnel-gso=on"),
        (ENGINES[0], Regime::R3, "-tunnel-gso=on"),
    ] {
        let what = format!("{engine} {regime} {tunnel}");
        let cluster =
            Cluster::on_underlay(2, 1_500, regime, Some(4_000), &[WORKERS, engine, tunnel]);
        let errors = Errors::of(&cluster);
        let (a, b) = (cluster.pod(1), cluster.pod(2));
        // Before anything is learned IP fragments the outer packets.
        ping(&a.ns, b.address, 5, 3_950 - ECHO, true).unwrap();
        // The first train of node 1 tells, and what its pod sends then leaves whole.
        send_until_whole(&cluster, 1, 2);
        send_until_whole(&cluster, 2, 1);
        assert_eq!(cluster.counter(1, "path_mtus_learned"), 1, "{what}");
        assert!(cluster.counter(1, "icmp_sent") > 0, "{what}");
        let said = ping_says(&cluster, 1, 2, &["-c", "1", "-M", "do", "-s", "3922"]);
        assert!(said.contains("mtu") && said.contains("1450"), "{said}");

        let whole = cluster.counter(1, "super_sends");
        for (from, to) in [(a, b), (b, a)] {
            tcp(from, to, 4, 4 << 20);
            udp(from, to, &[1_001, 1_422, 20_000], 20);
            udp_super(from, to, 1_400, 6, 77);
            ping(&from.ns, to.address, 5, 3_950 - ECHO, false).unwrap();
            ping(&from.ns, to.address, 5, 1_450 - ECHO, true).unwrap();
        }
        // Four times four megabytes are 256 super-packets of full length.
        let whole = cluster.counter(1, "super_sends") - whole;
        assert!(whole > 50, "{what}: {whole} super-packets left whole");
        assert_nothing_lost(&cluster, &errors, &what);
    }
}

#[test]
fn an_underlay_that_narrows_is_noticed_while_super_packets_leave_whole() {
    if skips_test() {
        return;
    }
    for (engine, regime) in ENGINES.into_iter().zip([Regime::R1, Regime::R3]) {
        let what = format!("{engine} {regime}");
        let flags = [WORKERS, engine, "-tunnel-gso=on"];
        let cluster = Cluster::on_underlay(2, 9_000, regime, Some(4_000), &flags);
        let errors = Errors::of(&cluster);
        let (a, b) = (cluster.pod(1), cluster.pod(2));
        send_until_whole(&cluster, 1, 2);
        assert_eq!(cluster.counter(1, "path_mtus_learned"), 0, "{what}");
        for (own, other) in [(1, 2), (2, 1)] {
            let to = cluster.lab.node(other).underlay;
            let route = format!("route add {to}/32 dev {UNDERLAY} mtu 1500");
            cluster.lab.node(own).ns.ip(&route).unwrap();
        }
        // No send through the TAP is refused for its length: the kernel fragments.
        let learned = wait_until(NEWS, || {
            tcp(a, b, 1, 5_000_000);
            cluster.counter(1, "path_mtus_learned") > 0
        });
        assert!(learned, "{what}: node 1 learns nothing");
        tcp(a, b, 4, 4 << 20);
        tcp(b, a, 4, 4 << 20);
        assert!(cluster.counter(1, "icmp_sent") > 0, "{what}");
        ping(&a.ns, b.address, 5, 3_950 - ECHO, false).unwrap();
        assert_nothing_lost(&cluster, &errors, &what);
    }
}

/// Nodes 1 and 2, whose way to each other leads through node 3, which hands on no packet of
/// more than [`MIDDLE`] bytes. The underlay says 1500.
fn with_a_narrow_middle(engine: &str, regime: Regime) -> Cluster {
    let cluster = Cluster::on_underlay(3, 1_500, regime, None, &[WORKERS, "-outer-df", engine]);
    let router = &cluster.lab.node(3).ns;
    for key in ["all", "default", UNDERLAY] {
        let key = format!("net/ipv4/conf/{key}/send_redirects");
        router.sysctl(&key, "0").unwrap();
    }
    let via = cluster.lab.node(3).underlay;
    for (own, other) in [(1, 2), (2, 1)] {
        let to = cluster.lab.node(other).underlay;
        let route = format!("route add {to}/32 dev {UNDERLAY} mtu {MIDDLE}");
        router.ip(&route).unwrap();
        let route = format!("route add {to}/32 via {via} dev {UNDERLAY}");
        cluster.lab.node(own).ns.ip(&route).unwrap();
    }
    cluster
}

#[test]
fn with_df_on_outer_packets_senders_learn_the_mtu_of_the_path() {
    if skips_test() {
        return;
    }
    for engine in ENGINES {
        let cluster = with_a_narrow_middle(engine, Regime::R1);
        let (a, b) = (cluster.pod(1), cluster.pod(2));
        ping(&a.ns, b.address, 5, MIDDLE_INNER - ECHO, true).unwrap();

        // The first is lost in the middle, the second is refused here, the third is answered.
        let mut said = String::new();
        let told = wait_until(NEWS, || {
            said = ping_says(&cluster, 1, 2, &["-c", "4", "-M", "do", "-s", "1422"]);
            said.contains("mtu")
        });
        assert!(told, "{engine}: {said}");
        let mtu = format!("mtu = {MIDDLE_INNER}");
        assert!(
            said.contains(&mtu) || said.contains(&mtu.replace(' ', "")),
            "{said}"
        );
        assert!(cluster.counter(1, "icmp_sent") > 0);
        assert!(cluster.counter(1, "drop_too_big") > 0);
        assert_eq!(cluster.counter(1, "path_mtus_learned"), 1);

        // The way back is learned by what comes back.
        let learned = wait_until(NEWS, || {
            ping_says(&cluster, 2, 1, &["-c", "4", "-M", "do", "-s", "1422"]);
            cluster.counter(2, "path_mtus_learned") > 0
        });
        assert!(learned, "{engine}: node 2 learns nothing");

        // What fits passes, and what may be fragmented arrives whole, once the pods have
        // forgotten the MTU, by which they would fragment it themselves.
        for pod in [a, b] {
            pod.ns.ip("route flush cache").unwrap();
        }
        let errors = Errors::of(&cluster);
        ping(&a.ns, b.address, 5, MIDDLE_INNER - ECHO, true).unwrap();
        ping(&a.ns, b.address, 5, 1_422, false).unwrap();
        assert!(cluster.counter(1, "fragments_made") > 0);
        errors.assert_none_since(&cluster);
    }
}

#[test]
fn tcp_recovers_from_a_narrow_middle_and_delivers_everything() {
    if skips_test() {
        return;
    }
    for (engine, regime) in ENGINES.into_iter().zip([Regime::R1, Regime::R3]) {
        let cluster = with_a_narrow_middle(engine, regime);
        let errors = Errors::of(&cluster);
        let (a, b) = (cluster.pod(1), cluster.pod(2));
        for (from, to) in [(a, b), (b, a)] {
            let start = Instant::now();
            tcp(from, to, 2, 2 << 20);
            let took = start.elapsed();
            assert!(took < Duration::from_secs(10), "{engine}: {took:?}");
        }
        // Pod 1 then advertises so small a segment size that node 2 has nothing to learn.
        assert_eq!(cluster.counter(1, "path_mtus_learned"), 1);
        assert!(cluster.counter(1, "icmp_sent") > 0);
        for number in [1, 2] {
            assert_eq!(cluster.counter(number, "downgrades"), 0);
        }
        errors.assert_none_since(&cluster);
    }
}

/// Let a route on node 1 give the path to node 2 this MTU, or the device's.
fn set_path(cluster: &Cluster, mtu: Option<u32>) {
    let to = cluster.lab.node(2).underlay;
    let line = match mtu {
        Some(mtu) => format!("route replace {to}/32 dev {UNDERLAY} mtu {mtu}"),
        None => format!("route del {to}/32 dev {UNDERLAY}"),
    };
    cluster.lab.node(1).ns.ip(&line).unwrap();
}

/// The longest packet that pod 1 is told to send, if it is told any, by a ping that fills the
/// device's MTU; the pod has forgotten what it was told before.
fn told(cluster: &Cluster) -> String {
    cluster.pod(1).ns.ip("route flush cache").unwrap();
    ping_says(cluster, 1, 2, &["-c", "2", "-M", "do", "-s", "1422"])
}

#[test]
fn a_path_is_followed_within_seconds_as_it_narrows_and_widens() {
    if skips_test() {
        return;
    }
    for (engine, df) in [(ENGINES[0], false), (ENGINES[1], false), (ENGINES[0], true)] {
        let what = format!("{engine} {df}");
        let df: &[&str] = if df { &[WORKERS, "-outer-df"] } else { &[] };
        let flags = [&[engine], df].concat();
        let cluster = Cluster::on_underlay(2, 1_500, Regime::R1, None, &flags);
        let follows = |mtu: u32| {
            let mut said = String::new();
            let words = [format!("mtu = {mtu}"), format!("mtu={mtu}")];
            let told = wait_until(NEWS, || {
                tcp(cluster.pod(1), cluster.pod(2), 1, 1 << 20);
                said = told(&cluster);
                words.iter().any(|words| said.contains(words))
            });
            assert!(told, "{what}: pods are not told of {mtu}: {said}");
        };
        for mtu in [1_400, 1_200, 1_350] {
            set_path(&cluster, Some(mtu));
            follows(mtu - OVERHEAD);
        }
        set_path(&cluster, None);
        let mut said = String::new();
        let widened = wait_until(NEWS, || {
            said = told(&cluster);
            said.contains(" 0% packet loss") && !said.contains("mtu")
        });
        assert!(widened, "{what}: pods are still told of an MTU: {said}");
    }
}
