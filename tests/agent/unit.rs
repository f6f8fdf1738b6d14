//! The systemd units in `deploy/systemd`: that systemd takes it, that what it runs is known, and
//! that the agent does its work with what the unit leaves it.

use super::node::*;
use super::process::received;
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use weft_lab::skips_test_without;

const UNIT: &str = include_str!("../../deploy/systemd/weft.service");
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

/// The value of a key that the unit has once.
fn value(key: &str) -> &'static str {
    let of_key = |line: &'static str| line.strip_prefix(key)?.strip_prefix('=');
    let values: Vec<&str> = UNIT.lines().filter_map(of_key).collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0]
}

/// `/opt/bin` as `make install` fills it, in `dir`.
fn programs(dir: &Path) {
    let script = format!("{DEPLOY}/mk-docker-opts.sh");
    symlink(WEFT, dir.join("flanneld")).unwrap();
    symlink(WEFT, dir.join("weft")).unwrap();
    // The script looks for weft beside itself.
    fs::copy(script, dir.join("mk-docker-opts.sh")).unwrap();
}

/// A command line of the unit's, with programs in `dir` and `$FLANNEL_OPTIONS` as given.
fn words(line: &str, dir: &Path, options: &[&str]) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    line.split_whitespace()
        .flat_map(|word| match word {
            "$FLANNEL_OPTIONS" => options.iter().map(|&option| option.to_owned()).collect(),
            word => vec![word.replace("/opt/bin", dir)],
        })
        .collect()
}

#[test]
fn systemd_takes_the_units_and_the_drop_in() {
    if skips_test_without(&[("systemd-analyze", "systemd")]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    programs(dir.path());
    let unit = UNIT.replace("/opt/bin", dir.path().to_str().unwrap());
    fs::write(dir.path().join("weft.service"), unit).unwrap();
    let tune = include_str!("../../deploy/systemd/weft-tune.service");
    let tune = tune.replace("=weft ", &format!("={}/weft ", dir.path().display()));
    fs::write(dir.path().join("weft-tune.service"), tune).unwrap();
    let docker = "[Service]\nExecStart=/bin/true $DOCKER_OPTS\n";
    fs::write(dir.path().join("docker.service"), docker).unwrap();
    let drop_in = "docker.service.d/weft.conf";
    fs::create_dir(dir.path().join("docker.service.d")).unwrap();
    fs::copy(
        format!("{DEPLOY}/systemd/{drop_in}"),
        dir.path().join(drop_in),
    )
    .unwrap();
    let verified = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args(["weft.service", "weft-tune.service", "docker.service"])
        // These first, then the system's own.
        .env("SYSTEMD_UNIT_PATH", format!("{}:", dir.path().display()))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{verified:?}");
    let said = String::from_utf8(verified.stderr).unwrap();
    // The system's own units are none of ours.
    let ours = ["weft", "docker", dir.path().to_str().unwrap()];
    let about_ours = |line: &&str| ours.iter().any(|name| line.contains(name));
    let told: Vec<_> = said.lines().filter(about_ours).collect();
    assert_eq!(told, [""; 0], "unknown keys are told and ignored");
}

#[test]
fn what_the_unit_runs_is_known() {
    let dir = tempfile::tempdir().unwrap();
    programs(dir.path());
    let run = |line: &str, options: &[&str], more: &[&str]| {
        let words = words(line, dir.path(), options);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(more).output().unwrap()
    };
    // The flags that the unit's own example has; -version looks at names only.
    let (_, example) = UNIT.split_once("FLANNEL_OPTIONS=\"").unwrap();
    let options: Vec<&str> = example.split('"').next().unwrap().split(' ').collect();
    assert!(!options.is_empty() && options.iter().all(|option| option.starts_with('-')));
    let output = run(value("ExecStart"), &options, &["-version"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = run(value("ExecStart"), &["-bogus"], &["-version"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");

    let files = ["subnet.env", "docker.env"].map(|name| dir.path().join(name));
    let [env, docker] = files.each_ref().map(|path| path.to_str().unwrap());
    fs::write(&files[0], "FLANNEL_MTU=1450\n").unwrap();
    let output = run(value("ExecStartPost"), &[], &["-f", env, "-d", docker]);
    assert!(output.status.success(), "{output:?}");
    let written = fs::read_to_string(docker).unwrap();
    assert_eq!(written, "DOCKER_OPTS=\" --mtu=1450\"\n");
}

/// What an agent says of the kernel's features that it uses.
fn capabilities(agent: &mut Process) -> String {
    agent.signal(Signal::USR1);
    let line = agent.expect("capabilities:");
    line.split_once("capabilities:").unwrap().1.to_owned()
}

#[test]
fn a_service_works_with_the_capabilities_that_its_unit_leaves() {
    on_node(|node| {
        programs(node.path("").as_path());
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("root.log");
        agent.expect("ready: ");
        let as_root = capabilities(&mut agent);
        let allowed: Vec<_> = value("RestrictAddressFamilies").split(' ').collect();
        let mut families = agent.socket_families();
        assert!(families.contains(&"AF_NETLINK"), "{families:?}");
        // Opened with the first super-packet, to see it leave whole.
        families.push("AF_PACKET");
        for family in families {
            assert!(allowed.contains(&family), "the unit leaves no {family}");
        }
        assert_eq!(agent.stop().0, Some(0));

        let socket = UnixDatagram::bind(node.path("notify")).unwrap();
        let flags = node.command(&["-ip-masq", "-ip-blackhole-route"]);
        let flags: Vec<&str> = flags
            .get_args()
            .map(|flag| flag.to_str().unwrap())
            .collect();
        let left = value("CapabilityBoundingSet").to_lowercase();
        let left = left.replace("cap_", "+").replace(' ', ",");
        assert_eq!(value("NoNewPrivileges"), "yes");
        assert_eq!(value("Type"), "notify");
        let mut command = Command::new("setpriv");
        command.args(["--no-new-privs", "--inh-caps=-all"]);
        command.arg(format!("--bounding-set=-all,{left}"));
        // Without the word for the subcommand: the program is a link named flanneld.
        command.args(words(value("ExecStart"), &node.path(""), &flags[1..]));
        command.env("NOTIFY_SOCKET", node.path("notify"));
        let mut agent = Process::spawn(command, node.path("log"));
        assert_eq!(received(&socket), "READY=1");
        agent.expect("ready: ");
        assert_eq!(capabilities(&mut agent), as_root, "nothing is done without");

        // What runs after READY finds the file, and all is in place.
        let docker = node.path("docker.env");
        let post = words(value("ExecStartPost"), &node.path(""), &[]);
        let files = [node.path("subnet.env"), docker.clone()];
        let [env, out] = files.each_ref().map(|path| path.to_str().unwrap());
        let post: Vec<&str> = post.iter().map(String::as_str).collect();
        run(post[0], &[&post[1..], &["-f", env, "-d", out]].concat());
        let options = fs::read_to_string(docker).unwrap();
        assert!(options.contains("--ip-masq=false --mtu=1450"), "{options}");
        let rules = run("iptables", &["-t", "nat", "-S"]);
        assert!(rules.contains("FLANNEL-POSTRTG"), "{rules}");
        assert!(ip("route show type blackhole").contains("10.5."));

        agent.signal(Signal::TERM);
        assert_eq!(received(&socket), "STOPPING=1");
        assert_eq!(agent.wait().code(), Some(0));
        let log = agent.log();
        for trouble in ["ERROR", "ermission", "not permitted"] {
            assert!(!log.contains(trouble), "{log}");
        }
    });
}
