//! Rows from files, and from nodes by whatever runs commands there.

use super::without;
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use weft_control::connectivity::{Named, Row};

/// Nodes that measure at the same time. More would disturb what each of them measures.
const AT_A_TIME: usize = 16;

/// How long a node may take: 100 requests that nobody answers, each a second, and to get there.
const LIMIT: Duration = Duration::from_secs(120);

/// How long pipes are read when the command has ended: what it has started may hold them for ever,
/// as ssh's ControlPersist does.
const REST: Duration = Duration::from_secs(2);

/// The longest row in bytes, and the longest complaint.
const ROW_MAX: u64 = 64 << 20;
const COMPLAINT_MAX: u64 = 4096;

/// How rows are had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Runner<'a> {
    pub(super) run: &'a str,
    pub(super) weft: &'a str,
    pub(super) count: u32,
}

impl Runner<'_> {
    /// The rows of all nodes, in their order.
    pub(super) fn rows(&self, nodes: &[String]) -> Vec<Named> {
        let waiting: Mutex<VecDeque<usize>> = Mutex::new((0..nodes.len()).collect());
        let done: Mutex<Vec<Option<Named>>> = Mutex::new(vec![None; nodes.len()]);
        let next = || waiting.lock().ok()?.pop_front();
        thread::scope(|scope| {
            for _ in 0..AT_A_TIME.min(nodes.len()) {
                scope.spawn(|| {
                    while let Some(i) = next() {
                        let row = self.row(&nodes[i]);
                        if let Ok(mut done) = done.lock() {
                            done[i] = Some(row);
                        }
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_default();
        let all = nodes.iter().zip(done);
        all.map(|(node, row)| row.unwrap_or_else(|| without(node, "not measured")))
            .collect()
    }

    fn row(&self, node: &str) -> Named {
        let path = Path::new(node);
        if path.is_file() {
            let stem = path
                .file_stem()
                .map_or(node.into(), |stem| stem.to_string_lossy());
            return match fs::read(path) {
                Ok(text) => read(&stem, &text),
                Err(error) => without(&stem, error.to_string()),
            };
        }
        match self.ask(node) {
            Ok(text) => read(node, &text),
            Err(reason) => without(node, reason),
        }
    }

    /// What a node prints; why it prints nothing.
    fn ask(&self, node: &str) -> Result<Vec<u8>, String> {
        // It would be an option of what runs the command.
        if node.starts_with('-') {
            return Err("not the name of a node".to_owned());
        }
        let words = self.run.split_whitespace();
        let mut words = words.map(|word| word.replace("{node}", node));
        let program = words.next().ok_or("--run is empty")?;
        let mut command = Command::new(&program);
        command.args(words).arg(self.weft);
        command.args(["connectivity", "--json", "--count", &self.count.to_string()]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        finish(child).map_err(|error| format!("{program}: {error}"))?
    }
}

/// What a process prints until it ends; why that is nothing, from what it complains about.
fn finish(mut child: Child) -> io::Result<Result<Vec<u8>, String>> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let said = Pipe::read(stdout, ROW_MAX);
    let complained = Pipe::read(stderr, COMPLAINT_MAX);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            return Ok(Err(format!("no end after {} s", LIMIT.as_secs())));
        }
        thread::sleep(Duration::from_millis(20));
    };
    let said = said.rest();
    if !said.trim_ascii().is_empty() {
        return Ok(Ok(said));
    }
    let complained = complained.rest();
    let complaint = String::from_utf8_lossy(&complained);
    let last = complaint
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty());
    Ok(Err(last.map_or_else(|| status.to_string(), str::to_owned)))
}

/// What a thread reads from a pipe.
struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl Pipe {
    /// Read at most so many bytes.
    fn read(pipe: Option<impl Read + Send + 'static>, most: u64) -> Pipe {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = mpsc::channel();
        let all = bytes.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // What is cut off is no row, and is told as such.
            let Some(mut pipe) = pipe.map(|pipe| pipe.take(most)) else {
                return;
            };
            loop {
                match pipe.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(len) => {
                        let Ok(mut all) = all.lock() else { break };
                        all.extend_from_slice(&chunk[..len]);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            drop(ended);
        });
        Pipe { bytes, end }
    }

    /// All of it, or what there is when the time for the rest is over.
    fn rest(self) -> Vec<u8> {
        // It ends as the thread does.
        let _ = self.end.recv_timeout(REST);
        self.bytes
            .lock()
            .map(|bytes| bytes.clone())
            .unwrap_or_default()
    }
}

/// The row that a text is.
fn read(name: &str, text: &[u8]) -> Named {
    match serde_json::from_slice::<Row>(text) {
        Ok(row) if row.version == 1 => Named {
            name: name.to_owned(),
            row: Ok(row),
        },
        Ok(row) => without(
            name,
            format!("a row of version {}, 1 is known here", row.version),
        ),
        Err(error) => without(
            name,
            format!("not a row of `weft connectivity --json`: {error}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(run: &str, node: &str) -> String {
        let runner = Runner {
            run,
            weft: "weft",
            count: 1,
        };
        let mut rows = runner.rows(&[node.to_owned()]);
        rows.remove(0).row.unwrap_err()
    }

    #[test]
    fn rows_are_what_a_command_prints() {
        let row = r#"{"version":1,"agent":"a","subnets":["10.5.1.0/24"],"public":["10.0.0.1"],"peers":[]}"#;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.json");
        fs::write(&file, row).unwrap();
        // The words behind it mean nothing to this one.
        let script = dir.path().join("print");
        let rows = dir.path().display();
        fs::write(&script, format!("cat \"{rows}/$1.row\"")).unwrap();
        fs::write(dir.path().join("two.row"), row.replace("\"a\"", "\"b\"")).unwrap();
        let run = format!("sh {} {{node}}", script.display());
        let runner = Runner {
            run: &run,
            weft: "weft",
            count: 1,
        };
        let file = file.display().to_string();
        let rows = runner.rows(&[file, "two".to_owned(), "nowhere".to_owned()]);
        assert_eq!(rows[0].name, "one");
        assert_eq!(rows[0].row.as_ref().unwrap().agent, "a");
        assert_eq!(rows[1].name, "two");
        assert_eq!(rows[1].row.as_ref().unwrap().agent, "b");
        assert!(
            rows[2].row.as_ref().unwrap_err().contains("nowhere"),
            "{rows:?}"
        );
    }

    #[test]
    fn what_a_command_leaves_running_is_not_waited_for() {
        let row = r#"{"version":1,"agent":"a","subnets":[],"public":[],"peers":[]}"#;
        let dir = tempfile::tempdir().unwrap();
        let (script, pid) = (dir.path().join("print"), dir.path().join("pid"));
        let text = format!("sleep 1000 & echo $! > {}; echo '{row}'", pid.display());
        fs::write(&script, text).unwrap();
        let run = format!("sh {} {{node}}", script.display());
        let runner = Runner {
            run: &run,
            weft: "weft",
            count: 1,
        };
        let rows = runner.rows(&["one".to_owned()]);
        assert_eq!(rows[0].row.as_ref().unwrap().agent, "a");
        let pid = fs::read_to_string(pid).unwrap();
        let is_there = Path::new("/proc").join(pid.trim()).exists();
        Command::new("kill").arg(pid.trim()).status().unwrap();
        assert!(is_there, "it was waited for");
    }

    #[test]
    fn a_node_without_a_row_says_why() {
        for (run, node, words) in [
            ("sh -c exit", "a", "exit status"),
            ("echo {node}", "a", "not a row"),
            ("/nowhere/ssh {node}", "a", "/nowhere/ssh: "),
            ("", "a", "--run is empty"),
            ("echo {node}", "-oProxyCommand=x", "not the name of a node"),
            (
                r#"echo {"version":2,"agent":"a","subnets":[],"public":[],"peers":[]}"#,
                "a",
                "not a row",
            ),
        ] {
            let reason = reason(run, node);
            assert!(reason.contains(words), "{run}: {reason}");
        }
    }
}
