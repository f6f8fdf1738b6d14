//! What supervisors and scripts see of the agent: health checks, notifications, exit
//! statuses, signals and the environment.

use super::node::*;
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use weft_lab::netns::isolate_mounts;
use weft_lab::uninterrupted;

const HEALTHZ: &str = "127.0.0.1:8471";

/// Status and body of an answer; `None` if nobody listens.
fn get(path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(HEALTHZ).ok()?;
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Some((status, body.to_owned()))
}

fn wait_for_healthz() {
    wait_for("/healthz", || get("/healthz").is_some());
}

fn expect(path: &str, status: u16, body: &str) {
    assert_eq!(get(path), Some((status, body.to_owned())), "{path}");
}

#[test]
fn s85_healthz_and_readyz_follow_the_node() {
    on_node(|node| {
        let mut agent = node.agent_with("log", &["-healthz-port=8471"]);
        wait_for_healthz();
        agent.expect("etcd unreachable");
        expect("/healthz", 200, "flanneld is running");
        expect("/readyz", 503, "flanneld is not ready yet");
        assert_eq!(get("/nothing").map(|answer| answer.0), Some(404));
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        agent.expect("ready: ");
        expect("/readyz", 200, "flanneld is ready");
        assert!(node.path("subnet.env").exists());
        assert_eq!(agent.stop().0, Some(0));
        assert_eq!(get("/healthz"), None);
    });
}

#[test]
fn s85_readyz_is_never_ready_without_subnet_env() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        fs::create_dir(node.path("subnet.env")).unwrap();
        let mut agent = node.agent_with("log", &["-healthz-port=8471"]);
        agent.expect("container runtimes will not learn the subnet");
        expect("/healthz", 200, "flanneld is running");
        expect("/readyz", 503, "flanneld is not ready yet");
        fs::remove_dir(node.path("subnet.env")).unwrap();
        agent.expect("ready: ");
        expect("/readyz", 200, "flanneld is ready");
        let log = agent.log();
        let place = |text| log.find(text).unwrap();
        assert!(place("wrote ") < place("ready: "), "{log}");
        // Somebody removes it: neither ready nor without the file for long.
        fs::remove_file(node.path("subnet.env")).unwrap();
        agent.expect("subnet.env was changed or removed: writing it again");
        wait_for("the file", || node.path("subnet.env").exists());
    });
}

/// A file system of a few pages at `path`, seen by this thread and its children alone.
fn small_disk(path: &Path) {
    fs::create_dir(path).unwrap();
    isolate_mounts().unwrap();
    let tmpfs = ["-t", "tmpfs", "-o", "size=64k", "none"];
    run("mount", &[&tmpfs[..], &[path.to_str().unwrap()]].concat());
}

#[test]
fn a_full_disk_leaves_no_file_of_another_subnet_and_no_ready_node() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let others = format!("{SUBNETS}10.5.9.0-24");
        run("etcdctl", &["put", &others, r#"{"PublicIP":"192.0.2.99"}"#]);
        let disk = node.path("run");
        small_disk(&disk);
        let env = disk.join("subnet.env");
        fs::write(&env, "FLANNEL_SUBNET=10.5.9.1/24\n").unwrap();
        // Its removal alone makes no room.
        fs::hard_link(&env, disk.join("link")).unwrap();
        let rest = disk.join("rest");
        assert!(fs::write(&rest, [0; 64 << 10]).is_err(), "the disk is full");

        let flag = format!("-subnet-file={}", env.display());
        let mut agent = node.agent_with("log", &[&flag, "-healthz-port=8471"]);
        agent.expect("this node's subnet is ");
        wait_for("the removal", || !env.exists());
        agent.expect("No space left on device");
        expect("/readyz", 503, "flanneld is not ready yet");
        fs::remove_file(&rest).unwrap();
        agent.expect("ready: ");
        let log = agent.log();
        let place = |text| log.find(text).unwrap();
        assert!(place("wrote ") < place("ready: "), "{log}");
        let text = fs::read_to_string(&env).unwrap();
        assert!(text.contains("FLANNEL_SUBNET=10.5."), "{text}");
        assert!(!text.contains("10.5.9."), "{text}");
        assert_eq!(agent.stop().0, Some(0));

        // Full again, with the right file on it.
        assert!(fs::write(&rest, [0; 64 << 10]).is_err(), "the disk is full");
        let mut agent = node.agent_with("second.log", &[&flag]);
        agent.expect("ready: ");
        assert_eq!(fs::read_to_string(&env).unwrap(), text);
        assert_eq!(agent.stop().0, Some(0));
    });
}

