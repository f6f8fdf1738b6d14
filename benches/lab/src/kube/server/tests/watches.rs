//! What watches begin with, go on with, and end by.

use super::*;
use crate::kube::StreamingLists;

fn label(server: &ApiServer, node: &str, zone: &str) {
    server.change_node(node, |node| {
        node["metadata"]["labels"]["zone"] = zone.into()
    });
}

#[test]
fn a_watch_goes_on_from_any_version_that_is_known() {
    let server = with_nodes(&["a"]);
    let client = Client::new(&server, &server.token());
    let begin = server.version();
    let middle = server.put_node(json!({"metadata": {"name": "b"}}));
    server.heartbeat("a");
    server.annotate_node("a", "x", Some("1"));
    server.delete_node("b");
    let mut watch = client.watch(&format!("resourceVersion={begin}"));
    let events: Vec<Value> = (0..3).map(|_| watch.event()).collect();
    let versions = events
        .iter()
        .map(|event| &event["object"]["metadata"]["resourceVersion"]);
    let versions: Vec<u64> = versions
        .map(|version| version.as_str().unwrap().parse().unwrap())
        .collect();
    assert!(
        versions.is_sorted() && versions[0] == middle && versions[2] == server.version(),
        "{versions:?}"
    );
    let kinds: Vec<&str> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"]);
    assert_eq!(events[2]["object"]["kind"], "Node");
    let mut rest = client.watch(&format!("resourceVersion={middle}"));
    assert_eq!(rest.seen(), "MODIFIED a");
    assert_eq!(rest.seen(), "DELETED b");
    server.put_node(json!({"metadata": {"name": "c"}}));
    assert_eq!(rest.seen(), "ADDED c", "and what comes later");
    for all in ["", "resourceVersion=0"] {
        let mut watch = client.watch(all);
        assert_eq!(
            (watch.seen(), watch.seen()),
            ("ADDED a".into(), "ADDED c".into()),
            "{all}"
        );
    }
}

#[test]
fn a_version_that_is_forgotten_is_an_event_of_an_error() {
    let server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let old = server.version();
    let mut running = client.watch(&format!("resourceVersion={old}"));
    let latest = server.annotate_node("a", "x", Some("1"));
    assert_eq!(running.seen(), "MODIFIED a");
    server.forget_history();
    let mut late = client.watch(&format!("resourceVersion={old}"));
    let event = late.event();
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&"Status".into(), &410.into(), &"Expired".into())
    );
    assert_eq!(
        status["message"],
        format!("too old resource version: {old} ({latest})")
    );
    assert_eq!(late.next(), Next::End);
    server.heartbeat("a");
    server.annotate_node("a", "x", None);
    assert_eq!(
        running.seen(),
        "MODIFIED a",
        "who has read everything needs no history"
    );
}

#[test]
fn a_selector_makes_changes_come_and_go() {
    let server = with_nodes(&["a", "b"]);
    let client = Client::admin(&server);
    let mut watch = client.watch(&format!(
        "resourceVersion={}&labelSelector=zone%3Dx",
        server.version()
    ));
    let mut of_b = client.watch(&format!(
        "resourceVersion={}&fieldSelector=metadata.name%3Db",
        server.version()
    ));
    label(&server, "a", "x");
    label(&server, "b", "y");
    server.annotate_node("a", "n", Some("1"));
    label(&server, "a", "y");
    server.delete_node("a");
    label(&server, "b", "x");
    let seen: Vec<String> = (0..4).map(|_| watch.seen()).collect();
    assert_eq!(seen, ["ADDED a", "MODIFIED a", "DELETED a", "ADDED b"]);
    assert_eq!(
        (of_b.seen(), of_b.seen()),
        ("MODIFIED b".into(), "MODIFIED b".into())
    );
}

