//! Answers, and who does not hold up others.

use super::*;
use crate::status::NodeStatus;
use std::net::Ipv4Addr;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn start(address: &str) -> (HealthServer, Readiness) {
    let ready = Readiness::default();
    let health = HealthServer::start(address, ready.clone()).await;
    (health.unwrap(), ready)
}

async fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().to_owned();
    (status, body.to_owned())
}

#[tokio::test]
async fn paths_have_flannelds_answers() {
    // Where nobody else takes the port when it is free again.
    let (health, ready) = start("127.0.0.2:0").await;
    let at = health.address();
    let expect = async |path, status: &str, body: &str| {
        let expected = (format!("HTTP/1.1 {status}"), body.to_owned());
        assert_eq!(get(at, path).await, expected, "{path}");
    };
    expect("/healthz", "200 OK", "flanneld is running").await;
    let not_yet = "503 Service Unavailable";
    expect("/readyz", not_yet, "flanneld is not ready yet").await;
    ready.set(true);
    expect("/readyz", "200 OK", "flanneld is ready").await;
    expect("/readyz?verbose", "200 OK", "flanneld is ready").await;
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    ready.remember(Some(hour_ago), "etcd");
    let aged = "flanneld is ready, by what it knew 1h00m ago: etcd has not answered yet";
    expect("/readyz", "200 OK", aged).await;
    expect("/healthz", "200 OK", "flanneld is running").await;
    ready.set(false);
    expect("/readyz", not_yet, "flanneld is not ready yet").await;
    ready.set(true);
    ready.remember(None, "etcd");
    expect("/readyz", "200 OK", "flanneld is ready").await;
    for path in ["/", "/metric", "/metrics/", "/healthz/"] {
        expect(path, "404 Not Found", "404 page not found\n").await;
    }
    health.stop().await;
    assert!(TcpStream::connect(at).await.is_err(), "no longer there");
}

#[tokio::test]
async fn unspecified_means_both_families() {
    let (health, _) = start("0.0.0.0:0").await;
    for host in ["127.0.0.1", "::1"] {
        let at = SocketAddr::new(host.parse().unwrap(), health.address().port());
        assert_eq!(get(at, "/healthz").await.1, "flanneld is running", "{host}");
    }
    health.stop().await;
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let (health, _) = start("localhost:0").await;
    assert_eq!(health.address().ip(), Ipv4Addr::LOCALHOST);
    health.stop().await;
    let unknown = "nowhere.invalid:8471";
    let Err(error) = HealthServer::start(unknown, Readiness::default()).await else {
        panic!("listens");
    };
    let error = error.to_string();
    assert!(error.starts_with("cannot serve /healthz on nowhere.invalid:8471: "));
    assert!(
        error.ends_with("-healthz-port") && !error.contains('\n'),
        "{error}"
    );
}

#[tokio::test]
async fn a_port_in_use_is_one_line() {
    let (health, ready) = start("127.0.0.1:0").await;
    let address = health.address().to_string();
    let Err(error) = HealthServer::start(&address, ready).await else {
        panic!("listens twice");
    };
    let port = health.address().port();
    let start = format!("cannot serve /healthz on 127.0.0.1:{port}: Address already in use");
    let error = error.to_string();
    assert!(
        error.starts_with(&start) && error.contains("-healthz-port"),
        "{error}"
    );
    health.stop().await;
}

#[tokio::test]
async fn garbage_and_silence_do_not_hold_up_others() {
    let (health, _) = start("127.0.0.1:0").await;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS - 1 {
        silent.push(TcpStream::connect(health.address()).await.unwrap());
    }
    let mut garbage = TcpStream::connect(health.address()).await.unwrap();
    garbage.write_all(b"\0\xff\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    garbage.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(
        get(health.address(), "/healthz").await.1,
        "flanneld is running"
    );
    health.stop().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_others() {
    let (health, _) = start("127.0.0.1:0").await;
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        idle.push(TcpStream::connect(health.address()).await.unwrap());
    }
    let (_, body) = get(health.address(), "/healthz").await;
    assert_eq!(body, "flanneld is running");
    // The answer did not wait for their time to be over: the youngest are still open.
    let mut byte = [0];
    let youngest = idle.pop().unwrap().try_read(&mut byte).unwrap_err();
    assert_eq!(youngest.kind(), io::ErrorKind::WouldBlock);
    let oldest = idle[0].read(&mut byte).await;
    assert_eq!(oldest.unwrap(), 0, "closed");
    health.stop().await;
}

