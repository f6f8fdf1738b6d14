//! Trouble with the host is noticed when it comes: it is put right, or told, long before the next
//! look that would come without notice.

use super::node::*;
use std::cell::Cell;
use std::fs;
use std::time::{Duration, Instant};

/// Pause between two looks at devices, and between two at addresses and routes.
const HEALTH: Duration = Duration::from_secs(1);
const RECONCILE: Duration = Duration::from_secs(10);

/// Looks at the firewall and at blackhole routes are as far apart as tests like.
const RESYNC: Duration = Duration::from_secs(600);
const SELDOM: &str = "-iptables-resync=600";

/// How often the same trouble comes.
const ROUNDS: u32 = 6;

const NFTABLES: &str =
    r#"{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}"#;

/// Run `test` on a node with an agent that is ready.
fn with_agent(
    config: &'static str,
    flags: &'static [&str],
    test: impl FnOnce(&mut Process) + Send + 'static,
) {
    on_node(move |node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, config]);
        let mut agent = node.agent_with("log", flags);
        agent.expect("ready: ");
        test(&mut agent);
        assert_eq!(agent.stop().0, Some(0));
    });
}

fn shell(line: &str) -> String {
    run("sh", &["-c", line])
}

/// Make trouble again and again, each time when the last is over. Looks that are `pause` apart would
/// see one trouble each: less time than that shows that they were not waited for.
fn assert_noticed(
    what: &str,
    pause: Duration,
    mut trouble: impl FnMut(),
    mut is_over: impl FnMut() -> bool,
) {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        trouble();
        let begin = Instant::now();
        wait_for(what, &mut is_over);
        took.push(begin.elapsed());
    }
    let ms: Vec<u128> = took.iter().map(Duration::as_millis).collect();
    eprintln!("{what}: over after {ms:?} ms; looks come every {pause:?}");
    let sum: Duration = took.iter().sum();
    assert!(sum < pause * (ROUNDS - 1), "{what}: {ms:?} ms");
}

/// The same of trouble that the agent has a line for, which it says anew each time.
fn assert_told(agent: &Process, line: &str, pause: Duration, trouble: impl Fn()) {
    let count = || agent.log().matches(line).count();
    let before = Cell::new(0);
    assert_noticed(
        line,
        pause,
        || {
            before.set(count());
            trouble();
        },
        || count() > before.get(),
    );
}

#[test]
fn a_device_that_is_set_down_comes_up_at_once() {
    for device in ["flannel.1", "weft.1"] {
        with_agent(CONFIG, &[], move |_| {
            let shown = || shell(&format!("ip link show dev {device} up || true"));
            if device == "weft.1" && shown().is_empty() {
                return weft_lab::skip("no tunnel GSO");
            }
            let route = || shell("ip route show 10.5.0.0/16").contains("flannel.1");
            let is_right = || !shown().is_empty() && route();
            let what = format!("{device} was set down");
            let down = || drop(ip(&format!("link set {device} down")));
            assert_noticed(&what, HEALTH, down, is_right);
        });
    }
}

#[test]
fn a_device_that_is_renamed_has_its_name_again_and_its_workers_go_on() {
    with_agent(CONFIG, &[], |agent| {
        let before = ip("link show flannel.1");
        let rename = || drop(ip("link set flannel.1 name astray"));
        let is_right = || shell("ip link show flannel.1 || true") == before;
        assert_noticed("flannel.1 was renamed", HEALTH, rename, is_right);
        let log = agent.log();
        assert!(
            log.contains("flannel.1 was renamed to astray: calling it flannel.1 again"),
            "{log}"
        );
        assert!(!log.contains("making it anew"), "{log}");
    });
}

#[test]
fn a_device_that_is_removed_is_made_anew_at_once() {
    with_agent(CONFIG, &["-fast-path=off"], |agent| {
        let remove = || drop(ip("link del flannel.1"));
        assert_told(
            agent,
            "flannel.1 was removed: making it anew",
            HEALTH,
            || {
                // It has the last that it gets.
                wait_for("route", || {
                    shell("ip route show 10.5.0.0/16").contains("flannel.1")
                });
                remove();
            },
        );
        wait_for("device", || {
            shell("ip route show 10.5.0.0/16").contains("flannel.1")
        });
    });
}

