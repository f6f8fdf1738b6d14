//! Docker as in flannel's classic set-up: each node has a dockerd of its own that was told
//! the node's subnet by `mk-docker-opts`.

use crate::cluster::{Cluster, NEWS, lines_with, weft};
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use weft_lab::{
    Error, Namespace, Process, Regime, Result, run, skip, skips_test_without, wait_until,
};

/// How long dockerd may take to listen.
const START: Duration = Duration::from_secs(60);

/// The file that containers download from each other.
const PAGE: &str = "/www/page";

fn page() -> String {
    (0..200_000).map(|line| format!("{line}\n")).collect()
}

/// A dockerd on a node, with an image `busybox`. All its files are in the lab's directory.
struct Docker {
    node: Namespace,
    dir: PathBuf,
    cgroup: String,
    process: Process,
}

impl Docker {
    fn start(cluster: &Cluster, number: usize) -> Docker {
        let node = cluster.lab.node(number).ns.clone();
        let dir = cluster.lab.dir().join(format!("docker{number}"));
        fs::create_dir(&dir).unwrap();
        let options = dir.join("docker.env");
        let mut opts = node.command(weft());
        opts.arg("mk-docker-opts").arg("-c").arg("-d").arg(&options);
        opts.arg("-f").arg(cluster.agents[&number].subnet_file());
        run(&mut opts).unwrap();

        // As on a fresh machine: dockerd turns forwarding on, and then lets nothing through
        // that no rule allows.
        node.sysctl("net/ipv4/ip_forward", "0").unwrap();
        let cgroup = format!("weft-{}-{number}", cluster.lab.id());
        let own = format!(
            "--data-root={0}/data --exec-root={0}/exec --pidfile={0}/pid --host={1} \
             --config-file={0}/daemon.json --storage-driver=vfs --cgroup-parent=/{cgroup} \
             --userland-proxy=false",
            dir.display(),
            host(&dir),
        );
        fs::write(dir.join("daemon.json"), "{}").unwrap();
        // `ip netns exec` gives it a mount namespace with the node's /sys, which has no
        // cgroups. Processes of containers are in no namespace that the lab knows; in a PID
        // namespace of dockerd's they end with it, however it ends. The options come as
        // systemd's EnvironmentFile would have them.
        let script = format!(
            ". {}; {MOUNT_CGROUP} && exec dockerd $DOCKER_OPTS {own}",
            options.display()
        );
        let mut dockerd = node.command("unshare");
        dockerd.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
        dockerd.args(["sh", "-c", &script]);
        let process = node.spawn(dockerd, &dir.join("log")).unwrap();
        let mut docker = Docker {
            node,
            dir,
            cgroup,
            process,
        };
        docker.wait_ready();
        docker.import();
        docker
    }

    fn wait_ready(&mut self) {
        let mut last = Ok(String::new());
        let up = wait_until(START, || {
            last = self.docker(&["info", "--format", "{{.ServerVersion}}"]);
            last.is_ok() || self.process.ended().unwrap().is_some()
        });
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        assert!(up && last.is_ok(), "{last:?}; dockerd said: {log}");
    }

