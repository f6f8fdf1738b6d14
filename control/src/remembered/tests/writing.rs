//! The file: what is written, and what cannot be read.

use super::*;
use std::fs;

#[tokio::test]
async fn what_the_store_says_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let memory = stored(&state_file(&dir)).unwrap();
    assert_eq!((memory.own.key, memory.own.revision), (key(1), 5));
    assert_eq!(memory.config, CONFIG);
    let left = memory.own.ends.unwrap() - Clock::read().now;
    assert!((86_300..=86_401).contains(&left), "{left}");
    assert_eq!(
        memory.peers.keys().copied().collect::<Vec<_>>(),
        [key(2), key(3)]
    );
    assert!(Clock::read().now - memory.written < 60);
}

#[tokio::test]
async fn changes_are_written_and_the_last_ones_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let mut node = Node::start(&manager).await;
    let path = state_file(&dir);
    node.follow(&manager, |_| path.exists()).await;
    // Within the pause between two writes.
    let mut told = false;
    let seen = |events: &[LeaseEvent]| {
        if !std::mem::replace(&mut told, true) {
            let gone = LeaseEvent::Delete(key(2));
            manager.inner.later.send_replace(Some(gone));
        }
        events.contains(&LeaseEvent::Delete(key(2)))
    };
    node.follow(&manager, seen).await;
    manager.close().await;
    let keys: Vec<SubnetKey> = stored(&path).unwrap().peers.keys().copied().collect();
    assert_eq!(keys, [key(3)]);
    // Nothing has changed since: not even the file's time.
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    manager.close().await;
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
}

#[tokio::test]
async fn what_was_remembered_of_another_network_or_is_broken_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let path = state_file(&dir);
    let whole = fs::read(&path).unwrap();
    let is_used = |options: &RememberedOptions| {
        let manager = Remembered::new(Fake::silent(), options);
        manager.state().memory.is_some()
    };
    assert!(is_used(&options(&dir)));
    let other = RememberedOptions {
        prefix: "/other/".to_owned(),
        ..options(&dir)
    };
    assert!(!is_used(&other), "a file of its own");
    fs::copy(&path, dir.path().join("net-other.state")).unwrap();
    assert!(!is_used(&other), "which says whose it is");
    for len in [0, 1, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..len]).unwrap();
        assert!(!is_used(&options(&dir)), "{len} bytes");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(!is_used(&options(&dir)));
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_costs_only_the_memory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(state_file(&dir)).unwrap();
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let mut node = Node::start(&manager).await;
    node.follow(&manager, |events| !events.is_empty()).await;
    manager.close().await;
    fs::remove_dir(state_file(&dir)).unwrap();
    manager.close().await;
    assert_eq!(stored(&state_file(&dir)).unwrap().own.key, key(1));
}

/// What 10,000 leases cost the thread that also answers health checks; printed, since it depends
/// on the machine.
#[tokio::test]
async fn ten_thousand_leases_are_a_matter_of_milliseconds() {
    let dir = tempfile::tempdir().unwrap();
    let lease = |number: u16| {
        let [high, low] = number.to_be_bytes();
        Lease {
            subnet: format!("10.{high}.{low}.0/24").parse().ok(),
            ..lease(2)
        }
    };
    let all: Vec<Lease> = (0..10_000).map(lease).collect();
    let fake = Fake::new();
    let ten = CONFIG.replace("10.5.0.0/16", "10.0.0.0/8");
    (*fake.config.lock().unwrap()).clone_from(&ten);
    let manager = Remembered::new(fake, &options(&dir));
    Node::start(&manager).await;
    let mut at = Instant::now();
    let mut lap = |what: &str| {
        eprintln!("{what}: {:?}", at.elapsed());
        at = Instant::now();
    };
    let list = LeaseEvent::Snapshot(all.clone());
    let changed = LeaseEvent::Delete(all[5].key());
    lap("(made)");
    manager.take_in(&list);
    lap("a list is taken in");
    let due = manager.state().due();
    lap("what is to be written is handed over");
    manager.take_in(&changed);
    lap("one change meanwhile");
    manager.take_in(&changed);
    lap("another change");
    let (_, memory) = due.unwrap();
    let text = memory.render("/coreos.com/network/");
    lap("(rendered, on another thread)");
    drop(memory);
    assert_eq!(manager.write().await, Some(true));
    lap("(written, on another thread)");
    let read = Memory::parse(&text, "/coreos.com/network/").unwrap();
    lap("read at a start");
    assert_eq!(read.peers.len(), 10_000);
    let snapshot = memory::snapshot(&read.peers);
    lap("given to the node");
    assert!(matches!(snapshot, LeaseEvent::Snapshot(leases) if leases.len() == 10_000));
    eprintln!("{} bytes", text.len());
}