#[test]
fn address_route_and_mtu_of_the_device_come_back_at_once() {
    with_agent(CONFIG, &[], |_| {
        let address = shell("ip -br -4 address show flannel.1");
        let address = address.split_whitespace().nth(2).unwrap().to_owned();
        let route = shell("ip route show 10.5.0.0/16");
        for (what, trouble) in [
            (
                "an address was removed",
                format!("address del {address} dev flannel.1"),
            ),
            ("a route was removed", "route del 10.5.0.0/16".to_owned()),
            (
                "an MTU was changed",
                "link set flannel.1 mtu 1300".to_owned(),
            ),
        ] {
            let is_right = || {
                shell("ip -4 address show flannel.1").contains(&address)
                    && shell("ip route show 10.5.0.0/16") == route
                    && shell("ip link show flannel.1").contains("mtu 1450")
            };
            assert_noticed(what, RECONCILE, || drop(ip(&trouble)), is_right);
        }
    });
}

#[test]
fn a_blackhole_route_that_is_removed_comes_back_at_once() {
    with_agent(CONFIG, &["-ip-blackhole-route", SELDOM], |_| {
        let shown = || shell("ip route show type blackhole");
        wait_for("blackhole route", || shown().contains("10.5."));
        let before = shown();
        let subnet = before.split_whitespace().nth(1).unwrap();
        let trouble = || drop(ip(&format!("route del blackhole {subnet}")));
        assert_noticed("a blackhole route was removed", RESYNC, trouble, || {
            shown() == before
        });
    });
}

#[test]
fn a_firewall_that_is_flushed_has_its_rules_again_at_once() {
    for (config, list, flushes) in [
        (
            CONFIG,
            "iptables -t filter -S; iptables -t nat -S",
            &["iptables -F", "iptables -t nat -F", "nft flush ruleset"][..],
        ),
        (
            NFTABLES,
            "nft list table ip flannel-ipv4",
            &["nft flush ruleset", "nft delete table ip flannel-ipv4"][..],
        ),
    ] {
        with_agent(config, &["-ip-masq", SELDOM], move |_| {
            if config == CONFIG && !shell("iptables --version").contains("nf_tables") {
                return weft_lab::skip("the kernel tells nothing of iptables-legacy");
            }
            let ours = || {
                let shown = shell(&format!("({list}) 2>/dev/null || true"));
                let ours = shown
                    .lines()
                    .filter(|line| config == NFTABLES || line.contains("FLANNEL"));
                ours.map(str::to_owned).collect::<Vec<_>>()
            };
            let before = ours();
            assert!(before.len() > 5, "{before:?}");
            for flush in flushes {
                let trouble = || drop(shell(flush));
                assert_noticed(flush, RESYNC, trouble, || ours() == before);
            }
        });
    }
}

