//! `weft tune` on veths in a namespace: what it changes there comes back exactly, also when it is
//! killed halfway.
#![allow(clippy::unwrap_used)]

mod bed;
mod refused;

use bed::{DEVICE, WEFT, bed, ends_with};
use std::fs;

const UNIT: &str = include_str!("../../deploy/systemd/weft-tune.service");

#[test]
fn what_apply_changes_rollback_restores_exactly() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    let profile = bed.profile("profile = \"latency\"\nxps = \"0\"\nrfs = 1024\n");
    let text = ends_with(&bed.apply(&profile), 0);
    for line in [
        "made: tune0 generic-receive-offload: off -> on",
        "made: tune0 tcp-segmentation-offload: off -> on",
        "made: tune0 tx-udp-segmentation: off -> on",
        "made: tune0 rx-0 rps_cpus: 0 -> none",
        "made: tune0 rx-1 rps_flow_cnt: 256 -> 1024",
        "made: tune0 tx-1 xps_cpus: none -> 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert_eq!(bed.value("rx-0/rps_cpus"), "0");
    assert_eq!(bed.value("rx-1/rps_flow_cnt"), "1024");
    assert_ne!(bed.values(), before);

    let text = ends_with(&bed.apply(&profile), 0);
    assert!(text.starts_with("nothing to change\n"), "{text}");
    // Another profile: the first one's wishes for xps and rfs are taken back.
    let other = bed.profile("profile = \"small-host\"\n");
    let text = ends_with(&bed.apply(&other), 0);
    assert!(
        text.contains("restored: tune0 tx-1 xps_cpus: 0 -> none"),
        "{text}"
    );
    assert_eq!(bed.value("rx-1/rps_flow_cnt"), "0");

    ends_with(&bed.tune(&["rollback"]), 0);
    assert_eq!(bed.values(), before);
    assert!(!bed.state().exists());
    let text = ends_with(&bed.tune(&["rollback"]), 0);
    assert_eq!(text, "nothing to change\n");
}

#[test]
fn drift_is_told_and_what_somebody_else_has_set_is_left_alone() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    ends_with(&bed.apply(&bed.profile("")), 0);
    ends_with(&bed.tune(&["status"]), 0);
    bed.ns
        .run(&["ethtool", "-K", DEVICE, "gro", "off"])
        .unwrap();
    let count = "echo 512 >/sys/class/net/tune0/queues/rx-1/rps_flow_cnt";
    bed.ns.run(&["sh", "-c", count]).unwrap();
    let text = ends_with(&bed.tune(&["status"]), 3);
    let drift: Vec<&str> = text.lines().filter(|line| line.contains("DRIFT")).collect();
    assert_eq!(
        drift,
        [
            "tune0 generic-receive-offload: DRIFT: off, not on (was off)",
            "tune0 rx-1 rps_flow_cnt: DRIFT: 512, not 0 (was 256)"
        ]
    );
    let json = ends_with(&bed.tune(&["status", "--json"]), 3);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["drifted"], 2);

    let text = ends_with(&bed.tune(&["rollback"]), 1);
    let left = "weft tune: tune0 rx-1 rps_flow_cnt: left alone: somebody has set it to 512 since";
    assert!(text.contains(left), "{text}");
    assert_eq!(bed.value("rx-1/rps_flow_cnt"), "512");
    ends_with(&bed.tune(&["rollback", "--force"]), 0);
    assert_eq!(bed.values(), before);
}

#[test]
fn killed_at_any_change_it_leaves_a_journal_that_restores_all() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    let profile = bed.profile("profile = \"latency\"\nxps = \"0\"\n");
    let real = bed.ethtool();
    let count = bed.lab.dir().join("count");
    // An ethtool that kills who calls it with the change number $AT, before it is made or after.
    let path = bed.instead_of_ethtool(&format!(
        "if [ \"$1\" = -K ]; then echo >>{count}
         if [ $(wc -l <{count}) = $AT ]; then
         [ $WHEN = before ] || {real} \"$@\"; kill -9 $PPID; exit 1; fi; fi
         exec {real} \"$@\"",
        count = count.display(),
    ));
    for at in 1..=3 {
        for when in ["before", "after"] {
            let _ = fs::remove_file(&count);
            let words = [
                "apply",
                "--iface",
                DEVICE,
                "--profile",
                profile.to_str().unwrap(),
            ];
            let mut command = bed.command(&words);
            command
                .env("PATH", &path)
                .env("AT", at.to_string())
                .env("WHEN", when);
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), None, "{at} {when}: {output:?}");
            assert!(bed.state().exists());
            let expected = if when == "before" { at - 1 } else { at };
            assert_eq!(bed.values() != before, expected > 0, "{at} {when}");
            ends_with(&bed.tune(&["rollback"]), 0);
            assert_eq!(bed.values(), before, "{at} {when}");
            assert!(!bed.state().exists(), "{at} {when}");
        }
    }
}

