//! The lab itself: what it makes works, and nothing of it stays behind.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::path::Path as FilePath;
use std::process::Command;
use std::time::Duration;
use weft_lab::{Etcd, Lab, LabOptions, Path, Regime, Switch, Vtep, VxlanSpec, topology::ping};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn left_of(id: &str) -> Vec<String> {
    let list = weft_lab::ip("netns list").unwrap();
    let names = list.lines().filter(|l| l.contains(&format!("weft-{id}-")));
    names.map(str::to_owned).collect()
}

fn options(nodes: usize) -> LabOptions {
    LabOptions {
        nodes,
        ..LabOptions::default()
    }
}

/// Pods in fixed subnets and kernel VXLAN between all nodes, as without any agent.
fn kernel_cluster(lab: &mut Lab) -> weft_lab::Result<Vec<Vtep>> {
    let mut vteps = Vec::new();
    for number in 1..=lab.nodes().len() {
        let subnet = format!("10.244.{number}.1/24").parse().unwrap();
        lab.attach_pod(number, subnet, 1450)?;
        vteps.push(Vtep::create(lab, number, VxlanSpec::flannel(1), subnet)?);
    }
    for a in &vteps {
        for b in vteps.iter().filter(|b| b.device() == a.device()) {
            if a.as_peer() != b.as_peer() {
                a.learn(&b.as_peer())?;
                a.route(&b.as_peer())?;
            }
        }
    }
    Ok(vteps)
}

#[test]
fn two_nodes_over_kernel_vxlan_and_nothing_left() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let mut lab = Lab::new(options(2))?;
    let (id, dir) = (lab.id().to_owned(), lab.dir().to_owned());
    assert_eq!(left_of(&id).len(), 2);
    if let Some(bpffs) = lab.bpffs() {
        // What is pinned there is the lab's alone, and must not keep its directory.
        std::fs::create_dir(bpffs.join("pins"))?;
        assert!(mounts()?.contains(&dir.display().to_string()));
    }
    kernel_cluster(&mut lab)?;
    let (a, b) = (lab.node(1).pod()?.clone(), lab.node(2).pod()?.clone());
    ping(&a.ns, b.address, 3, 56, false)?;
    ping(&b.ns, a.address, 3, 1422, true)?;
    assert!(
        ping(&a.ns, b.address, 1, 1423, true).is_err(),
        "MTU is 1450"
    );
    for regime in Regime::ALL {
        lab.set_regime(regime)?;
        ping(&a.ns, b.address, 2, 1422, true)?;
    }

    let mut sleep = lab.node(1).ns.command("sleep");
    sleep.arg("1000");
    let mut sleeper = lab.node(1).ns.spawn(sleep, &lab.dir().join("sleep.log"))?;
    let pid = sleeper.pid();
    // Taken apart while a command runs inside and clones of its namespaces live.
    drop(lab);
    // A process leaves its namespaces some time before it is dead.
    let ended = sleeper.wait(Duration::from_secs(5));
    assert!(ended.is_ok(), "process {pid} outlived its lab");
    assert_eq!(left_of(&id), Vec::<String>::new());
    assert!(!dir.exists());
    assert!(!mounts()?.contains(&dir.display().to_string()));
    Ok(())
}

fn mounts() -> std::io::Result<String> {
    std::fs::read_to_string("/proc/self/mounts")
}

#[test]
fn three_nodes_meet_on_a_switch_in_every_regime() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let mut lab = Lab::new(LabOptions {
        pods_per_node: 2,
        ..options(3)
    })?;
    kernel_cluster(&mut lab)?;
    for regime in Regime::ALL {
        lab.set_regime(regime)?;
        for a in lab.nodes() {
            for b in lab.nodes() {
                ping(&a.pods[1].ns, b.pods[0].address, 2, 1422, true)?;
            }
        }
    }
    let moved = "10.244.77.1/24".parse()?;
    let pod = lab.attach_pod(2, moved, 1450)?;
    assert_eq!(pod.address.to_string(), "10.244.77.2");
    ping(&pod.ns, "10.244.77.1".parse()?, 1, 56, false)?;
    lab.destroy()?;
    Ok(())
}

