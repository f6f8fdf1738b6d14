//! A Prometheus in a node's namespace, and plain HTTP.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use weft_lab::{Lab, Namespace, Process, wait_until};

/// How long Prometheus may take to start, and to have scraped what is asked for.
const LIMIT: Duration = Duration::from_secs(60);

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// An answer: status, head in lower case, and body.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

/// GET a path from within a namespace; `more` are lines of the head.
pub(super) fn get(ns: &Namespace, at: SocketAddr, path: &str, more: &str) -> io::Result<Answer> {
    let ask = || -> io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        // HTTP/1.0: the answer comes in one piece, to the end of the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: weft\r\n{more}\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ns.enter(ask).map_err(io::Error::other)??;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok(Answer {
        status: status.unwrap_or(0),
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// Run promtool with something on its standard input; all that it says, if it fails.
pub(super) fn promtool(words: &[&str], input: &str) -> Result<(), String> {
    let mut command = Command::new("promtool");
    command.args(words).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    match output.status.success() {
        true => Ok(()),
        false => Err(said),
    }
}

pub(super) struct Prometheus {
    _process: Process,
    ns: Namespace,
}

impl Prometheus {
    /// Scrape these addresses each second, and follow these rules, in the namespace of a node.
    pub(super) fn start(lab: &Lab, node: usize, targets: &[String], rules: &Path) -> Prometheus {
        let ns = lab.node(node).ns.clone();
        let dir = lab.dir().join("prometheus");
        std::fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{}]\n\
             scrape_configs:\n\
             - {{job_name: weft, static_configs: [{{targets: {targets:?}}}]}}\n",
            rules.display()
        );
        let file = dir.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut command = ns.command("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!(
            "--storage.tsdb.path={}",
            dir.join("data").display()
        ));
        command.arg(format!("--web.listen-address={LISTEN}"));
        let process = ns.spawn(command, &dir.join("log")).unwrap();
        let prometheus = Prometheus {
            _process: process,
            ns,
        };
        let is_up = || prometheus.api("/-/ready").is_ok();
        assert!(wait_until(LIMIT, is_up), "Prometheus does not start");
        prometheus
    }

    fn api(&self, path: &str) -> Result<String, String> {
        let answer = get(&self.ns, LISTEN, path, "").map_err(|error| error.to_string())?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(format!("{status}: {}", answer.body)),
        }
    }

    fn json(&self, path: &str) -> Result<Value, String> {
        let body = self.api(path)?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        Ok(answer["data"].clone())
    }

    /// The instances that an expression has a value for.
    pub(super) fn instances(&self, expression: &str) -> Result<Vec<String>, String> {
        let encoded: String = expression.bytes().map(|b| format!("%{b:02X}")).collect();
        let data = self.json(&format!("/api/v1/query?query={encoded}"))?;
        let results = data["result"].as_array().cloned().unwrap_or_default();
        let instance = |result: &Value| result["metric"]["instance"].as_str().map(str::to_owned);
        let mut instances: Vec<String> = results.iter().filter_map(instance).collect();
        instances.sort();
        instances.dedup();
        Ok(instances)
    }

    /// Wait until an expression has a value for so many instances.
    pub(super) fn await_data(&self, expression: &str, instances: usize) {
        let mut last = Ok(Vec::new());
        let found = wait_until(LIMIT, || {
            last = self.instances(expression);
            last.as_ref().is_ok_and(|found| found.len() >= instances)
        });
        assert!(found, "{expression}: {last:?}");
    }

    /// Wait until all rules have been evaluated; those that could not be.
    pub(super) fn unhealthy_rules(&self) -> Vec<String> {
        let mut rules = Vec::new();
        wait_until(LIMIT, || {
            let data = self.json("/api/v1/rules").unwrap_or_default();
            let groups = data["groups"].as_array().cloned().unwrap_or_default();
            let of = |group: &Value| group["rules"].as_array().cloned().unwrap_or_default();
            rules = groups.iter().flat_map(of).collect();
            !rules.is_empty() && rules.iter().all(|rule| rule["health"] != "unknown")
        });
        assert!(!rules.is_empty(), "no rules are known");
        let wrong = rules.iter().filter(|rule| rule["health"] != "ok");
        wrong.map(Value::to_string).collect()
    }
}
