//! Faults on demand.

use super::*;
use std::time::Instant;

#[test]
fn so_many_requests_are_refused_and_no_more() {
    let server = with_nodes(&["n"]);
    let client = Client::admin(&server);
    server.refuse(2, Refusal::TooManyRequests(7));
    assert_eq!(
        client.get("/readyz").code,
        200,
        "only requests for objects are"
    );
    for _ in 0..2 {
        let refused = client.get(NODES);
        assert_eq!(refused.code, 429);
        assert!(
            refused
                .head
                .to_lowercase()
                .contains("\r\nretry-after: 7\r\n"),
            "{refused:?}"
        );
        assert_eq!(refused.body, "Too many requests, please try again later.\n");
    }
    assert_eq!(client.get(NODES).code, 200);
    for (refusal, code) in [(Refusal::Unavailable, 503), (Refusal::Internal, 500)] {
        server.refuse(1, refusal);
        let refused = client.get(NODES);
        assert_eq!(refused.code, code);
        assert_eq!(refused.json()["status"], "Failure");
    }
}

#[test]
fn answers_wait_as_long_as_they_are_told() {
    let server = with_nodes(&["n"]);
    let client = Client::admin(&server);
    let delay = Duration::from_millis(200);
    server.delay(delay);
    let begun = Instant::now();
    assert_eq!(client.get(NODES).code, 200);
    assert!(begun.elapsed() >= delay);
    server.delay(Duration::ZERO);
    assert_eq!(client.get(NODES).code, 200);
}

#[test]
fn heartbeats_change_times_alone_and_always() {
    let server = start();
    server.put_node(nodes::realistic("n", &["10.244.0.0/24"]));
    let before = server.node("n").unwrap();
    let first = server.heartbeat("n");
    assert_eq!(server.heartbeat("n"), first + 1);
    let after = server.node("n").unwrap();
    assert_ne!(
        before["status"]["conditions"],
        after["status"]["conditions"]
    );
    assert_eq!(before["status"]["images"], after["status"]["images"]);
    assert_eq!(before["spec"], after["spec"]);
    let fits = |node: &Value| nodes::annotation(node, "x") == Some("1");
    assert!(!server.wait_for_node("n", Duration::ZERO, fits));
    server.annotate_node("n", "x", Some("1"));
    assert!(server.wait_for_node("n", Duration::ZERO, fits));
}
