//! What ends a memory.

use super::*;

/// A start from memory while the store is away, which then says something else.
async fn outdated(change: impl FnOnce(&Fake)) {
    let (dir, manager) = second_run(Fake::silent()).await;
    let mut node = Node::start(&manager).await;
    change(&manager.inner);
    manager.inner.answers.send_replace(true);
    let end = node.follow(&manager, |_| false).await;
    assert_eq!(end, Some(LeaseEnd::Outdated));
    assert!(!state_file(&dir).exists(), "it is forgotten");
    assert_eq!(manager.remembered(), None);
    manager.close().await;
    assert!(!state_file(&dir).exists(), "and stays so");

    // The next start is as the store says.
    *manager.inner.lease.lock().unwrap() = Ok(key(9));
    let mut node = Node::start(&manager).await;
    assert_eq!(node.lease.key(), key(9));
    let written = |_: &[LeaseEvent]| state_file(&dir).exists();
    assert_eq!(node.follow(&manager, written).await, None);
    assert_eq!(stored(&state_file(&dir)).unwrap().own.key, key(9));
}

#[tokio::test]
async fn a_store_that_gives_another_subnet_ends_the_memory() {
    outdated(|store| *store.lease.lock().unwrap() = Ok(key(9))).await;
}

#[tokio::test]
async fn a_store_with_another_config_ends_the_memory() {
    outdated(|store| {
        let mut config = store.config.lock().unwrap();
        *config = CONFIG.replace("10.5.0.0/16", "10.4.0.0/15");
    })
    .await;
}

#[tokio::test]
async fn another_node_with_the_mac_ends_the_memory() {
    let error = SubnetError::MacTaken {
        mac: "0e:00:00:00:00:01".parse().unwrap(),
        by: [192, 0, 2, 9].into(),
        key: key(9),
    };
    outdated(|store| *store.lease.lock().unwrap() = Err(error)).await;
}

#[tokio::test]
async fn a_lease_that_is_over_is_forgotten() {
    let (dir, manager) = second_run(Fake::new()).await;
    let mut node = Node::start(&manager).await;
    let taken = LeaseEnd::Taken {
        by: [192, 0, 2, 9].into(),
    };
    manager.inner.over.send_replace(Some(taken));
    assert_eq!(node.follow(&manager, |_| false).await, Some(taken));
    assert!(!state_file(&dir).exists());
}

#[tokio::test]
async fn a_lease_that_is_remembered_is_not_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let node = Node::start(&manager).await;
    manager.release(&node.lease).await;
    assert!(manager.inner.asked().contains(&"release"));
    first_run(&dir).await;
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let node = Node::start(&manager).await;
    manager.release(&node.lease).await;
    assert!(!manager.inner.asked().contains(&"release"));
}
