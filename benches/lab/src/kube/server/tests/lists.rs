//! Pages, versions, and what is too old.

use super::*;

fn page(client: &Client, token: &Value) -> client::Answer {
    let token = token.as_str().unwrap_or_default();
    client.get(&format!("{NODES}?limit=2&continue={token}"))
}

#[test]
fn all_pages_are_of_the_version_of_the_first() {
    let server = with_nodes(&["a", "b", "c", "d", "e"]);
    let client = Client::new(&server, &server.token());
    let version = server.version().to_string();
    let first = page(&client, &Value::Null).json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete_node("d");
    server.put_node(json!({"metadata": {"name": "c2"}}));
    server.annotate_node("e", "late", Some("1"));
    let second = page(&client, &first["metadata"]["continue"]).json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], version);
    let last = page(&client, &second["metadata"]["continue"]).json();
    assert_eq!(names(&last), ["e"]);
    assert_eq!(last["items"][0]["metadata"].get("annotations"), None);
    assert_eq!(last["metadata"].get("continue"), None);
    assert_eq!(names(&client.get(NODES).json()), ["a", "b", "c", "c2", "e"]);
}

#[test]
fn a_token_of_a_forgotten_version_is_410_and_comes_with_another() {
    let server = with_nodes(&["a", "b", "c"]);
    let client = Client::admin(&server);
    let first = page(&client, &Value::Null).json();
    server.delete_node("c");
    server.put_node(json!({"metadata": {"name": "d"}}));
    server.forget_history();
    let refused = page(&client, &first["metadata"]["continue"]);
    assert_eq!(refused.code, 410);
    assert!(
        refused
            .message()
            .starts_with("The provided continue parameter is too old")
    );
    let refused = refused.json();
    assert_eq!(refused["reason"], "Expired");
    let rest = page(&client, &refused["metadata"]["continue"]).json();
    assert_eq!(names(&rest), ["d"], "as it is by then");
    assert_eq!(page(&client, &"nonsense".into()).code, 400);
    let both = client.get(&format!("{NODES}?limit=1&continue=x&resourceVersion=1"));
    assert!(
        both.message().contains("not allowed when using continue"),
        "{both:?}"
    );
}

#[test]
fn lists_of_a_version_are_exact_or_not_older() {
    let server = with_nodes(&["a"]);
    let client = Client::admin(&server);
    let old = server.version();
    server.put_node(json!({"metadata": {"name": "b"}}));
    let list = |query: &str| client.get(&format!("{NODES}?{query}"));
    let exact = list(&format!("resourceVersion={old}&resourceVersionMatch=Exact")).json();
    assert_eq!(names(&exact), ["a"]);
    for newer in [
        format!("resourceVersion={old}"),
        format!("resourceVersion={old}&resourceVersionMatch=NotOlderThan"),
        "resourceVersion=0".to_owned(),
    ] {
        assert_eq!(names(&list(&newer).json()), ["a", "b"], "{newer}");
    }
    let early = list(&format!("resourceVersion={}", server.version() + 1));
    assert_eq!(early.code, 504);
    assert_eq!(
        early.json()["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
    assert!(
        early.head.to_lowercase().contains("\r\nretry-after: 1\r\n"),
        "{early:?}"
    );
    assert_eq!(
        names(&list("resourceVersion=0&limit=1").json()),
        ["a", "b"],
        "a cache has no pages"
    );
    server.forget_history();
    let late = list(&format!("resourceVersion={old}&resourceVersionMatch=Exact"));
    assert_eq!(
        (late.code, late.json()["reason"].clone()),
        (410, "Expired".into())
    );
    for wrong in [
        "resourceVersionMatch=Exact",
        "resourceVersion=0&resourceVersionMatch=Exact",
        "resourceVersion=1&resourceVersionMatch=Some",
        "sendInitialEvents=true",
    ] {
        let refused = list(wrong);
        assert_eq!(refused.code, 422, "{wrong}");
        assert!(
            refused
                .message()
                .starts_with("ListOptions.meta.k8s.io \"\" is invalid: "),
            "{wrong}"
        );
    }
    assert_eq!(list("resourceVersion=x").code, 400);
}

#[test]
fn items_say_their_kind_only_where_real_servers_do() {
    let server = with_nodes(&["a"]);
    server.declare("example.org", "v1", "things", "Thing");
    server.put(
        "things.example.org",
        json!({"metadata": {"name": "t", "namespace": "default"}}),
    );
    let client = Client::admin(&server);
    assert_eq!(client.get(NODES).json()["items"][0].get("kind"), None);
    let things = client.get("/apis/example.org/v1/things").json();
    assert_eq!(
        (&things["kind"], &things["items"][0]["kind"]),
        (&"ThingList".into(), &"Thing".into())
    );
    let node = client.get("/api/v1/nodes/a").json();
    assert_eq!(
        (&node["kind"], &node["apiVersion"]),
        (&"Node".into(), &"v1".into())
    );
}

#[test]
fn selectors_narrow_lists_and_leave_no_count_of_the_rest() {
    let server = with_nodes(&[]);
    for (name, zone) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")] {
        server.put_node(json!({"metadata": {"name": name, "labels": {"zone": zone}}}));
    }
    let client = Client::admin(&server);
    let first = client
        .get(&format!("{NODES}?labelSelector=zone%3Dx&limit=2"))
        .json();
    assert_eq!(names(&first), ["a", "c"]);
    assert_eq!(first["metadata"].get("remainingItemCount"), None);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let rest = client
        .get(&format!(
            "{NODES}?labelSelector=zone%3Dx&limit=2&continue={token}"
        ))
        .json();
    assert_eq!(names(&rest), ["d"]);
    let one = client
        .get(&format!("{NODES}?fieldSelector=metadata.name%3Db"))
        .json();
    assert_eq!(names(&one), ["b"]);
}