/// The iptables programs of the legacy variant in `dir`, with a lock of their own.
fn legacy_iptables(dir: &Path, lock: &Path) {
    fs::create_dir(dir).unwrap();
    for suffix in ["", "-save", "-restore"] {
        let path = dir.join(format!("iptables{suffix}"));
        let lock = lock.display();
        let real = format!("exec env XTABLES_LOCKFILE={lock} iptables-legacy{suffix}");
        weft_lab::script(path, &format!("{real} \"$@\"")).unwrap();
    }
}

#[test]
fn a_node_whose_firewall_is_locked_by_another_carries_packets_and_gets_its_rules_later() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let (programs, lock) = (node.path("bin"), node.path("lock"));
        legacy_iptables(&programs, &lock);
        let held = fs::File::create(&lock).unwrap();
        held.lock().unwrap();
        let mut command = node.command(&["-ip-masq", "-iptables-resync=1"]);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", programs.display()));
        let mut agent = Process::spawn(command, node.path("log"));
        agent.expect("the firewall rules are not written");
        agent.expect("ready: ");
        let rules = || run("iptables-legacy-save", &["-t", "nat"]);
        assert!(!rules().contains("FLANNEL-POSTRTG"));
        drop(held);
        wait_for("the rules", || rules().contains("-A FLANNEL-POSTRTG"));
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn s85_a_healthz_port_in_use_is_one_line() {
    on_node(|node| {
        let _other = TcpListener::bind(HEALTHZ).unwrap();
        let mut agent = node.agent_with("log", &["-healthz-port=8471", "-healthz-ip=127.0.0.1"]);
        assert_eq!(agent.wait().code(), Some(1));
        let line = agent.expect("ERROR");
        assert!(
            line.contains(HEALTHZ) && line.contains("-healthz-port"),
            "{line}"
        );
    });
}

#[test]
fn s85_a_healthz_host_is_an_address_or_a_name() {
    on_node(|node| {
        let mut agent = node.agent_with("log", &["-healthz-port=8471", "-healthz-ip=localhost"]);
        wait_for_healthz();
        agent.expect(&format!(
            "serving /healthz, /readyz and /metrics on {HEALTHZ}"
        ));
        assert_eq!(agent.stop().0, Some(0));
        let flags = ["-healthz-port=8471", "-healthz-ip=nowhere.invalid"];
        let mut agent = node.agent_with("unknown.log", &flags);
        assert_eq!(agent.wait().code(), Some(1));
        let line = agent.expect("ERROR");
        assert!(line.contains("nowhere.invalid:8471"), "{line}");
    });
}

#[test]
fn s85_without_br_netfilter_it_starts_with_one_warning() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        // Where the module is loaded its switches are hidden, from this agent only.
        let hide = r#"! [ -e /proc/sys/net/bridge ] ||
            mount -t tmpfs none /proc/sys/net/bridge && exec "$0" "$@""#;
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", hide, WEFT]);
        command.args(node.command(&[]).get_args());
        let mut agent = Process::spawn(command, node.path("log"));
        agent.expect("ready: ");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0), "{log}");
        let lines = log.lines().filter(|line| line.contains("br_netfilter"));
        let lines: Vec<&str> = lines.collect();
        assert_eq!(lines.len(), 1, "{log}");
        let missing = "/proc/sys/net/bridge/bridge-nf-call-iptables is missing";
        assert!(
            lines[0].contains("WARN") && lines[0].contains(missing),
            "{log}"
        );
    });
}

#[test]
fn idle_connections_leave_a_node_with_few_open_files_its_health_and_its_work() {
    on_node(|node| {
        let _etcd = node.etcd();
        let mut command = Command::new("prlimit");
        command.args(["--nofile=128:128", WEFT]);
        command.args(
            node.command(&["-healthz-port=8471", "-queues=1"])
                .get_args(),
        );
        let mut agent = Process::spawn(command, node.path("log"));
        wait_for_healthz();
        let idle = || TcpStream::connect(HEALTHZ).unwrap();
        let _idle: Vec<TcpStream> = (0..200).map(|_| idle()).collect();
        expect("/healthz", 200, "flanneld is running");
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        agent.expect("ready: ");
        assert!(!agent.log().contains("Too many open files"));
        expect("/readyz", 200, "flanneld is ready");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn half_a_certificate_pair_is_a_warning() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent_with("log", &["-etcd-keyfile=/nowhere/key.pem"]);
        let line = agent.expect("-etcd-keyfile is given without -etcd-certfile");
        assert!(line.contains("WARN"), "{line}");
        agent.expect("ready: ");
        assert_eq!(agent.stop().0, Some(0));
    });
}

