//! Starts, with and without a store that answers.

use super::*;

#[tokio::test]
async fn a_first_start_waits_for_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Remembered::new(Fake::silent(), &options(&dir));
    let waits = timeout(5 * PATIENCE, manager.network_config()).await;
    assert!(waits.is_err());
    assert_eq!(manager.remembered(), None);
}

#[tokio::test]
async fn a_start_goes_by_the_memory_until_the_store_answers() {
    let (dir, manager) = second_run(Fake::silent()).await;
    let before = stored(&state_file(&dir)).unwrap();
    let mut node = Node::start(&manager).await;
    assert_eq!(node.lease.key(), key(1));
    assert!(node.lease.expires.unwrap() > Instant::now() + DAY / 2);
    assert!(manager.remembered().is_some());
    let end = node.follow(&manager, |events| !events.is_empty()).await;
    assert_eq!(end, None);
    let [LeaseEvent::Snapshot(peers)] = &node.events[..] else {
        panic!("{:?}", node.events);
    };
    let keys: Vec<SubnetKey> = peers.iter().map(Lease::key).collect();
    assert_eq!(keys, [key(2), key(3)]);
    assert_eq!(peers[0].attrs, attrs(2));
    manager.close().await;
    let after = stored(&state_file(&dir)).unwrap();
    assert_eq!(after, before, "nothing is known that was not");

    // It comes back: one peer has gone, one has come.
    *manager.inner.peers.lock().unwrap() = vec![lease(3), lease(4)];
    manager.inner.answers.send_replace(true);
    let is_confirmed = |_: &[LeaseEvent]| {
        let written = stored(&state_file(&dir)).unwrap();
        manager.remembered().is_none() && written.peers.contains_key(&key(4))
    };
    assert_eq!(node.follow(&manager, is_confirmed).await, None);
    let last = node.events.last().unwrap();
    assert_eq!(*last, LeaseEvent::Snapshot(vec![lease(3), lease(4)]));
    assert!(manager.inner.asked().contains(&"keep"));
}

#[tokio::test]
async fn a_store_that_answers_is_not_asked_for_the_lease_before_the_node_has_it() {
    let (_dir, manager) = second_run(Fake::new()).await;
    let mut node = Node::start(&manager).await;
    assert_eq!(manager.inner.asked(), ["config"]);
    let confirmed = |_: &[LeaseEvent]| manager.remembered().is_none();
    assert_eq!(node.follow(&manager, confirmed).await, None);
    let asked = manager.inner.asked();
    assert!(asked.contains(&"lease"), "{asked:?}");
}

#[tokio::test]
async fn a_config_that_has_changed_is_an_ordinary_start() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let fake = Fake::new();
    let wider = CONFIG.replace("10.5.0.0/16", "10.4.0.0/15");
    *fake.config.lock().unwrap() = wider;
    let manager = Remembered::new(fake, &options(&dir));
    Node::start(&manager).await;
    assert_eq!(manager.inner.asked(), ["config", "lease"]);
    assert_eq!(manager.remembered(), None);
}

#[tokio::test]
async fn what_belongs_to_another_node_waits_for_the_store() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    for other in [
        attrs(7),
        LeaseAttrs {
            public_ip: [192, 0, 2, 1].into(),
            ..attrs(7)
        },
    ] {
        let manager = Remembered::new(Fake::new(), &options(&dir));
        manager.network_config().await.unwrap();
        let previous = Previous::default();
        manager.acquire(&config(), &other, &previous).await.unwrap();
        assert_eq!(manager.inner.asked(), ["config", "lease"]);
    }
}

#[tokio::test]
async fn a_node_that_has_lost_its_mac_has_that_of_its_memory() {
    let (_dir, manager) = second_run(Fake::silent()).await;
    let renamed = LeaseAttrs {
        public_ip: [192, 0, 2, 1].into(),
        ..attrs(7)
    };
    assert_eq!(manager.known(&renamed).await, Some(attrs(1)));
    let other = attrs(7);
    let stranger = manager.known(&other);
    assert!(
        timeout(PATIENCE, stranger).await.is_err(),
        "the store's to say"
    );
}