#[test]
fn queues_that_a_change_brings_are_set_up_and_go_with_it() {
    let Some(bed) = bed() else { return };
    let real = bed.ethtool();
    bed.ns
        .run(&[&real, "-L", DEVICE, "rx", "1", "tx", "1"])
        .unwrap();
    let before = bed.values();
    assert!(!before.contains("queues/tx-1/"), "{before}");
    // A veth has queues for each way, where cards have such as go both.
    let path = bed.instead_of_ethtool(&format!(
        "case $1 in
         -l) {real} -l $2 | sed '/^Combined:/d; s/^RX:/Combined:/' ;;
         -L) {real} -L $2 rx $4 tx $4 ;;
         *) exec {real} \"$@\" ;;
         esac"
    ));
    let profile = bed.profile("profile = \"small-host\"\nchannels = 2\nrfs = 512\n");
    let words = [
        "apply",
        "--iface",
        DEVICE,
        "--profile",
        profile.to_str().unwrap(),
    ];
    let text = ends_with(&bed.command(&words).env("PATH", &path).output().unwrap(), 0);
    assert!(
        text.contains("made: tune0 combined queues: 1 -> 2\n"),
        "{text}"
    );
    assert!(text.contains("made: tune0 rx-1 rps_flow_cnt: "), "{text}");
    assert_eq!(bed.value("rx-1/rps_flow_cnt"), "512");
    ends_with(
        &bed.command(&["status"])
            .env("PATH", &path)
            .output()
            .unwrap(),
        0,
    );
    ends_with(
        &bed.command(&["rollback"])
            .env("PATH", &path)
            .output()
            .unwrap(),
        0,
    );
    assert_eq!(bed.values(), before);
    assert!(!bed.state().exists());
}

#[test]
fn a_plan_gives_reasons_and_changes_nothing() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    let profile = bed.profile("profile = \"latency\"\n");
    let goal = ["--iface", DEVICE, "--profile", profile.to_str().unwrap()];
    let plan = ends_with(&bed.tune(&[&["plan"], &goal[..]].concat()), 0);
    assert!(
        plan.contains("tune0 generic-receive-offload: off -> on\n  why "),
        "{plan}"
    );
    for part in [
        "\n  effect ",
        "\n  evidence  measured: docs/",
        ", made already 0",
    ] {
        assert!(plan.contains(part), "{plan}");
    }
    let dry = ends_with(&bed.tune(&[&["apply", "--dry-run"], &goal[..]].concat()), 0);
    assert_eq!(dry, plan);
    let json = ends_with(&bed.tune(&[&["plan", "--json"], &goal[..]].concat()), 0);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["changes"].as_array().unwrap().len() >= 5, "{json}");
    assert_eq!(json["device"], DEVICE);
    assert_eq!(bed.values(), before);
    assert!(!bed.state().exists());
}

#[test]
fn inspection_tells_queues_offloads_and_cores() {
    let Some(bed) = bed() else { return };
    let text = ends_with(
        &bed.ns
            .command(WEFT)
            .args(["tune", "inspect", "--iface", DEVICE])
            .output()
            .unwrap(),
        0,
    );
    for part in [
        "interface   tune0: no card, MTU 1500, receive queues 2, send queues 2",
        "\nCPUs        ",
        "\nworkers     ",
        "\nbacklog     ",
        "\ntune0 generic-receive-offload: off\n",
        "\ntune0 rx-0 rps_cpus: 0\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn what_the_unit_runs_is_known() {
    let Some(bed) = bed() else { return };
    let before = bed.values();
    let words = |key: &str| -> Vec<&str> {
        let line = UNIT.lines().find_map(|line| line.strip_prefix(key));
        let words = line
            .unwrap()
            .strip_prefix("=weft tune ")
            .unwrap()
            .split(' ');
        words
            .map(|word| {
                if word == "--profile=${PROFILE}" {
                    "--profile=throughput"
                } else {
                    word
                }
            })
            .collect()
    };
    assert!(UNIT.contains("\nEnvironment=PROFILE=throughput\n"));
    let start = [words("ExecStart"), vec!["--dry-run", "--iface", DEVICE]].concat();
    let text = ends_with(&bed.tune(&start), 0);
    assert!(text.contains("profile throughput for tune0"), "{text}");
    ends_with(
        &bed.tune(&[words("ExecStop"), vec!["--dry-run"]].concat()),
        0,
    );
    assert_eq!(bed.values(), before);
}
