//! A namespace with a device to tune.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use weft_lab::{Lab, LabOptions, Namespace, script, skips_test};

pub(crate) const WEFT: &str = env!("CARGO_BIN_EXE_weft");

/// A veth of two queues.
pub(crate) const DEVICE: &str = "tune0";

/// What belongs to the whole host and not to the namespace is no test's to change.
const ALONE: &str = "governor = \"leave\"\nirq = \"leave\"\nnetdev_max_backlog = \"leave\"\n\
                     bpf_jit_enable = \"leave\"\n";

/// What the device is like before.
const BEFORE: &str = "cd /sys/class/net/tune0/queues
echo 1 >rx-0/rps_cpus; echo 256 >rx-1/rps_flow_cnt
ethtool -K tune0 gro off tso off tx-udp-segmentation off";

/// A namespace with the device, and a folder.
pub(crate) struct Bed {
    pub(crate) lab: Lab,
    pub(crate) ns: Namespace,
}

/// Where it can be made; else the test is skipped.
pub(crate) fn bed() -> Option<Bed> {
    if skips_test() {
        return None;
    }
    let lab = Lab::new(LabOptions::default()).unwrap();
    let ns = lab.node(1).ns.clone();
    let queues = "numtxqueues 2 numrxqueues 2";
    ns.ip(&format!(
        "link add {DEVICE} {queues} type veth peer name tune1 {queues}"
    ))
    .unwrap();
    ns.run(&["sh", "-c", BEFORE]).unwrap();
    Some(Bed { lab, ns })
}

impl Bed {
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.lab.dir().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn profile(&self, more: &str) -> PathBuf {
        self.file("tune.toml", &format!("{more}{ALONE}"))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.lab.dir().join("state/tune.json")
    }

    /// `weft tune` with these words and the journal of this bed, as it will be started.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.ns.command(WEFT);
        command
            .arg("tune")
            .args(words)
            .arg("--state")
            .arg(self.state());
        command
    }

    pub(crate) fn tune(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    pub(crate) fn apply(&self, profile: &Path) -> Output {
        let profile = profile.to_str().unwrap();
        self.tune(&["apply", "--iface", DEVICE, "--profile", profile])
    }

    /// Every value of the device that there is, as the kernel writes it.
    pub(crate) fn values(&self) -> String {
        let all = "cd /sys/class/net/tune0 && grep -r . queues | sort; ethtool -k tune0";
        self.ns.run(&["sh", "-c", all]).unwrap()
    }

    /// The path of the program.
    pub(crate) fn ethtool(&self) -> String {
        let path = self.ns.run(&["sh", "-c", "command -v ethtool"]).unwrap();
        path.trim().to_owned()
    }

    /// A `PATH` in which this script is `ethtool`.
    pub(crate) fn instead_of_ethtool(&self, text: &str) -> String {
        let bin = self.lab.dir().join("bin");
        fs::create_dir(&bin).unwrap();
        script(bin.join("ethtool"), text).unwrap();
        format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
    }

    pub(crate) fn value(&self, file: &str) -> String {
        let path = format!("/sys/class/net/{DEVICE}/queues/{file}");
        self.ns.run(&["cat", &path]).unwrap().trim().to_owned()
    }
}

fn said(output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8(text).unwrap()
}

#[track_caller]
pub(crate) fn ends_with(output: &Output, status: i32) -> String {
    assert_eq!(output.status.code(), Some(status), "{output:?}");
    said(output)
}