#[test]
fn connections_leave_most_open_files_to_others() {
    for (files, most) in [(u64::MAX, 64), (1024, 64), (64, 16), (3, 1)] {
        assert_eq!(connections(files), most, "{files}");
    }
}

#[tokio::test]
async fn an_answer_ends_the_connection() {
    let (health, _) = start("127.0.0.1:0").await;
    let mut stream = TcpStream::connect(health.address()).await.unwrap();
    let request = b"GET /healthz HTTP/1.1\r\nHost: weft\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.contains("connection: close"), "{text}");
    health.stop().await;
}

#[tokio::test]
async fn a_stop_waits_for_an_open_request_but_not_for_ever() {
    let (health, _) = start("127.0.0.1:0").await;
    let mut slow = TcpStream::connect(health.address()).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost:")
        .await
        .unwrap();
    // The server has seen it once it answers somebody who came later.
    get(health.address(), "/healthz").await;
    let begun = Instant::now();
    health.stop().await;
    let time = begun.elapsed();
    assert!(time >= STOP_TIME && time < STOP_TIME * 3, "{time:?}");
}

/// Everything that the server says to these lines.
async fn exchange(address: SocketAddr, lines: &[&str]) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{}\r\n\r\n", lines.join("\r\n"));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// A node that answers each question.
fn node(ready: Readiness) -> JoinHandle<()> {
    let status = NodeStatus {
        version: "0.1.0".to_owned(),
        peers: 7,
        ..NodeStatus::default()
    };
    tokio::spawn(async move {
        loop {
            ready.asked().await.answer(status.clone());
        }
    })
}

#[tokio::test]
async fn metrics_come_in_the_form_that_is_asked_for() {
    let (health, ready) = start("127.0.0.1:0").await;
    let node = node(ready);
    let prometheus = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    for (request, accept, kind, end) in [
        (
            "GET /metrics",
            "Accept: */*",
            "text/plain; version=0.0.4",
            false,
        ),
        (
            "GET /metrics?name=x",
            "X: y",
            "text/plain; version=0.0.4",
            false,
        ),
        (
            "GET /metrics",
            prometheus,
            "application/openmetrics-text; version=1.0.0",
            true,
        ),
    ] {
        let line = format!("{request} HTTP/1.1");
        let (head, body) = exchange(health.address(), &[&line, "Host: weft", accept]).await;
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains(&format!("content-type: {kind}")), "{head}");
        assert!(body.contains("\nweft_peers 7\n"), "{body}");
        assert_eq!(body.ends_with("\n# EOF\n"), end, "{accept}");
    }
    let head_only = ["HEAD /metrics HTTP/1.1", "Host: weft"];
    let (head, body) = exchange(health.address(), &head_only).await;
    assert!(
        head.starts_with("http/1.1 200 ") && body.is_empty(),
        "{head}"
    );
    node.abort();
    health.stop().await;
}

#[tokio::test]
async fn other_methods_are_told_the_right_ones() {
    let (health, _ready) = start("127.0.0.1:0").await;
    for method in ["POST", "DELETE", "BREW"] {
        let line = format!("{method} /metrics HTTP/1.1");
        let lines = [line.as_str(), "Host: weft", "Content-Length: 0"];
        let (head, body) = exchange(health.address(), &lines).await;
        assert!(head.starts_with("http/1.1 405 "), "{head}");
        assert!(head.contains("allow: get, head"), "{head}");
        assert_eq!(body.lines().count(), 1, "{body}");
    }
    health.stop().await;
}

#[tokio::test]
async fn a_node_that_ends_meanwhile_is_one_line() {
    let (health, ready) = start("127.0.0.1:0").await;
    let ended = tokio::spawn(async move { drop(ready.asked().await) });
    let (status, body) = get(health.address(), "/metrics").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(body, "503 the agent is ending\n");
    ended.await.unwrap();
    health.stop().await;
}

#[tokio::test]
async fn a_thousand_idle_connections_keep_nobody_from_the_metrics() {
    open_files::raise_limit();
    let (health, ready) = start("127.0.0.1:0").await;
    let node = node(ready);
    let mut idle = Vec::new();
    for _ in 0..1000 {
        idle.push(TcpStream::connect(health.address()).await.unwrap());
    }
    let (status, body) = get(health.address(), "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("\nweft_peers 7\n"), "{body}");
    node.abort();
    health.stop().await;
}
