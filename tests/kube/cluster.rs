//! A cluster, and kubectl to ask it with.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;
use weft_lab::kube::{ApiOptions, ApiServer};
use weft_lab::{skip, tools};

/// Names a kubeconfig of a real cluster.
const VARIABLE: &str = "WEFT_KUBECONFIG";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster, real or not, in which a test has names of its own.
pub(crate) struct Cluster {
    /// The stand-in, if it is one.
    pub(crate) server: Option<ApiServer>,
    config: PathBuf,
    dir: TempDir,
    /// What all names of the test begin with, and the value of its label.
    id: String,
}

impl Cluster {
    /// The cluster that is named, or else a stand-in of the test's own. `None` where there is no
    /// kubectl: the test is skipped.
    pub(crate) fn new() -> Option<Cluster> {
        static TOLD: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !tools::in_path("kubectl") {
            skip("there is no kubectl; try `apt-get install kubernetes-client`");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let given = std::env::var_os(VARIABLE).filter(|file| !file.is_empty());
        TOLD.call_once(|| {
            let asked = match &given {
                Some(file) => format!("the cluster of {}", file.display()),
                None => format!("the stand-in: {VARIABLE} names no cluster"),
            };
            // Not with eprintln, whose output the test harness swallows where tests pass.
            let _ = writeln!(std::io::stderr(), "tests/kube: asking {asked}");
        });
        let (server, config) = match given {
            Some(file) => (None, file.into()),
            None => {
                let server = ApiServer::start(ApiOptions::default()).unwrap();
                let config = dir.path().join("kubeconfig");
                server.write_kubeconfig(&config).unwrap();
                (Some(server), config)
            }
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let id = format!("weft-test-{}-{number}", std::process::id());
        Some(Cluster {
            server,
            config,
            dir,
            id,
        })
    }

    /// A name that nobody else has.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    /// A group of kinds that nobody else has.
    pub(crate) fn group(&self) -> String {
        format!("{}.example.org", self.name("crd"))
    }

    /// The label of all nodes of the test, as a selector.
    pub(crate) fn label(&self) -> String {
        format!("weft-test={}", self.id)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.config);
        command
            .arg("--cache-dir")
            .arg(self.dir.path().join("cache"));
        command.args(words).stdin(Stdio::null());
        command
    }

    fn output(&self, words: &[&str], input: Option<&str>) -> Output {
        let mut command = self.command(words);
        if let Some(input) = input {
            let file = self.dir.path().join("input");
            std::fs::write(&file, input).unwrap();
            command.stdin(std::fs::File::open(file).unwrap());
        }
        command.output().unwrap()
    }

    /// What kubectl prints when all is well.
    pub(crate) fn good(&self, words: &[&str]) -> String {
        self.good_with(words, None)
    }

    /// The same with this on standard input (`-f -`).
    pub(crate) fn good_with(&self, words: &[&str], input: Option<&str>) -> String {
        let output = self.output(words, input);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complains of.
    pub(crate) fn bad(&self, words: &[&str]) -> String {
        self.bad_with(words, None)
    }

    pub(crate) fn bad_with(&self, words: &[&str], input: Option<&str>) -> String {
        let output = self.output(words, input);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The answer to a path.
    pub(crate) fn raw(&self, path: &str) -> Value {
        serde_json::from_str(&self.good(&["get", "--raw", path])).unwrap()
    }

    /// Whether a path is answered at all.
    pub(crate) fn serves(&self, path: &str) -> bool {
        self.output(&["get", "--raw", path], None).status.success()
    }

    /// Whether kubectl answers `yes`, and not `no`.
    pub(crate) fn says_yes(&self, words: &[&str]) -> bool {
        let output = self.output(words, None);
        match String::from_utf8_lossy(&output.stdout).trim() {
            "yes" => true,
            "no" => false,
            _ => panic!("{words:?}: {output:?}"),
        }
    }

    /// An object.
    pub(crate) fn object(&self, words: &[&str]) -> Value {
        let text = self.good(&[&["get", "-o", "json"], words].concat());
        serde_json::from_str(&text).unwrap()
    }

    /// A node, by the test's name for it.
    pub(crate) fn node(&self, name: &str) -> Value {
        self.object(&["node", &self.name(name)])
    }

    /// Make a node, cordoned, so that nothing is put on it.
    pub(crate) fn create_node(&self, name: &str) -> Value {
        let node = serde_json::json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name(name), "labels": {"weft-test": self.id}},
            "spec": {"unschedulable": true, "podCIDR": "192.0.2.0/28", "podCIDRs": ["192.0.2.0/28"]},
        });
        let made = self.good_with(
            &["create", "-o", "json", "-f", "-"],
            Some(&node.to_string()),
        );
        serde_json::from_str(&made).unwrap()
    }

    /// Whether kubectl knows this flag of this command.
    pub(crate) fn knows(&self, command: &str, flag: &str) -> bool {
        self.good(&[command, "--help"]).contains(flag)
    }

    /// Lines that kubectl prints from now on.
    pub(crate) fn follow(&self, words: &[&str]) -> Lines {
        let mut child = self.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (to, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test may have seen enough.
                let _ = to.send(line);
            }
        });
        Lines { child, lines }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.server.is_some() {
            return;
        }
        // A test that failed says more than this could.
        let delete = |words: &[&str]| {
            let delete = ["delete", "--ignore-not-found", "--wait=false"];
            let _ = self.command(&[&delete, words].concat()).output();
        };
        delete(&["nodes", "-l", &self.label()]);
        delete(&["namespace", &self.name("ns")]);
        delete(&["clusterrole,clusterrolebinding", &self.name("role")]);
        delete(&["crd", &format!("podmonitors.{}", self.group())]);
    }
}

/// Lines of a kubectl that runs until this is dropped.
pub(crate) struct Lines {
    child: Child,
    lines: Receiver<String>,
}

impl Lines {
    /// The next line that `fits`.
    pub(crate) fn find<T>(&self, what: &str, mut fits: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{what}: {error}"));
            if let Some(found) = fits(&line) {
                return found;
            }
        }
    }

    /// The next event of a raw watch that `fits`.
    pub(crate) fn event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str(line).ok().filter(&fits);
        self.find(what, parse)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
