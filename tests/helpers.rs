//! The commands beside the agent: `mk-docker-opts` through the script of that name, as
//! flannel's own tests call it, and `install-conf` through a link.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;
use weft_lab::{Lab, LabOptions, skips_test};

const WEFT: &str = env!("CARGO_BIN_EXE_weft");
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/mk-docker-opts.sh");

/// Input of upstream's tests.
const SUBNET_ENV: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\n\
                          FLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n";

const INDIVIDUAL: &str = r#"DOCKER_OPT_BIP="--bip=10.1.74.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1472"
"#;

/// A directory with `subnet.env`.
struct Files(TempDir);

impl Files {
    fn new(subnet_env: &str) -> Files {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("subnet.env"), subnet_env).unwrap();
        Files(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The script, started by `command`, with input, output and further flags.
    fn run(&self, mut command: Command, flags: &[&str]) -> Output {
        let bin = Path::new(WEFT).parent().unwrap().to_str().unwrap();
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{bin}:{path}"));
        command.arg("-f").arg(self.path("subnet.env"));
        command.arg("-d").arg(self.path("docker.env"));
        command.args(flags).output().unwrap()
    }

    fn written(&self) -> String {
        fs::read_to_string(self.path("docker.env")).unwrap()
    }
}

fn script() -> Command {
    let mut command = Command::new("bash");
    command.arg(SCRIPT);
    command
}

/// What the script writes for upstream's input.
fn made(flags: &[&str]) -> String {
    let files = Files::new(SUBNET_ENV);
    // What an earlier run wrote does not stay.
    fs::write(files.path("docker.env"), "OLD=1\n".repeat(99)).unwrap();
    let output = files.run(script(), flags);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    files.written()
}

#[test]
fn m1_single_options_and_all_in_one() {
    let combined = "DOCKER_OPTS=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n";
    assert_eq!(made(&[]), format!("{INDIVIDUAL}{combined}"));
    assert_eq!(made(&["-i", "-c"]), made(&["-ci"]));
    assert_eq!(made(&["-ic"]), made(&[]));
}

#[test]
fn m2_single_options_only() {
    assert_eq!(made(&["-i"]), INDIVIDUAL);
}

#[test]
fn m3_all_in_one_only() {
    assert_eq!(
        made(&["-c"]),
        "DOCKER_OPTS=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n"
    );
}

#[test]
fn m4_another_key() {
    let combined = "CUSTOM_KEY=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n";
    assert_eq!(
        made(&["-k", "CUSTOM_KEY"]),
        format!("{INDIVIDUAL}{combined}")
    );
}

#[test]
fn m5_without_ip_masq() {
    assert_eq!(
        made(&["-m"]),
        "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\nDOCKER_OPT_MTU=\"--mtu=1472\"\n\
         DOCKER_OPTS=\" --bip=10.1.74.1/24 --mtu=1472\"\n"
    );
}

#[test]
fn docker_masquerades_exactly_if_the_agent_does_not() {
    let files = Files::new(&SUBNET_ENV.replace("false", "true"));
    assert!(files.run(script(), &["-c"]).status.success());
    assert!(files.written().contains("--ip-masq=false"));

    let files = Files::new(&SUBNET_ENV.replace("false", "yes"));
    let output = files.run(script(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("Invalid value of FLANNEL_IPMASQ: yes"),
        "{said}"
    );
    assert!(!files.path("docker.env").exists());
    assert!(
        files.run(script(), &["-m"]).status.success(),
        "not looked at"
    );
}

#[test]
fn without_the_agents_file_there_are_no_options() {
    let files = Files::new("");
    fs::remove_file(files.path("subnet.env")).unwrap();
    let output = files.run(script(), &[]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files.written(), "DOCKER_OPTS=\"\"\n");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    let missing = format!("{} is not there", files.path("subnet.env").display());
    assert!(said.contains(&missing), "{said}");
}

#[test]
fn a_variable_in_the_environment_comes_first() {
    let files = Files::new(SUBNET_ENV);
    let mut command = script();
    command
        .env("DOCKER_OPTS", "--live-restore")
        .env("OTHER", "--debug");
    assert!(files.run(command, &["-c", "-m"]).status.success());
    let expected = "DOCKER_OPTS=\"--live-restore --bip=10.1.74.1/24 --mtu=1472\"\n";
    assert_eq!(files.written(), expected);
}

#[test]
fn usage_and_failures_end_with_1() {
    let files = Files::new(SUBNET_ENV);
    for flag in ["-h", "-?", "-x", "-k"] {
        let output = files.run(script(), &[flag]);
        assert_eq!(output.status.code(), Some(1), "{flag}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("-k") && said.contains("/run/docker_opts.env"),
            "{said}"
        );
        assert!(output.stdout.is_empty() && !files.path("docker.env").exists());
    }
    fs::create_dir(files.path("docker.env")).unwrap();
    let output = files.run(script(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("docker.env") && said.lines().count() == 1,
        "{said}"
    );
}

#[test]
fn options_that_cannot_be_written_leave_none_of_an_earlier_subnet() {
    let files = Files::new(SUBNET_ENV);
    fs::write(
        files.path("docker.env"),
        "DOCKER_OPTS=\"--bip=10.1.9.1/24\"\n",
    )
    .unwrap();
    // No file may have a byte, as on a full disk.
    let mut command = Command::new("bash");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 0; exec bash \"$0\" \"$@\"",
        SCRIPT,
    ]);
    let output = files.run(command, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("docker.env: File too large"), "{said}");
    assert!(!files.path("docker.env").exists());
}

#[test]
fn the_script_prefers_the_weft_beside_it() {
    let files = Files::new(SUBNET_ENV);
    fs::create_dir(files.path("bin")).unwrap();
    fs::copy(SCRIPT, files.path("bin/mk-docker-opts.sh")).unwrap();
    symlink(WEFT, files.path("bin/weft")).unwrap();
    symlink("bin/mk-docker-opts.sh", files.path("link.sh")).unwrap();
    let mut command = Command::new(files.path("link.sh"));
    command.env_clear().env("PATH", "/usr/bin:/bin");
    command.arg("-f").arg(files.path("subnet.env"));
    command.arg("-d").arg(files.path("docker.env")).arg("-i");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files.written(), INDIVIDUAL);
}

