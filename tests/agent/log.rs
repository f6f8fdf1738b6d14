//! The log as programs read it: JSON, and codes that `weft explain` knows.

use crate::node::*;
use serde_json::Value;
use std::process::{Command, Output};

fn weft(words: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(WEFT);
    command.args(words).envs(variables.iter().copied());
    command.output().unwrap()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A line of the log, which must be an object with what each line has.
fn object(line: &str) -> Value {
    let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    for key in ["time", "level", "target", "message"] {
        assert!(object[key].is_string(), "no {key}: {line}");
    }
    object
}

/// What `weft explain` says of the code of a line.
fn explained(line: &Value) -> String {
    let code = line["code"].as_str().unwrap();
    let output = weft(&["explain", code], &[]);
    let told = text(output.stdout);
    assert!(output.status.success(), "{code}: {told}");
    assert!(told.starts_with(code), "{told}");
    assert!(
        told.contains("\ncause:") && told.contains("\nremedy:"),
        "{told}"
    );
    told
}

#[test]
fn every_line_is_an_object_and_warnings_have_a_code_that_weft_explains() {
    on_node(|node| {
        let mut agent = node.agent_with("log", &["--log-format", "json", "-v=1"]);
        let line = object(&agent.expect("etcd unreachable"));
        assert_eq!(
            (&line["level"], &line["code"]),
            (&"WARN".into(), &"W0201".into())
        );
        assert!(
            line["message"]
                .as_str()
                .unwrap()
                .starts_with("etcd unreachable: ")
        );
        assert!(explained(&line).contains("etcd unreachable"), "{line}");
        let (status, log) = agent.stop();
        assert_eq!(status, Some(0), "{log}");
        let lines: Vec<Value> = log.lines().map(object).collect();
        assert!(lines.iter().any(|line| line["level"] == "INFO"), "{log}");
        for line in lines.iter().filter(|line| line["level"] == "WARN") {
            explained(line);
        }
    });
}

#[test]
fn an_agent_that_ends_by_itself_says_why_with_a_code() {
    on_node(|node| {
        let flags = ["-log-format=json", "-iface=nowhere"];
        let mut command = node.command_without_iface();
        command.args(flags);
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = Process::spawn(command, node.path("log"));
        assert_eq!(agent.wait().code(), Some(1));
        let log = agent.log();
        let last = object(log.lines().last().unwrap());
        assert_eq!(
            (&last["level"], &last["code"]),
            (&"ERROR".into(), &"W0402".into())
        );
        assert!(explained(&last).contains("no usable interface"), "{last}");
    });
}

#[test]
fn a_wrong_command_line_is_refused_with_a_code_and_in_the_form_of_the_log() {
    let told = "unknown flag -ifacee";
    let refused = |words: &[&str], variables: &[(&str, &str)]| {
        let output = weft(words, variables);
        let line = text(output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains(told), "{line}");
        line
    };
    let line = refused(&["agent", "-ifacee=eth0"], &[]);
    assert!(
        line.starts_with(&format!("weft agent: W0101 {told}")),
        "{line}"
    );
    for words in [
        &["agent", "-ifacee=eth0", "-log-format=json"][..],
        &["agent", "--log-format", "json", "-ifacee=eth0"],
        &["agent", "-log-format=text", "-log-format=json", "-ifacee"],
    ] {
        let line = object(&refused(words, &[]));
        assert_eq!(
            (&line["level"], &line["code"]),
            (&"ERROR".into(), &"W0101".into())
        );
        explained(&line);
    }
    let json = [("FLANNELD_LOG_FORMAT", "json")];
    object(&refused(&["agent", "-ifacee=eth0"], &json));
    let line = refused(&["agent", "-log-format=text", "-ifacee"], &json);
    assert!(line.starts_with("weft agent: W0101 "), "{line}");
}

#[test]
fn a_format_that_is_none_is_refused() {
    let output = weft(&["agent", "-log-format=xml"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let line = text(output.stderr);
    assert!(line.contains("-log-format: must be text or json"), "{line}");
}

#[test]
fn weft_explain_lists_all_codes_and_refuses_others() {
    let output = weft(&["explain"], &[]);
    let list = text(output.stdout);
    assert!(
        list.lines().count() > 100 && list.contains("\nW0201  etcd unreachable"),
        "{list}"
    );
    let output = weft(&["explain", "w0201", "W0601"], &[]);
    let told = text(output.stdout);
    assert!(
        told.starts_with("W0201\n") && told.contains("\n\nW0601\n"),
        "{told}"
    );
    let output = weft(&["explain", "W0202x"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let line = text(output.stderr);
    assert!(
        line.contains("did you mean W0202?") && line.lines().count() == 1,
        "{line}"
    );
    assert!(output.stdout.is_empty());
}