#[test]
fn a_streaming_list_ends_with_a_bookmark_and_goes_on() {
    let server = with_nodes(&["a", "b"]);
    let client = Client::new(&server, &server.token());
    let query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion=";
    let version = server.version();
    let mut watch = client.watch(query);
    assert_eq!(
        (watch.seen(), watch.seen()),
        ("ADDED a".into(), "ADDED b".into())
    );
    let end = watch.event();
    assert_eq!(end["type"], "BOOKMARK");
    let metadata = &end["object"]["metadata"];
    assert_eq!(metadata["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!(metadata["resourceVersion"], version.to_string());
    server.delete_node("b");
    assert_eq!(watch.seen(), "DELETED b");
    server.send_bookmarks();
    let later = watch.event();
    assert_eq!(
        later["object"]["metadata"]["resourceVersion"],
        (version + 1).to_string()
    );
    assert_eq!(later["object"]["metadata"].get("annotations"), None);
    assert_eq!(later["object"]["kind"], "Node");
}

#[test]
fn only_who_wants_bookmarks_is_told_of_the_end_of_a_list() {
    let server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    let mut silent = client.watch(list);
    assert_eq!(silent.seen(), "ADDED a");
    assert_eq!(silent.next(), Next::End);
    let mut unsaid = client.watch("allowWatchBookmarks=true");
    assert_eq!(unsaid.seen(), "ADDED a");
    assert_eq!(
        unsaid.seen(),
        "BOOKMARK ",
        "servers that know streaming lists make it one"
    );
    server.set_streaming_lists(StreamingLists::TurnedOff);
    let mut unsaid = client.watch("allowWatchBookmarks=true&timeoutSeconds=1");
    assert_eq!(unsaid.seen(), "ADDED a");
    assert_eq!(unsaid.next(), Next::End);
    let none = "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&timeoutSeconds=1";
    server.set_streaming_lists(StreamingLists::Served);
    assert_eq!(client.watch(none).next(), Next::End);
}

#[test]
fn servers_without_streaming_lists_say_so_as_real_ones() {
    let server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let refused = |query: &str| {
        let answer = client.get(&format!("{NODES}?watch=1&{query}"));
        assert_eq!(answer.code, 422, "{query}");
        answer
            .message()
            .split_once("is invalid: ")
            .unwrap()
            .1
            .to_owned()
    };
    let list = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    assert!(
        refused("sendInitialEvents=true")
            .contains("requires setting resourceVersionMatch to NotOlderThan")
    );
    server.set_streaming_lists(StreamingLists::TurnedOff);
    assert_eq!(
        refused(list),
        "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
    );
    server.set_streaming_lists(StreamingLists::Unknown);
    assert_eq!(
        refused(list),
        "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch"
    );
    assert_eq!(client.watch("").seen(), "ADDED a");
}

#[test]
fn watches_end_in_order_and_break_in_the_middle() {
    let server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let mut watch = client.watch("timeoutSeconds=1");
    assert_eq!(watch.seen(), "ADDED a");
    assert_eq!(watch.next(), Next::End, "its time is over");
    let mut watch = client.watch("");
    assert_eq!(watch.seen(), "ADDED a");
    server.end_watches();
    assert_eq!(watch.next(), Next::End);
    let mut watch = client.watch("");
    assert_eq!(watch.seen(), "ADDED a");
    server.break_watches();
    let Next::Broken(half) = watch.next() else {
        panic!("goes on");
    };
    assert!(half.starts_with(r#"{"type":"MODIFIED""#), "{half}");
}

#[test]
fn silent_watches_send_what_they_missed_when_they_may() {
    let server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let mut silent = client.watch("");
    assert_eq!(silent.seen(), "ADDED a");
    server.silence_watches(true);
    server.annotate_node("a", "x", Some("1"));
    let mut other = client.watch("timeoutSeconds=1");
    assert_eq!(other.seen(), "ADDED a");
    assert_eq!(other.next(), Next::End);
    server.silence_watches(false);
    let event = silent.event();
    assert_eq!(event["object"]["metadata"]["annotations"]["x"], "1");
}

#[test]
fn an_outage_breaks_watches() {
    let mut server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let mut watch = client.watch("");
    assert_eq!(watch.seen(), "ADDED a");
    let version = server.version();
    server.stop();
    assert_eq!(watch.next(), Next::Broken(String::new()));
    server.put_node(json!({"metadata": {"name": "b"}}));
    server.start_again().unwrap();
    assert_eq!(
        client.watch(&format!("resourceVersion={version}")).seen(),
        "ADDED b"
    );
}

#[test]
fn bookmarks_come_by_themselves_to_those_who_want_them() {
    let options = ApiOptions {
        bookmark_interval: Duration::from_millis(20),
        ..ApiOptions::default()
    };
    let server = ApiServer::start(options).unwrap();
    let client = Client::admin(&server);
    let query = format!("resourceVersion={}", server.version());
    let mut watch = client.watch(&format!("{query}&allowWatchBookmarks=true"));
    assert_eq!(watch.seen(), "BOOKMARK ");
    let mut other = client.watch(&format!("{query}&timeoutSeconds=1"));
    assert_eq!(other.next(), Next::End);
}
