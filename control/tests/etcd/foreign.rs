//! What others write into etcd, in the log.

use crate::lab::{Etcd, PREFIX};
use crate::node;
use crate::watch::{Watcher, lease};
use crate::{QUIET, soon};
use std::time::Duration;
use weft_control::subnets::{LeaseEvent, SubnetManager};
use weft_lab::log::Log;

/// Longer than any line that tells of one key.
const LINE_MAX: usize = 700;

/// Wait until the watcher has seen everything that was written so far.
async fn caught_up(etcd: &Etcd, watcher: &mut Watcher) {
    etcd.put("subnets/10.1.8.0-24", &node(8).to_json()).await;
    while !matches!(watcher.next().await, LeaseEvent::Put(_)) {}
}

#[tokio::test]
async fn each_key_that_cannot_be_used_is_warned_of_once() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    let log = Log::start();
    let mut watcher = Watcher::start(etcd.subnets().await, &own);
    watcher.snapshot().await;
    for n in 0..10 {
        etcd.put("subnets/stray", &n.to_string()).await;
        etcd.put("subnets/10.1.6.0-24", &format!("junk {n}")).await;
    }
    etcd.delete("subnets/stray").await;
    caught_up(&etcd, &mut watcher).await;
    let ignored = |line: &String| line.contains("ignoring");
    let lines: Vec<String> = log.lines().into_iter().filter(ignored).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let stray = format!("ignoring etcd key \"{PREFIX}/subnets/stray\": it names no subnet");
    assert!(lines.iter().any(|line| line.ends_with(&stray)), "{lines:?}");
    let value = "ignoring the value of lease 10.1.6.0-24 in etcd: ";
    assert!(lines.iter().any(|line| line.contains(value)), "{lines:?}");
}

#[tokio::test]
async fn keys_and_values_of_any_content_are_one_short_line_each() {
    let etcd = Etcd::start().await;
    let own = lease(&etcd.subnets().await, 5).await;
    let log = Log::start();
    let mut watcher = Watcher::start(etcd.subnets().await, &own);
    watcher.snapshot().await;
    let forged = "\n2026-01-01T00:00:00Z  INFO ready\r\u{1b}[2J\u{202e}\u{2028}";
    let keys = [
        forged.as_bytes().to_vec(),
        b"\xff\xfe\x80".to_vec(),
        "k".repeat(1 << 20).into_bytes(),
    ];
    let mut client = etcd.client().await;
    for key in &keys {
        let path = [format!("{PREFIX}/subnets/").as_bytes(), key].concat();
        client.put(path, "x", None).await.unwrap();
    }
    let values = [
        format!(
            "{{\"PublicIP\":{}}}",
            serde_json::to_string(forged).unwrap()
        )
        .into_bytes(),
        b"\xff\xfe".to_vec(),
        format!("{{\"PublicIP\":\"{}\"}}", "9".repeat(1 << 20)).into_bytes(),
        forged.as_bytes().to_vec(),
    ];
    for (n, value) in values.iter().enumerate() {
        let path = format!("{PREFIX}/subnets/10.1.{}.0-24", 10 + n);
        client.put(path, value.clone(), None).await.unwrap();
    }
    caught_up(&etcd, &mut watcher).await;
    let lines = log.lines();
    assert_eq!(lines.len(), keys.len() + values.len(), "{lines:?}");
    for line in &lines {
        assert!(line.starts_with("WARN ignoring "), "{line}");
        assert!(line.len() < LINE_MAX, "{}: {line:.200}", line.len());
        let plain = |c: char| !c.is_control() && c != '\u{202e}' && c != '\u{2028}';
        assert!(line.chars().all(plain), "{line:?}");
    }
}

#[tokio::test]
async fn a_twin_with_a_long_backend_type_is_one_short_line() {
    let etcd = Etcd::start().await;
    let subnets = etcd.subnets().await;
    let own = lease(&subnets, 5).await;
    let log = Log::start();
    let mut twin = node(5);
    twin.backend_data = None;
    twin.backend_type = format!("\nERROR {}", "x".repeat(1 << 20));
    let key = format!("subnets/{}", own.key());
    let written = soon("a line", async {
        etcd.put(&key, &twin.to_json()).await;
        while !log
            .lines()
            .iter()
            .any(|line| line.contains("somebody else"))
        {
            tokio::time::sleep(QUIET / 10).await;
        }
    });
    tokio::select! {
        end = subnets.keep(own.clone(), Duration::from_secs(3600)) => panic!("{end}"),
        () = written => {}
    }
    let lines = log.lines();
    assert!(
        lines
            .iter()
            .all(|line| line.len() < LINE_MAX && !line.starts_with("ERROR"))
    );
}
