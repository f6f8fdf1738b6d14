//! A file that changes while nodes follow it.

use super::*;
use crate::family::Family;
use crate::wire::MacAddr;
use rustix::fs::{CWD, FileType, Mode, mknodat};

fn look_until_settled(poller: &mut Poller) {
    poller.look();
    poller.look();
}

fn leases(poller: &Poller) -> Option<usize> {
    poller
        .state()
        .content
        .as_ref()
        .map(|content| content.leases().len())
}

#[test]
fn changes_count_once_they_hold_still_and_bad_ones_never() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("peers.toml");
    let mut poller = Poller::new(path.clone(), Format::Toml);
    assert_eq!(leases(&poller), None);
    let problem = |poller: &Poller| poller.state().problem.clone().unwrap_or_default();
    assert!(problem(&poller).contains("peers.toml: cannot be read"));

    fs::write(&path, file(&[1, 2])).unwrap();
    look_until_settled(&mut poller);
    assert_eq!(leases(&poller), Some(2));
    assert_eq!(problem(&poller), "");

    // An editor in the middle of writing: valid, but not all of it.
    fs::write(&path, file(&[1])).unwrap();
    assert!(!poller.look());
    fs::write(&path, file(&[1, 2, 3])).unwrap();
    look_until_settled(&mut poller);
    assert_eq!(leases(&poller), Some(3));

    for (bad, words) in [("[config", "line 1"), ("", "config"), ("\u{0}", "line 1")] {
        fs::write(&path, bad).unwrap();
        look_until_settled(&mut poller);
        assert_eq!(leases(&poller), Some(3), "{bad:?}");
        assert!(
            problem(&poller).contains(words),
            "{bad:?}: {}",
            problem(&poller)
        );
    }
    fs::write(&path, b"\xff").unwrap();
    look_until_settled(&mut poller);
    assert!(problem(&poller).ends_with("is not UTF-8 text"));
    fs::remove_file(&path).unwrap();
    look_until_settled(&mut poller);
    assert!(problem(&poller).contains("cannot be read"));
    fs::create_dir(&path).unwrap();
    look_until_settled(&mut poller);
    assert!(problem(&poller).ends_with("is not a file"));
    assert_eq!(leases(&poller), Some(3));

    // Renamed into place, as editors do.
    fs::remove_dir(&path).unwrap();
    fs::write(dir.path().join("new"), file(&[2])).unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    look_until_settled(&mut poller);
    assert_eq!(
        (leases(&poller), problem(&poller)),
        (Some(1), String::new())
    );
    assert!(!poller.look(), "nothing new");
}

/// A manager on a host that has none of the addresses.
fn manager(path: PathBuf) -> Result<FixedSubnets, SubnetError> {
    FixedSubnets::new(path, |_| std::future::ready(None))
}

/// A file and its manager.
struct Store {
    dir: TempDir,
    manager: FixedSubnets,
}

impl Store {
    fn of(text: &str) -> Store {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("peers.toml"), text).unwrap();
        let manager = manager(dir.path().join("peers.toml")).unwrap();
        Store { dir, manager }
    }

    fn write(&self, text: &str) {
        fs::write(self.dir.path().join("peers.toml"), text).unwrap();
    }

    async fn acquire(&self, n: u8) -> Lease {
        let config = self.manager.network_config().await.unwrap();
        let config = NetworkConfig::parse(&config).unwrap();
        let previous = Previous::default();
        self.manager
            .acquire(&config, &attrs(n), &previous)
            .await
            .unwrap()
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        tokio::time::timeout(6 * NEWS, test).await.unwrap();
    });
}

#[test]
fn a_node_waits_for_its_entry() {
    run(async {
        let store = Store::of(&file(&[1]));
        assert_eq!(store.acquire(1).await.key().to_string(), "10.5.1.0-24");
        let add = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            store.write(&file(&[1, 2]));
        };
        let (lease, ()) = tokio::join!(store.acquire(2), add);
        assert_eq!(lease.key().to_string(), "10.5.2.0-24");
        assert_eq!(lease.expires, None);
        assert_eq!(
            lease.attrs.vxlan_data(Family::V4).unwrap().vtep_mac,
            MacAddr([0x0e, 0, 192, 0, 2, 2])
        );
    });
}