#[test]
fn the_switch_moves_traffic_between_paths() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let mut lab = Lab::new(options(2))?;
    lab.attach_pod(1, "10.244.1.1/24".parse()?, 1450)?;
    lab.attach_pod(2, "10.244.2.1/24".parse()?, 1450)?;
    let switch = Switch::new(&lab, 1, 2, 1450)?;
    let (from, to) = (lab.node(1).pod()?, lab.node(2).pod()?.address);
    let tunnelled = || -> weft_lab::Result<u64> {
        let path = FilePath::new("/sys/class/net/vx-lab/statistics/tx_packets");
        let text = lab.node(1).ns.run(&["cat", &path.to_string_lossy()])?;
        Ok(text.trim().parse().unwrap())
    };
    switch.choose(Path::Direct)?;
    ping(&from.ns, to, 3, 1422, true)?;
    let before = tunnelled()?;
    switch.choose(Path::Kernel)?;
    ping(&from.ns, to, 3, 1422, true)?;
    assert_eq!(tunnelled()? - before, 3);
    switch.choose(Path::Direct)?;
    ping(&from.ns, to, 3, 56, false)?;
    assert_eq!(tunnelled()? - before, 3);
    let error = switch.choose(Path::Weft).unwrap_err().to_string();
    assert!(
        error.contains("no route") || error.contains("unreachable"),
        "{error}"
    );
    Ok(())
}

#[test]
fn etcd_keeps_its_data_when_stopped() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let lab = Lab::new(options(2))?;
    let mut etcd = Etcd::start(&lab, 1)?;
    assert_eq!(etcd.get("/a")?, None);
    etcd.put("/a", r#"{"Network": "10.244.0.0/16"}"#)?;
    let lease = etcd.put_leased("/b", "-x", 60)?;
    etcd.stop()?;
    assert!(
        etcd.ctl(&["--command-timeout=1s", "endpoint", "health"])
            .is_err()
    );
    etcd.start_again()?;
    assert_eq!(
        etcd.get("/a")?.as_deref(),
        Some(r#"{"Network": "10.244.0.0/16"}"#)
    );
    assert_eq!(etcd.keys("/")?, ["/a", "/b"]);
    etcd.ctl(&["lease", "revoke", &lease])?;
    assert_eq!(etcd.get("/b")?, None);
    assert!(etcd.delete("/a")?);
    assert!(!etcd.delete("/a")?);
    let memory = FilePath::new("/dev/shm").join(format!("weft-lab-{}", lab.id()));
    drop((etcd, lab));
    assert!(!memory.exists(), "{} is left", memory.display());
    Ok(())
}

/// A helper process that makes a lab and waits to be killed; see the test below.
#[test]
fn waits_when_told_to() -> Outcome {
    if std::env::var_os("WEFT_LAB_WAIT").is_none() {
        return Ok(());
    }
    let lab = Lab::new(options(2))?;
    println!("lab {}.", lab.id());
    let mut sleep = lab.node(1).ns.command("sleep");
    sleep.arg("1000");
    let _sleeper = lab.node(1).ns.spawn(sleep, &lab.dir().join("sleep.log"))?;
    std::thread::sleep(std::time::Duration::from_secs(60));
    Ok(())
}

fn lab_in_another_process() -> (std::process::Child, String) {
    use std::io::{BufRead, BufReader};
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "waits_when_told_to", "--nocapture"])
        .env("WEFT_LAB_WAIT", "1")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let id = lines.map_while(Result::ok).find_map(|line| {
        let (_, id) = line.split_once("lab ")?;
        Some(id.trim_end_matches('.').to_owned())
    });
    (child, id.unwrap())
}

#[test]
fn a_signal_removes_the_lab() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let (mut child, id) = lab_in_another_process();
    assert_eq!(left_of(&id).len(), 2);
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&child),
        rustix::process::Signal::INT,
    )?;
    assert_eq!(child.wait()?.code(), Some(130));
    assert_eq!(left_of(&id), Vec::<String>::new());
    Ok(())
}

#[test]
fn the_next_lab_removes_what_a_killed_owner_left() -> Outcome {
    if weft_lab::skips_test() {
        return Ok(());
    }
    let (mut child, id) = lab_in_another_process();
    child.kill()?;
    child.wait()?;
    assert_eq!(left_of(&id).len(), 2);
    drop(Lab::new(options(2))?);
    assert_eq!(left_of(&id), Vec::<String>::new());
    Ok(())
}
