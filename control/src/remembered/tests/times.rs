//! When the lease ends, and the clock that tells it.

use super::*;
use crate::remembered::write::WRITE_PAUSE;

/// The file with another end of the lease, in seconds from now.
fn ending(dir: &TempDir, from_now: i64) {
    let path = state_file(dir);
    let mut memory = stored(&path).unwrap();
    memory.own.ends = Some(Clock::read().now.saturating_add_signed(from_now));
    let content = memory.render("/coreos.com/network/");
    crate::host::state_file::write(&path, &content).unwrap();
}

#[tokio::test]
async fn a_lease_that_has_ended_is_used_only_if_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    ending(&dir, -5);
    let manager = Remembered::new(Fake::silent(), &options(&dir));
    let waits = timeout(5 * PATIENCE, manager.network_config()).await;
    assert!(waits.is_err());
    let all_the_same = RememberedOptions {
        use_ended: true,
        ..options(&dir)
    };
    let manager = Remembered::new(Fake::silent(), &all_the_same);
    assert_eq!(Node::start(&manager).await.lease.key(), key(1));
}

#[tokio::test]
async fn a_lease_that_ends_while_the_start_waits_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    ending(&dir, 2);
    let manager = Remembered::new(Fake::new(), &options(&dir));
    assert!(manager.state().memory.is_some());
    tokio::time::sleep(Duration::from_secs(3)).await;
    Node::start(&manager).await;
    assert_eq!(manager.inner.asked(), ["config", "lease"]);
}

#[tokio::test]
async fn the_end_of_the_lease_is_kept_up_to_date() {
    let (dir, manager) = second_run(Fake::new()).await;
    let mut node = Node::start(&manager).await;
    let path = state_file(&dir);
    let kept = |_: &[LeaseEvent]| manager.inner.asked().contains(&"keep");
    node.follow(&manager, kept).await;
    let ends = || stored(&path).unwrap().own.ends;
    let left = |expected: u64| {
        let left = ends().map(|ends| ends.saturating_sub(Clock::read().now));
        left.is_some_and(|left| left.abs_diff(expected) <= 5)
    };
    let sooner = |_: &[LeaseEvent]| {
        let soon = Instant::now() + Duration::from_secs(600);
        manager.inner.ends.send_replace(Some(soon));
        left(600)
    };
    assert_eq!(node.follow(&manager, sooner).await, None);
    let later = |_: &[LeaseEvent]| {
        manager.inner.ends.send_replace(Some(Instant::now() + DAY));
        left(86_400)
    };
    assert_eq!(node.follow(&manager, later).await, None);
    let never = |_: &[LeaseEvent]| {
        manager.inner.ends.send_replace(None);
        ends().is_none()
    };
    assert_eq!(node.follow(&manager, never).await, None);
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_node_runs_takes_the_end_along() {
    let (dir, manager) = second_run(Fake::new()).await;
    let mut node = Node::start(&manager).await;
    let confirmed = |_: &[LeaseEvent]| manager.remembered().is_none();
    assert_eq!(node.follow(&manager, confirmed).await, None);
    manager.close().await;
    let ends = stored(&state_file(&dir)).unwrap().own.ends.unwrap();
    assert!(manager.state().due().is_none());
    let hours = 7200;
    for set in [hours, -hours] {
        let now = Clock::read();
        let now = Clock {
            now: now.now.saturating_add_signed(set),
            ..now
        };
        manager.state().follow_clock(now);
        let (_, memory) = manager.state().due().unwrap();
        let moved = memory.own.ends.unwrap().saturating_add_signed(-set);
        assert!(moved.abs_diff(ends) <= 4, "{set}");
        // And back.
        assert_eq!(manager.write().await, Some(true));
        let memory = stored(&state_file(&dir)).unwrap();
        assert!(memory.own.ends.unwrap().abs_diff(ends) <= 4, "{set}");
    }
}

#[tokio::test]
async fn a_start_in_the_same_boot_goes_by_the_clock_that_nobody_sets() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let path = state_file(&dir);
    let whole = stored(&path).unwrap();
    if whole.since_boot.is_none() {
        return eprintln!("skipped: boots have no names here");
    }
    // As if it had been written before somebody set the clock by 30 hours, ahead or back.
    for set in [30 * 3600, -30 * 3600] {
        let mut memory = whole.clone();
        memory.written = memory.written.saturating_add_signed(-set);
        memory.own.follow_clock(-set);
        let content = memory.render("/coreos.com/network/");
        crate::host::state_file::write(&path, &content).unwrap();
        let manager = Remembered::new(Fake::silent(), &options(&dir));
        let lease = Node::start(&manager).await.lease;
        let left = lease.expires.unwrap().duration_since(Instant::now());
        assert!(left > DAY / 2 && left <= DAY + 4 * WRITE_PAUSE, "{left:?}");
        let at = manager.remembered().unwrap();
        assert!(at.elapsed().unwrap_or_default() < LIMIT);
    }
}
