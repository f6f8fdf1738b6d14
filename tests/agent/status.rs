//! `weft status` of agents on one node: what it says, and of whom.

use super::node::*;
use serde_json::Value;

fn status(node: &Node, words: &[&str]) -> (Option<i32>, String) {
    node.ask("status", words)
}

/// The one line that it ends with.
fn refusal(node: &Node, words: &[&str], code: i32) -> String {
    let (status, said) = status(node, words);
    assert_eq!(status, Some(code), "{words:?}: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
fn an_agent_tells_what_it_is_doing_also_when_etcd_has_ended() {
    on_node(|node| {
        let said = refusal(node, &[], 1);
        assert!(said.contains("no agent is seen in "), "{said}");
        let said = refusal(node, &["--jsno"], 2);
        assert!(said.contains("--json"), "{said}");
        let mut etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut agent = node.agent("log");
        agent.expect("ready: ");
        let (code, text) = status(node, &[]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.lines().count() <= 20, "{text}");
        for part in ["ready, up ", "192.0.2.1", "flannel.1", "etcd answers"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        etcd.stop().unwrap();
        wait_for("an outage", || {
            status(node, &[]).1.contains("DOES NOT ANSWER")
        });
        let (code, text) = status(node, &["--json"]);
        assert_eq!(code, Some(0), "{text}");
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["ready"], true);
        assert_eq!(json["tunnels"][0]["device"], "flannel.1");
        let name = json["agent"].as_str().unwrap();
        assert!(name.starts_with("/coreos.com/network "), "{name}");
        assert_eq!(agent.stop().0, Some(0));
    });
}

#[test]
fn of_several_agents_each_is_told_or_one_is_chosen() {
    on_node(|node| {
        let _etcd = node.etcd();
        run("etcdctl", &["put", CONFIG_KEY, CONFIG]);
        let mut first = node.agent("log");
        let config = r#"{"Network":"10.6.0.0/16","Backend":{"Type":"host-gw"}}"#;
        run("etcdctl", &["put", "/other/config", config]);
        let other = format!("-subnet-file={}", node.path("other.env").display());
        let mut second = node.agent_with("other.log", &["-etcd-prefix=/other", &other]);
        first.expect("ready: ");
        second.expect("ready: ");
        let (code, text) = status(node, &[]);
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.matches("ready, up ").count(), 2, "{text}");
        assert!(
            text.contains("\n/other ") || text.starts_with("/other "),
            "{text}"
        );
        let (_, text) = status(node, &["--json"]);
        assert_eq!(text.lines().count(), 2, "{text}");
        let (_, text) = status(node, &["--agent=/other "]);
        assert!(text.contains("the kernel carries all packets"), "{text}");
        assert!(!text.contains("flannel.1"), "{text}");
        let said = refusal(node, &["--agent=nobody"], 1);
        assert!(said.contains("none of those that answer"), "{said}");
        for agent in [first, second] {
            assert_eq!(agent.stop().0, Some(0));
        }
    });
}
