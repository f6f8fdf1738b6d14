//! Hosts as folders.

use super::*;
use std::fs;
use std::os::unix::fs::symlink;
use tempfile::TempDir;

/// A host of these files.
fn host(files: &[(&str, &str)]) -> (TempDir, Host) {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let host = Host::at(root.path());
    (root, host)
}

const CARD: &[(&str, &str)] = &[
    ("sys/class/net/eth1/mtu", "1500\n"),
    ("sys/class/net/eth1/queues/rx-0/rps_cpus", "0\n"),
    ("sys/class/net/eth1/queues/rx-1/rps_cpus", "f\n"),
    ("sys/class/net/eth1/queues/tx-0/xps_cpus", "1\n"),
    ("sys/class/net/eth1/device/numa_node", "1\n"),
    ("sys/class/net/eth1/device/msi_irqs/40", "msix\n"),
    ("sys/class/net/eth1/device/msi_irqs/41", "msix\n"),
    ("sys/class/net/eth1/device/msi_irqs/42", "msix\n"),
    ("proc/irq/40/smp_affinity_list", "0-7\n"),
    ("proc/irq/40/eth1-mgmt/x", ""),
    ("proc/irq/41/smp_affinity_list", "0-7\n"),
    ("proc/irq/41/eth1-TxRx-0/x", ""),
    ("proc/irq/42/smp_affinity_list", "0-7\n"),
    ("proc/irq/42/eth1-TxRx-1/x", ""),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/node/node0/cpulist", "0-3\n"),
    ("sys/devices/system/node/node1/cpulist", "4-7\n"),
    ("sys/devices/system/node/possible", "0-1\n"),
    (
        "proc/self/status",
        "Name:\tx\nCpus_allowed:\t7f\nCpus_allowed_list:\t0-6\n",
    ),
    (
        "proc/net/softnet_stat",
        "000000ff 00000002 00000003 0\n000000ff 00000010 00000000 0\n",
    ),
    ("proc/sys/net/core/netdev_max_backlog", "1000\n"),
    ("sys/class/net/flannel.1/tun_flags", "0x5101\n"),
    ("sys/class/net/flannel.1/tx_queue_len", "1000\n"),
    ("sys/class/net/flannel.2/tx_queue_len", "1000\n"),
    ("proc/77/comm", "weft\n"),
    ("proc/77/task/77/comm", "weft\n"),
    ("proc/77/task/77/status", "Cpus_allowed_list:\t0-7\n"),
    ("proc/77/task/78/comm", "weft-encap-0\n"),
    ("proc/77/task/78/status", "Cpus_allowed_list:\t6\n"),
    ("proc/77/task/79/comm", "weft-decap-0\n"),
    ("proc/77/task/79/status", "Cpus_allowed_list:\t7\n"),
    ("proc/78/comm", "irqbalance\n"),
];

#[test]
fn a_card_is_seen_with_queues_interrupts_and_node() {
    let (root, host) = host(CARD);
    let driver = root.path().join("sys/class/net/eth1/device/driver");
    symlink("../../bus/pci/drivers/ixgbe", driver).unwrap();
    let facts = Facts::of(&host, "eth1", Workers::default()).unwrap();
    assert_eq!(
        facts.device,
        Device {
            name: "eth1".to_owned(),
            driver: Some("ixgbe".to_owned()),
            mtu: 1500,
            numa_node: Some(1),
            rx_queues: 2,
            tx_queues: 1,
            irqs: vec![41, 42],
        }
    );
    assert_eq!(facts.cores.near.to_string(), "4-7");
    assert_eq!(facts.cores.allowed.to_string(), "0-6");
    assert_eq!(facts.cores.nodes, 2);
    assert_eq!(
        facts.backlog,
        Backlog {
            dropped: 18,
            squeezed: 3
        }
    );
    assert!(facts.irqbalance);
    let rps = |queue| Knob::Rps {
        device: "eth1".to_owned(),
        queue,
    };
    assert_eq!(facts.now(&rps(0)), Some("none"));
    assert_eq!(facts.now(&rps(1)), Some("0-3"));
    assert_eq!(facts.now(&Knob::Irq { number: 41 }), Some("0-7"));
    assert_eq!(
        facts.now(&Knob::sysctl("net.core.netdev_max_backlog")),
        Some("1000")
    );
}