#[test]
fn a_route_by_a_gateway_to_the_own_subnet_is_an_error() {
    if skips_test() {
        return;
    }
    let lab = Lab::new(LabOptions::default()).unwrap();
    let node = &lab.node(1).ns;
    let files = Files::new(SUBNET_ENV);
    let run = || {
        let mut command = node.command("bash");
        command.arg(SCRIPT);
        files.run(command, &[])
    };
    // As Docker's bridge, the other nodes' subnets and the whole network look.
    node.ip("link add docker0 type bridge").unwrap();
    node.ip("address add 10.1.74.1/24 dev docker0").unwrap();
    node.ip("link set docker0 up").unwrap();
    node.ip("route add 10.1.0.0/16 via 10.99.0.2").unwrap();
    node.ip("route add 10.1.7.0/24 via 10.99.0.2").unwrap();
    assert!(run().status.success());

    node.ip("link del docker0").unwrap();
    node.ip("route add 10.1.74.0/24 via 10.99.0.2").unwrap();
    let output = run();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let route = "already contains the subnet: 10.1.74.0/24 via 10.99.0.2 dev eth0";
    assert!(said.contains(route), "{said}");
    assert!(
        files.written().contains("--bip=10.1.74.1/24"),
        "written all the same"
    );
}

#[test]
fn install_conf_copies_in_one_step() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    symlink(WEFT, path("install-conf")).unwrap();
    let install = |words: &[PathBuf]| {
        let output = Command::new(path("install-conf")).args(words).output();
        let output = output.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (source, target) = (path("source"), path("10-flannel.conflist"));
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/deploy/cni/10-flannel.conflist"
    );
    fs::copy(shipped, &source).unwrap();
    fs::set_permissions(&source, fs::Permissions::from_mode(0o640)).unwrap();
    fs::write(&target, "old").unwrap();
    // Who reads the old file goes on reading it.
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let before = inode(&target);

    assert_eq!(
        install(&[source.clone(), target.clone()]),
        (Some(0), String::new())
    );
    assert_eq!(fs::read(&target).unwrap(), fs::read(&source).unwrap());
    assert_eq!(
        fs::metadata(&target).unwrap().permissions().mode() & 0o777,
        0o640
    );
    assert_ne!(inode(&target), before);
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        3,
        "no temporary file"
    );

    for words in [
        vec![],
        vec![source.clone()],
        vec![source.clone(), target.clone(), target.clone()],
        vec![path("none"), target.clone()],
        vec![source, path("none/target")],
    ] {
        let (status, said) = install(&words);
        assert_eq!(status, Some(1), "{words:?}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