/// The next message, which must come within the limit.
pub(crate) fn received(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let mut text = [0; 64];
    let len = uninterrupted(|| socket.recv(&mut text)).unwrap();
    String::from_utf8_lossy(&text[..len]).into_owned()
}

#[test]
fn s85_the_service_manager_is_told() {
    on_node(|node| {
        let path = node.path("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        // Abstract names belong to the network namespace.
        let address = SocketAddr::from_abstract_name("weft/notify").unwrap();
        let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        for (log, name, socket) in [
            ("path.log", path.to_str().unwrap(), &at_path),
            ("abstract.log", "@weft/notify", &abstract_one),
        ] {
            let mut command = node.command(&[]);
            command.env("NOTIFY_SOCKET", name);
            let mut agent = Process::spawn(command, node.path(log));
            assert_eq!(received(socket), "READY=1");
            agent.expect("ready: ");
            assert!(node.path("subnet.env").exists());
            agent.signal(Signal::INT);
            assert_eq!(received(socket), "STOPPING=1");
            assert_eq!(agent.wait().code(), Some(0), "SIGINT");
        }
    });
}

#[test]
fn s85_a_second_signal_kills() {
    on_node(|node| {
        let mut agent = node.agent_with("log", &["-healthz-port=8471"]);
        wait_for_healthz();
        // A request that has begun holds up the end for some seconds.
        let mut slow = TcpStream::connect(HEALTHZ).unwrap();
        slow.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
        expect("/healthz", 200, "flanneld is running");
        agent.signal(Signal::TERM);
        agent.expect("SIGTERM: stopped");
        agent.signal(Signal::TERM);
        assert_eq!(agent.wait().signal(), Some(Signal::TERM.as_raw()));
    });
}

#[test]
fn s85_what_cannot_start_ends_with_one() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent_with("iface.log", &["-iface-can-reach=9.9.9.9"]);
        agent.expect("ready: ");
        assert_eq!(agent.stop().0, Some(0), "-iface comes first");
        for (log, flags, reason) in [
            ("none.log", &[][..], "no IPv4 default route"),
            (
                "name.log",
                &["-iface=wlan0"],
                "-iface wlan0: matches nothing",
            ),
            (
                "public.log",
                &["-public-ip=8.8.8.8"],
                "-public-ip 8.8.8.8 is on no interface",
            ),
        ] {
            let mut command = node.command_without_iface();
            command.args(flags);
            let mut agent = Process::spawn(command, node.path(log));
            assert_eq!(agent.wait().code(), Some(1), "{flags:?}");
            let line = agent.expect("ERROR");
            assert!(line.contains(reason), "{line}");
        }
    });
}

#[test]
fn a_link_named_flanneld_takes_its_settings_from_the_environment() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", "/other/config", CONFIG]);
        let flanneld = node.path("flanneld");
        std::os::unix::fs::symlink(WEFT, &flanneld).unwrap();
        let mut command = Command::new(flanneld);
        command.env("FLANNELD_ETCD_ENDPOINTS", "http://127.0.0.1:2379");
        command.env("FLANNELD_ETCD_PREFIX", "/other");
        command.env("FLANNELD_IFACE", "eth0");
        command.env("FLANNELD_SUBNET_FILE", node.path("subnet.env"));
        command.env("FLANNELD_STATE_DIR", node.path("state"));
        command.env("FLANNELD_HEALTHZ_PORT", "8471");
        command.env("FLANNELD_VERSION", "true");
        command.env("FLANNELD_IPTABLES_RESYNC", "soon");
        let mut agent = Process::spawn(command, node.path("log"));
        let line = agent.expect("starting with");
        assert!(line.contains("-etcd-prefix=/other -iface=eth0"), "{line}");
        agent.expect(r#"FLANNELD_IPTABLES_RESYNC="soon" is ignored"#);
        agent.expect("ready: ");
        expect("/readyz", 200, "flanneld is ready");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn secrets_are_not_in_the_log() {
    on_node(|node| {
        let mut command = node.command(&["-v=1", "-etcd-username=weft"]);
        command.env("FLANNELD_ETCD_PASSWORD", "hunter2");
        let mut agent = Process::spawn(command, node.path("log"));
        agent.expect("-etcd-password=***");
        agent.expect("etcd unreachable");
        let (code, log) = agent.stop();
        assert_eq!(code, Some(0));
        assert!(!log.contains("hunter2"), "{log}");
    });
}
