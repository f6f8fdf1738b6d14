//! systemd as the first process of namespaces of its own, with the unit that weft comes with.

use crate::cluster::weft;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use weft_lab::{Agent, Process, skip, skips_test_without, wait_until};

const SYSTEMD: &str = "/lib/systemd/systemd";
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");

/// Units that ours comes after, of which there is nothing to do here.
const EMPTY: [&str; 6] = [
    "basic.target",
    "multi-user.target",
    "network.target",
    "network-online.target",
    "shutdown.target",
    "sysinit.target",
];

/// Enters a control group of its own, and then namespaces in which that is the root. `$1` is the
/// test's folder, `$2` the group's name.
const OUTSIDE: &str = r#"
set -e
mount --make-rprivate /
mount -t cgroup2 none "$1/cgroup"
mkdir "$1/cgroup/$2"
echo $$ >"$1/cgroup/$2/cgroup.procs"
exec unshare --mount --pid --fork --kill-child --cgroup --uts --ipc sh -c "$3" sh "$1"
"#;

/// Nothing that systemd or the unit writes is to reach the host. `$1` is the test's folder.
const INSIDE: &str = r#"
set -e
mount -t proc proc /proc
umount "$1/cgroup"
umount -R /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 none /sys/fs/cgroup
for folder in /run /opt /var/lib /etc/default; do mount -t tmpfs tmpfs $folder; done
# What the unit pins goes with it.
mount -t bpf bpf /sys/fs/bpf || true
cp -r "$1/opt" "$1/run" /
cp "$1/flanneld" /etc/default
export container=weft SYSTEMD_UNIT_PATH=/run/units
exec /lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=no
"#;

/// Removes the control groups of `$2`, once nobody is in them.
const CLEAN: &str = r#"
mount -t cgroup2 none "$1/cgroup" && find "$1/cgroup/$2" -depth -type d -exec rmdir {} +
"#;

/// How long systemd may take to start.
const START: Duration = Duration::from_secs(10);

/// How long the kernel may take to wind up what was in a control group.
const WIND_UP: Duration = Duration::from_secs(5);

pub(super) struct Systemd {
    process: Process,
    dir: PathBuf,
    group: String,
}

impl Systemd {
    /// Start it in the network namespace of `agent`, which its unit is to run; in `dir`. Where it
    /// cannot be started the test is skipped.
    pub(super) fn start(agent: &Agent, dir: &Path) -> Option<Systemd> {
        let dir = dir.join("systemd");
        prepare(agent, &dir);
        let group = format!("weft-test-{}", std::process::id());
        let mut command = agent.namespace().command("sh");
        command.args(["-c", OUTSIDE, "sh"]).arg(&dir);
        command.args([&group, INSIDE]);
        let log = dir.join("log");
        let process = agent.namespace().spawn(command, &log).unwrap();
        let systemd = Systemd {
            process,
            dir,
            group,
        };
        if wait_until(START, || systemd.run(&["is-active", "basic.target"])) {
            return Some(systemd);
        }
        let said = fs::read_to_string(log).unwrap_or_default();
        let said = said.lines().last().unwrap_or("it says nothing").to_owned();
        skip(&format!("systemd does not run in namespaces here: {said}"));
        None
    }

    /// Have `systemctl` do this; whether it has.
    pub(super) fn run(&self, words: &[&str]) -> bool {
        let Some(init) = self.init() else {
            return false;
        };
        let mut command = Command::new("nsenter");
        command.args(["--target", &init, "--mount", "--pid", "systemctl"]);
        command.args(words).output().unwrap().status.success()
    }

    /// The process that systemd is, once it is there.
    fn init(&self) -> Option<String> {
        let pid = self.process.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        let child = children.split_whitespace().next()?.to_owned();
        let program = fs::read_link(format!("/proc/{child}/exe")).ok()?;
        (program.file_name() == Some(OsStr::new("systemd"))).then_some(child)
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // With it goes systemd, and with that all that it has started.
        let _ = self.process.kill();
        wait_until(WIND_UP, || {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", CLEAN, "sh"]);
            command.arg(&self.dir).arg(&self.group);
            command.output().is_ok_and(|output| output.status.success())
        });
    }
}

/// Whether systemd or a program that starts it is missing. If so the test is skipped.
pub(super) fn skips_test() -> bool {
    skips_test_without(&[
        (SYSTEMD, "systemd"),
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
    ])
}

/// Put what there is to be inside into `dir`.
fn prepare(agent: &Agent, dir: &Path) {
    let (bin, units) = (dir.join("opt/bin"), dir.join("run/units"));
    let drop_in = units.join("weft.service.d");
    for folder in [&dir.join("cgroup"), &bin, &drop_in] {
        fs::create_dir_all(folder).unwrap();
    }
    for name in EMPTY {
        fs::write(units.join(name), "[Unit]\nDefaultDependencies=no\n").unwrap();
    }
    for name in ["flanneld", "weft"] {
        std::os::unix::fs::symlink(weft(), bin.join(name)).unwrap();
    }
    let deployed = Path::new(DEPLOY);
    let script = "mk-docker-opts.sh";
    fs::copy(deployed.join(script), bin.join(script)).unwrap();
    let unit = "weft.service";
    fs::copy(deployed.join("systemd").join(unit), units.join(unit)).unwrap();
    // Files are the lab's, and so is the log.
    let (subnet, log) = (agent.subnet_file(), agent.log_file());
    let lines = format!(
        "[Service]\nStandardOutput=append:{log}\nStandardError=append:{log}\nExecStartPost=\nExecStartPost=/opt/bin/{script} -c -f {subnet}\n",
        log = log.display(),
        subnet = subnet.display(),
    );
    fs::write(drop_in.join("lab.conf"), lines).unwrap();
    let command = agent.command();
    let flags = command.get_args().map(|word| word.to_str().unwrap());
    let flags: Vec<&str> = flags.skip_while(|word| *word != "agent").skip(1).collect();
    let options = format!("FLANNEL_OPTIONS=\"{}\"\nNO_COLOR=1\n", flags.join(" "));
    fs::write(dir.join("flanneld"), options).unwrap();
}
