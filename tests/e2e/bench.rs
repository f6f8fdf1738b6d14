//! `weft bench` as a user runs it.

use crate::demo::traces;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use weft_lab::{skips_test, wait_until};

fn bench(args: &[&str], out: &Path) -> Command {
    let mut command = Command::new(crate::cluster::weft());
    command.arg("bench").args(args).arg("--out").arg(out);
    command
}

fn data(out: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(out.join("bench.json")).unwrap()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_quick_bench_writes_tables_json_and_a_page_and_leaves_nothing() {
    if skips_test() {
        return;
    }
    let before = traces();
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("results");
    let who = "kernel,weft-ring,weft-poll,weft-plain,tun-tap";
    let args = [
        "--quick",
        "--contestants",
        who,
        "--workloads",
        "tcp1,latency,connect",
    ];
    let output = bench(&args, &out).output().unwrap();
    let (text, news) = (stdout(&output), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{news}");
    assert_eq!(traces(), before);

    let data = data(&out);
    assert_eq!(data["complete"], true, "{text}{news}");
    let setting = &data["settings"][0];
    assert_eq!(
        (&setting["regime"], &setting["underlay_mtu"]),
        (&"R1".into(), &1500.into())
    );
    let results = setting["results"].as_array().unwrap();
    assert_eq!(results.len(), 15);
    for result in results {
        let figures = result["figures"].as_object().unwrap();
        let main = &data["workloads"][result["workload"].as_str().unwrap()]["main_figure"];
        let figure = &figures[main.as_str().unwrap()];
        assert!(figure["median"].as_f64().unwrap() > 0.0, "{result}");
        assert!(
            figure["to_kernel"]["median"].as_f64().unwrap() > 0.0,
            "{result}"
        );
    }
    let raw = setting["samples"][0]["iperf3"].as_str().unwrap();
    let raw: Value = serde_json::from_str(&fs::read_to_string(out.join(raw)).unwrap()).unwrap();
    assert!(raw["end"]["sum_received"]["bytes"].as_f64().unwrap() > 0.0);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(
        text.contains("MTU 1500, R1") && text.contains("tun-tap"),
        "{text}"
    );

    let again = bench(&args, &out).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("not empty"));
}

#[test]
fn an_interrupted_bench_keeps_what_it_measured_and_leaves_nothing() {
    if skips_test() {
        return;
    }
    let before = traces();
    let temp = tempfile::tempdir().unwrap();
    let out = temp.path().join("results");
    let args = [
        "--contestants",
        "direct,kernel",
        "--workloads",
        "tcp1",
        "--seconds",
        "1",
    ];
    let child = bench(&args, &out)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let measured = wait_until(Duration::from_secs(60), || {
        fs::read_dir(out.join("iperf3")).is_ok_and(|files| files.count() >= 2)
    });
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(measured, "nothing was measured in time");
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(traces(), before);
    let text = stdout(&output);
    assert!(
        text.contains("direct (") && text.contains(" of 3 rounds)"),
        "{text}"
    );
    assert!(
        text.contains("ended before its time: interrupted"),
        "{text}"
    );
    let data = data(&out);
    assert_eq!(
        (&data["complete"], &data["broken_off"]),
        (&false.into(), &"interrupted".into())
    );
    assert!(data["runs_measured"].as_u64().unwrap() >= 2);
    let page = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page.contains("ended before its time") && page.contains(" of 3 rounds</small>"));
}

#[test]
fn bad_flags_are_one_line_and_status_2() {
    let temp = tempfile::tempdir().unwrap();
    for (args, word) in [
        (["--contestants", "wireguard"], "no such contestant"),
        (["--workloads", "http"], "no such load"),
        (["--regimes", "r4"], "r1, r2 or r3"),
        (["--rounds", "0"], "--rounds"),
    ] {
        let output = bench(&args, &temp.path().join("x")).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(
            error.starts_with("weft bench: ") && error.contains(word),
            "{error}"
        );
    }
    assert!(!temp.path().join("x").exists());
}