/// By the default route, unless named.
fn with_default_route(test: impl FnOnce(&mut Process) + Send + 'static) {
    on_node(move |node| {
        ip("link add eth1 type veth peer name wire1");
        ip("address add 198.51.100.9/32 dev eth1");
        ip("link set eth1 up");
        ip("link set wire1 up");
        ip("route add default via 192.0.2.254");
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let command = node.command_without_iface();
        let mut agent = Process::spawn(command, node.path("log"));
        agent.expect("ready: ");
        test(&mut agent);
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn what_becomes_of_the_underlay_is_told_at_once() {
    with_default_route(|agent| {
        let mut took = Vec::new();
        for (what, line) in [
            (
                "link set eth0 mtu 1400",
                "the MTU of eth0 is 1400 and was 1500",
            ),
            ("link set eth0 mtu 1500", "the MTU of eth0 is 1500 again"),
            ("link set eth0 down", "eth0 is down: no packets"),
            ("link set eth0 up", "eth0 is up again"),
            (
                "link set wire down",
                "eth0 is without a carrier: no packets",
            ),
            ("link set wire up", "eth0 is up again"),
            (
                "address del 192.0.2.1/24 dev eth0",
                "eth0 has lost 192.0.2.1: no packets",
            ),
            (
                "address add 192.0.2.1/24 dev eth0",
                "192.0.2.1 of eth0 is there again",
            ),
            (
                "route add default dev eth1",
                "the IPv4 default route leads through eth1, and led through eth0",
            ),
            (
                "route replace default via 192.0.2.254",
                "the IPv4 default route leads through no other interface than eth0 again",
            ),
            (
                "link set eth0 name eth7",
                "eth0 was renamed to eth7: the node goes on with it",
            ),
            ("link set eth7 mtu 1400", "the MTU of eth7 is 1400"),
        ] {
            let count = || agent.log().matches(line).count();
            let before = count();
            if what.contains(" name ") {
                // Before Linux 6.2 one that is up keeps its name.
                ip("link set eth0 down");
            }
            let begin = Instant::now();
            ip(what);
            wait_for(line, || count() > before);
            took.push((what, begin.elapsed()));
        }
        eprintln!("told after {took:?}; looks come every {RECONCILE:?}");
        let sum: Duration = took.iter().map(|(_, took)| took).sum();
        assert!(sum < RECONCILE * (took.len() as u32 - 1), "{took:?}");
    });
}

/// Without a fast path the test is skipped.
fn has_fast_path(agent: &mut Process) -> bool {
    let said = agent.expect("fast path");
    let has = !said.contains("no fast path: ");
    if !has {
        weft_lab::skip(&said);
    }
    has
}

#[test]
fn a_shaper_that_does_not_see_the_packets_is_told_at_once() {
    with_agent(CONFIG, &["-fast-path=on"], |agent| {
        if !has_fast_path(agent) {
            return;
        }
        let line = " of flannel.1 does not see packets on the fast path";
        // Told again when it is another.
        let turn = Cell::new(false);
        assert_told(agent, line, HEALTH, || {
            turn.set(!turn.get());
            let kind = match turn.get() {
                true => "tbf rate 1gbit burst 100k latency 50ms",
                false => "htb",
            };
            shell(&format!("tc qdisc replace dev flannel.1 root {kind}"));
        });
    });
}

#[test]
fn programs_that_are_taken_away_with_their_qdisc_are_put_back_at_once() {
    with_agent(
        CONFIG,
        &["-fast-path=on", "-fast-path-hook=clsact"],
        |agent| {
            if !has_fast_path(agent) {
                return;
            }
            let starts = || agent.log().matches("fast path on ").count();
            let begin = Instant::now();
            shell("tc qdisc del dev eth0 clsact");
            wait_for("fast path", || starts() > 1);
            let took = begin.elapsed();
            eprintln!(
                "the qdisc clsact was deleted: over after {took:?}; looks come every {HEALTH:?}"
            );
            assert!(shell("tc filter show dev eth0 ingress").contains("weft_in"));
        },
    );
}

/// Lines that tell of a look that was taken upon notice.
const LOOKS: &str = "looking at once";

#[test]
fn a_node_to_which_nothing_happens_takes_no_looks() {
    for flags in [
        &["-v=1", "-ip-masq", "-iptables-resync=1"][..],
        &[
            "-v=1",
            "-fast-path=off",
            "-ip-blackhole-route",
            "-iptables-resync=1",
        ],
    ] {
        with_agent(CONFIG, flags, |agent| {
            let looks = || agent.log().matches(LOOKS).count();
            let (mut seen, mut since) = (looks(), Instant::now());
            // Time for all looks that come without notice.
            wait_for("quiet time", || {
                if looks() != seen {
                    (seen, since) = (looks(), Instant::now());
                }
                since.elapsed() > RECONCILE + HEALTH
            });
            ip("link set eth0 mtu 1400");
            wait_for("look", || looks() > seen);
        });
    }
}

#[test]
fn a_storm_of_routes_costs_a_few_looks_and_the_node_answers() {
    with_agent(CONFIG, &["-v=1"], |agent| {
        let lines = (0..100_000_u32).map(|i| {
            let [_, a, b, c] = i.to_be_bytes();
            format!("route add 172.{}.{b}.{c}/32 dev eth0\n", 16 + a)
        });
        let dir = weft_lab::memory_dir().unwrap();
        let file = dir.path().join("routes");
        fs::write(&file, lines.collect::<String>()).unwrap();
        let looks = || agent.log().matches(LOOKS).count();
        let (before, begin) = (looks(), Instant::now());
        run("ip", &["-batch", file.to_str().unwrap()]);
        ip("route del 10.5.0.0/16");
        wait_for("route", || {
            shell("ip route show 10.5.0.0/16").contains("flannel.1")
        });
        let (looks, took) = (looks() - before, begin.elapsed());
        eprintln!("{looks} looks at 100,000 routes that came within {took:?}");
        assert!(
            looks as u64 <= 25 + 2 * took.as_secs(),
            "{looks} in {took:?}"
        );
    });
}