    /// Make the image from the machine's own busybox.
    fn import(&self) {
        let root = self.dir.join("root");
        for dir in ["bin", "www"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "ping", "wget", "httpd"] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join(&PAGE[1..]), page()).unwrap();
        let tar = self.dir.join("root.tar");
        run(Command::new("tar")
            .arg("-C")
            .arg(&root)
            .arg("-cf")
            .arg(&tar)
            .arg("."))
        .unwrap();
        self.docker(&["import", tar.to_str().unwrap(), "busybox"])
            .unwrap();
    }

    fn docker(&self, words: &[&str]) -> Result<String> {
        let mut docker = Command::new("timeout");
        docker
            .args(["60", "docker", "--host", &host(&self.dir)])
            .args(words);
        run(&mut docker)
    }

    /// Start a container that serves [`PAGE`]; its address.
    fn run_container(&self, name: &str) -> String {
        let words = "run --detach --stop-signal KILL --name";
        let mut words: Vec<_> = words.split(' ').chain([name, "busybox"]).collect();
        words.extend(["httpd", "-f", "-p", "80", "-h", "/www"]);
        self.docker(&words).unwrap();
        let format = "{{.NetworkSettings.IPAddress}}";
        let address = self.docker(&["inspect", "--format", format, name]);
        address.unwrap().trim().to_owned()
    }

    fn exec(&self, name: &str, words: &[&str]) -> Result<String> {
        self.docker(&[&["exec", name][..], words].concat())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // In order, so that no cgroup stays.
        let tidied = self.docker(&["ps", "--all", "--quiet"]).and_then(|ids| {
            ids.split_whitespace()
                .try_for_each(|id| self.docker(&["rm", "--force", id]).map(drop))
        });
        // What ends the PID namespace; SIGTERM does not reach it through unshare.
        let stopped = self.process.kill().map(drop);
        let script = format!("{MOUNT_CGROUP} && rmdir /sys/fs/cgroup/{}", self.cgroup);
        let removed = self.node.run(&["sh", "-c", &script]).map(drop);
        for error in [tidied, stopped, removed]
            .into_iter()
            .filter_map(|r| r.err())
        {
            eprintln!("docker in {}: {error}", self.node.name());
        }
    }
}

const MOUNT_CGROUP: &str = "mount -t cgroup2 cgroup2 /sys/fs/cgroup";

fn host(dir: &Path) -> String {
    format!("unix://{}/docker.sock", dir.display())
}

/// Why no dockerd can run in a node's namespace here, if so.
fn obstacle(cluster: &Cluster) -> Option<Error> {
    let node = &cluster.lab.node(1).ns;
    node.run(&["sh", "-c", MOUNT_CGROUP]).err()
}

#[test]
fn containers_of_two_dockerds_ping_and_download() {
    let needed = [
        ("dockerd", "docker.io"),
        ("docker", "docker.io"),
        ("/bin/busybox", "busybox-static"),
    ];
    if skips_test_without(&needed) {
        return;
    }
    let mut cluster = Cluster::empty(2, Regime::R1);
    // What follows is about the workers' way for super-packets, which the host forwards.
    cluster.flags = vec!["-fast-path=off".to_owned()];
    if let Some(why) = obstacle(&cluster) {
        skip(&format!("dockerd needs cgroups: {why}"));
        return;
    }
    let envs = [1, 2].map(|number| cluster.join_without_pod(number));
    let dockers = [1, 2].map(|number| Docker::start(&cluster, number));
    let names = ["test01", "test02"];
    let addresses = [0, 1].map(|i| dockers[i].run_container(names[i]));
    for docker in &dockers {
        let policy = docker.node.run(&["iptables", "-S", "FORWARD"]).unwrap();
        assert!(policy.contains("-P FORWARD DROP"), "{policy}");
    }

    for (here, there) in [(0, 1), (1, 0)] {
        let (docker, name, env) = (&dockers[here], names[here], &envs[here]);
        let own: Ipv4Addr = addresses[here].parse().unwrap();
        assert!(env.subnet.contains(&own), "{own} is not in {}", env.subnet);
        let mtu = docker.exec(name, &["cat", "/sys/class/net/eth0/mtu"]);
        assert_eq!(mtu.unwrap().trim(), env.mtu.to_string());

        let other = &addresses[there];
        let pinged = docker.exec(name, &["ping", "-c", "3", "-W", "5", other]);
        let pinged = pinged.unwrap();
        assert!(pinged.contains(" 0% packet loss"), "{pinged}");
        let url = format!("http://{other}/page");
        let got = docker.exec(name, &["wget", "-q", "-O", "-", &url]).unwrap();
        assert!(got == page(), "{} bytes from {url}", got.len());
    }
    // A download under Docker's FORWARD policy leaves its node as it would without.
    let url = format!("http://{}/page", addresses[1]);
    let log = cluster.agents[&2].log_file();
    let whole = wait_until(NEWS, || {
        let got = dockers[0].exec(names[0], &["wget", "-q", "-O", "-", &url]);
        got.unwrap();
        !lines_with(&log, &["super-packets leave whole"]).is_empty()
    });
    assert!(whole, "super-packets do not leave whole");
}