#[test]
fn a_config_that_changes_before_the_lease_is_told() {
    run(async {
        let store = Store::of(&file(&[1]));
        let config = store.manager.network_config().await.unwrap();
        let config = NetworkConfig::parse(&config).unwrap();
        let (attrs, previous) = (attrs(2), Previous::default());
        let mut acquire = Box::pin(store.manager.acquire(&config, &attrs, &previous));
        let pause = tokio::time::timeout(poll::PERIOD, &mut acquire);
        assert!(pause.await.is_err(), "it waits for its entry");
        store.write(&file(&[1, 2]).replace("10.5.0.0/16", "10.4.0.0/15"));
        assert_eq!(acquire.await, Err(SubnetError::ConfigChanged));
        assert_eq!(store.acquire(2).await.key().to_string(), "10.5.2.0-24");
    });
}

#[test]
fn a_pipe_in_place_of_the_file_holds_up_nothing() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("peers.toml");
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let manager = manager(path).unwrap();
        let error = manager.network_config().await.unwrap_err().to_string();
        assert!(error.ends_with("peers.toml: is not a file"), "{error}");
    });
}

#[test]
fn a_lease_ends_when_its_entry_goes_or_changes() {
    run(async {
        let taken = file(&[2]) + "[[leases]]\nSubnet = \"10.5.1.0/24\"\nPublicIP = \"192.0.2.3\"\n";
        let other_mac = file(&[1]) + "BackendData.VtepMAC = \"0e:00:00:00:00:01\"\n";
        let by = "192.0.2.3".parse().unwrap();
        for (after, end) in [
            (file(&[2]), LeaseEnd::Revoked),
            (other_mac, LeaseEnd::Changed { key: "BackendData" }),
            (
                file(&[1, 2]).replace("10.5.1.0", "10.5.7.0"),
                LeaseEnd::Changed { key: "Subnet" },
            ),
            (taken, LeaseEnd::Taken { by }),
        ] {
            let store = Store::of(&file(&[1, 2]));
            let lease = store.acquire(1).await;
            let mut keep = Box::pin(store.manager.keep(lease, Duration::ZERO));
            let other_config = file(&[1, 2]).replace("vxlan", "udp");
            for unimportant in ["[config", &file(&[1, 3]), &other_config] {
                store.write(unimportant);
                let pause = tokio::time::timeout(4 * poll::PERIOD, &mut keep);
                assert!(pause.await.is_err(), "{unimportant}");
            }
            store.write(&after);
            assert_eq!(keep.await, end, "{after}");
        }
    });
}

#[test]
fn u13_the_watch_tells_of_others_only_and_of_every_change() {
    run(async {
        let store = Store::of(&file(&[1, 2]));
        let own = store.acquire(1).await;
        let (sender, mut events) = mpsc::channel(8);
        let follow = store.manager.watch(&own, sender);
        let test = async {
            let subnets = |leases: &[Lease]| -> Vec<String> {
                leases.iter().map(|lease| lease.key().to_string()).collect()
            };
            match events.recv().await.unwrap() {
                LeaseEvent::Snapshot(leases) => assert_eq!(subnets(&leases), ["10.5.2.0-24"]),
                other => panic!("{other:?}"),
            }
            store.write(&file(&[1, 2, 3]));
            match events.recv().await.unwrap() {
                LeaseEvent::Put(lease) => assert_eq!(subnets(&[lease]), ["10.5.3.0-24"]),
                other => panic!("{other:?}"),
            }
            store.write("nonsense");
            tokio::time::sleep(4 * poll::PERIOD).await;
            assert!(events.try_recv().is_err(), "a broken file removes nobody");
            store.write(&file(&[1]).replace("vxlan", "udp"));
            tokio::time::sleep(4 * poll::PERIOD).await;
            assert!(events.try_recv().is_err(), "nor does another config");
            store.write(&file(&[1, 3]).replace("192.0.2.3", "192.0.2.33"));
            let gone = "10.5.2.0-24".parse().unwrap();
            assert_eq!(events.recv().await, Some(LeaseEvent::Delete(gone)));
            match events.recv().await.unwrap() {
                LeaseEvent::Put(lease) => {
                    assert_eq!(lease.attrs.identity().to_string(), "192.0.2.33");
                }
                other => panic!("{other:?}"),
            }
            drop(events);
        };
        tokio::join!(follow, test);
    });
}

#[test]
fn a_name_without_format_is_refused() {
    run(async {
        let error = manager(Path::new("/etc/peers.yaml").into()).err().unwrap();
        let text = "/etc/peers.yaml: the name of a subnets file must end in .toml or .json";
        assert_eq!(error.to_string(), text);
    });
}
