//! The server over TLS, as a client sees it that tests read byte by byte.

mod client;
mod faults;
mod lists;
mod objects;
mod users;
mod watches;

use super::*;
use crate::kube::{Refusal, USER, nodes};
use client::{Client, Next};
use serde_json::Value;
use std::fs;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

const NODES: &str = "/api/v1/nodes";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn start() -> ApiServer {
    ApiServer::start(ApiOptions::default()).unwrap()
}

/// A server with nodes of these names.
fn with_nodes(names: &[&str]) -> ApiServer {
    let server = start();
    for name in names {
        server.put_node(json!({"metadata": {"name": name}}));
    }
    server
}

/// Names of the objects of a list.
fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[test]
fn five_thousand_nodes_are_listed_and_stay_through_an_outage() {
    let mut server = start();
    for number in 0..5000 {
        let network = format!("10.{}.{}.0/24", number / 256, number % 256);
        server.put_node(nodes::realistic(&format!("n{number}"), &[&network]));
    }
    let list = Client::admin(&server).get(NODES).json();
    assert_eq!(names(&list).len(), 5000);
    let version = server.version();
    server.stop();
    assert!(std::net::TcpStream::connect(server.address()).is_err());
    server.start_again().unwrap();
    server.start_again().unwrap();
    let list = Client::admin(&server).get("/api/v1/nodes?limit=1").json();
    assert_eq!(list["metadata"]["resourceVersion"], version.to_string());
    assert_eq!(list["metadata"]["remainingItemCount"], 4999);
}

#[test]
fn a_server_may_live_in_a_namespace_of_its_own() {
    crate::isolated(|| {
        crate::ip("link set lo up").unwrap();
        let usual = ([127, 0, 0, 1], 6443).into();
        let options = ApiOptions {
            address: usual,
            ..ApiOptions::default()
        };
        let mut server = ApiServer::start(options).unwrap();
        server.stop();
        server.start_again().unwrap();
        assert_eq!(Client::nobody(&server).get("/readyz").code, 200);
    });
}

#[test]
fn a_port_in_use_is_one_line() {
    let server = start();
    let options = ApiOptions {
        address: server.address(),
        ..ApiOptions::default()
    };
    let error = ApiServer::start(options).err().unwrap().to_string();
    let expected = format!(
        "cannot listen on {}: Address already in use",
        server.address()
    );
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn discovery_says_what_there_is() {
    let server = start();
    server.declare("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor");
    let admin = Client::admin(&server);
    let groups = admin.get("/apis").json();
    let groups = groups["groups"].as_array().unwrap().iter();
    let groups: Vec<&str> = groups
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert!(
        groups.contains(&"apps") && groups.contains(&"monitoring.coreos.com"),
        "{groups:?}"
    );
    let kinds = admin.get("/apis/monitoring.coreos.com/v1").json();
    assert_eq!(kinds["resources"][0]["kind"], "PodMonitor");
    assert_eq!(admin.get("/version").json()["minor"], "34");
    for path in [
        "/apis/nowhere",
        "/apis/apps/v9",
        "/metrics",
        "/openapi/v3/apis/apps/v9",
    ] {
        assert_eq!(admin.get(path).code, 404, "{path}");
    }
}
