//! What supervisors and scripts see of the agent: health checks, notifications, exit
//! statuses, signals and the environment.

use super::node::*;
use nix::sys::signal::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

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
        assert_eq!(get("/metrics").map(|answer| answer.0), Some(404));
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
        agent.expect("ready: ");
        expect("/healthz", 200, "flanneld is running");
        expect("/readyz", 503, "flanneld is not ready yet");
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
        agent.expect(&format!("serving /healthz and /readyz on {HEALTHZ}"));
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
    let len = socket.recv(&mut text).unwrap();
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
            agent.signal(Signal::SIGINT);
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
        agent.signal(Signal::SIGTERM);
        agent.expect("SIGTERM: stopped");
        agent.signal(Signal::SIGTERM);
        assert_eq!(agent.wait().signal(), Some(Signal::SIGTERM as i32));
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