#[test]
fn workers_that_run_count_before_those_that_would() {
    let (_root, host) = host(CARD);
    let would = Workers {
        queues: 5,
        ..Workers::default()
    };
    let facts = Facts::of(&host, "eth1", would.clone()).unwrap();
    let (queues, cpus) = (facts.workers.queues, facts.workers.cpus.to_string());
    assert_eq!((queues, &*cpus, facts.workers.running), (1, "6-7", true));
    let names: Vec<&str> = facts.tunnels.iter().map(|tunnel| &*tunnel.name).collect();
    assert_eq!(
        names,
        ["flannel.1"],
        "a kernel VXLAN device has no tun_flags"
    );

    let (_root, idle) = self::host(&CARD[..2]);
    let facts = Facts::of(&idle, "eth1", would.clone()).unwrap();
    assert_eq!(facts.workers, would);
    assert!(!facts.irqbalance);
}

#[test]
fn an_agent_is_known_by_its_workers_whatever_link_it_was_started_by() {
    for name in ["weft\n", "flanneld\n", "flanneld-amd64\n"] {
        let mut files = CARD.to_vec();
        for (path, text) in &mut files {
            if path.starts_with("proc/77/") && *text == "weft\n" {
                *text = name;
            }
        }
        let (_root, host) = host(&files);
        let workers = Facts::of(&host, "eth1", Workers::default())
            .unwrap()
            .workers;
        let (queues, cpus) = (workers.queues, workers.cpus.to_string());
        assert_eq!((queues, &*cpus, workers.running), (1, "6-7", true));
    }
    // A flanneld of others has no workers.
    let (_root, host) = host(&[
        CARD[0],
        ("proc/9/comm", "flanneld\n"),
        ("proc/9/task/9/comm", "flanneld\n"),
    ]);
    let facts = Facts::of(&host, "eth1", Workers::default()).unwrap();
    assert!(!facts.workers.running);
}

#[test]
fn the_device_of_the_best_default_route_is_taken() {
    let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
    let route = |name: &str, to: &str, metric: u32, mask: &str| {
        format!("{name}\t{to}\t0101A8C0\t0003\t0\t0\t{metric}\t{mask}\t0\t0\t0\n")
    };
    let text = [
        head.to_owned(),
        route("flannel.1", "00000000", 0, "00000000"),
        route("eth0", "00000000", 200, "00000000"),
        route("eth1", "00000000", 100, "00000000"),
        route("eth2", "00000000", 0, "000000FF"),
    ]
    .concat();
    let (_root, v4) = host(&[("proc/net/route", &text)]);
    assert_eq!(default_device(&v4).unwrap(), "eth1");
    let zeros = "0".repeat(32);
    let v6 = |name: &str, metric: &str, flags: &str| {
        format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 {metric} 1 0 {flags} {name}\n"
        )
    };
    let text = [
        v6("lo", "ffffffff", "00200200"),
        v6("eth3", "00000400", "00000003"),
        v6("eth4", "00000100", "00000003"),
    ]
    .concat();
    let (_root, v6) = host(&[("proc/net/route", head), ("proc/net/ipv6_route", &text)]);
    assert_eq!(default_device(&v6).unwrap(), "eth4");
    let (_root, none) = host(&[]);
    assert_eq!(default_device(&none), Err(DeviceError::NoDefaultRoute));
}

#[test]
fn an_unknown_device_is_refused_with_those_that_there_are() {
    let (_root, host) = host(CARD);
    for name in ["eth7", "", "..", "../net/eth1"] {
        let error = Facts::of(&host, name, Workers::default()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("there are: eth1, flannel.1, flannel.2"),
            "{error}"
        );
    }
}
