//! What a process that is taken over from knew.

use super::*;

/// What a node knows that has run since a while, and left the file to others.
async fn knowledge(dir: &TempDir) -> Vec<u8> {
    let manager = Remembered::new(Fake::new(), &options(dir));
    let mut node = Node::start(&manager).await;
    node.follow(&manager, |events| !events.is_empty()).await;
    manager.knowledge().unwrap()()
}

fn listed(event: Option<&LeaseEvent>) -> Vec<SubnetKey> {
    match event {
        Some(LeaseEvent::Snapshot(leases)) => leases.iter().map(Lease::key).collect(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn it_is_gone_by_at_once_and_without_the_store() {
    let (before, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let known = knowledge(&before).await;
    let manager = Remembered::new(Fake::silent(), &options(&dir));
    manager.inherit(&known).unwrap();
    let mut node = Node::start(&manager).await;
    assert_eq!(manager.inner.asked(), [""; 0], "not even for a moment");
    assert_eq!((node.lease.key(), node.lease.revision), (key(1), 5));
    node.follow(&manager, |events| !events.is_empty()).await;
    assert_eq!(listed(node.events.first()), [key(2), key(3)]);
    assert!(manager.remembered().is_some());
    // Who takes over from this one in turn knows the same, and how old it is.
    let again = manager.knowledge().unwrap()();
    let parsed = [&known, &again].map(|text| Memory::parse(text, "/coreos.com/network/").unwrap());
    let [first, second] = parsed.map(|m| (m.written, m.config, m.own, m.peers));
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_lease_that_has_ended_is_gone_on_with() {
    let (before, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    first_run(&before).await;
    let mut memory = stored(&state_file(&before)).unwrap();
    memory.own.ends = Some(memory.written - 60);
    let manager = Remembered::new(Fake::silent(), &options(&dir));
    manager
        .inherit(&memory.render("/coreos.com/network/"))
        .unwrap();
    assert_eq!(Node::start(&manager).await.lease.key(), key(1));
}

#[tokio::test]
async fn what_is_of_another_node_is_an_error_and_not_waited_for() {
    let (before, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let known = knowledge(&before).await;
    let manager = Remembered::new(Fake::silent(), &options(&dir));
    manager.inherit(&known).unwrap();
    let text = manager.network_config().await.unwrap();
    let config = NetworkConfig::parse(&text).unwrap();
    let acquired = manager
        .acquire(&config, &attrs(9), &Previous::default())
        .await;
    let error = acquired.unwrap_err().to_string();
    assert!(error.contains("192.0.2.1, not of 192.0.2.9"), "{error}");
    for text in [&b""[..], b"{", b"\xff", &known[1..]] {
        assert!(manager.inherit(text).is_err());
    }
}

#[tokio::test]
async fn a_file_that_is_left_to_another_process_stays_as_it_is_until_it_is_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let mut node = Node::start(&manager).await;
    manager.leave_disk(true).await;
    node.follow(&manager, |events| !events.is_empty()).await;
    manager.close().await;
    assert_eq!(stored(&state_file(&dir)), None);
    manager.leave_disk(false).await;
    manager.close().await;
    assert!(stored(&state_file(&dir)).is_some());
}
