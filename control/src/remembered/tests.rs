//! The memory around a store.

mod end;
mod fake;
mod inherited;
mod start;
mod times;
mod writing;

use super::memory::Memory;
use super::*;
use crate::lease::SubnetKey;
use fake::Fake;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;

const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DAY: Duration = Duration::from_secs(86_400);
const LIMIT: Duration = Duration::from_secs(30);
const MARGIN: Duration = Duration::from_secs(3600);

fn key(third: u8) -> SubnetKey {
    format!("10.5.{third}.0-24").parse().unwrap()
}

fn attrs(last: u8) -> LeaseAttrs {
    let json = format!(
        r#"{{"PublicIP":"192.0.2.{last}","BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"0e:00:00:00:00:{last:02x}"}}}}"#
    );
    LeaseAttrs::parse(&json).unwrap()
}

fn lease(number: u8) -> Lease {
    Lease {
        subnet: key(number).v4,
        subnet_v6: None,
        attrs: attrs(number),
        expires: None,
        revision: 3,
    }
}

fn options(dir: &TempDir) -> RememberedOptions {
    RememberedOptions {
        state_dir: dir.path().to_owned(),
        prefix: "/coreos.com/network/".to_owned(),
        use_ended: false,
    }
}

fn state_file(dir: &TempDir) -> PathBuf {
    dir.path().join("net-coreos.com-network.state")
}

/// What the file holds.
fn stored(path: &Path) -> Option<Memory> {
    let content = crate::host::state_file::read(path).unwrap()?;
    Some(Memory::parse(&content, "/coreos.com/network/").unwrap())
}

fn config() -> NetworkConfig {
    NetworkConfig::parse(CONFIG).unwrap()
}

/// A node: its lease and the events that it has seen.
struct Node {
    lease: Lease,
    events: Vec<LeaseEvent>,
}

impl Node {
    async fn start(manager: &Remembered<Fake>) -> Node {
        let text = manager.network_config().await.unwrap();
        let config = NetworkConfig::parse(&text).unwrap();
        let previous = Previous::default();
        let lease = manager.acquire(&config, &attrs(1), &previous).await;
        Node {
            lease: lease.unwrap(),
            events: Vec::new(),
        }
    }

    /// Follow the store until `done`, or the end of the lease.
    async fn follow(
        &mut self,
        manager: &Remembered<Fake>,
        mut done: impl FnMut(&[LeaseEvent]) -> bool,
    ) -> Option<LeaseEnd> {
        let (sender, mut received) = mpsc::channel(8);
        let own = self.lease.clone();
        let mut watch = pin!(manager.watch(&own, sender));
        let mut keep = pin!(manager.keep(own.clone(), MARGIN));
        let mut look = tokio::time::interval(Duration::from_millis(5));
        let limit = Instant::now() + LIMIT;
        loop {
            tokio::select! {
                end = &mut keep => return Some(end),
                () = &mut watch => panic!("the watch has ended"),
                Some(event) = received.recv() => self.events.push(event),
                _ = look.tick() => {}
            }
            if done(&self.events) {
                return None;
            }
            assert!(Instant::now() < limit, "nothing in {LIMIT:?}");
        }
    }
}

/// Have a first run write down that the node has 10.5.1.0/24 and the peers 2 and 3.
async fn first_run(dir: &TempDir) {
    let manager = Remembered::new(Fake::new(), &options(dir));
    let mut node = Node::start(&manager).await;
    node.follow(&manager, |_| state_file(dir).exists()).await;
}

/// What comes after a first run, with this store.
async fn second_run(store: Fake) -> (TempDir, Remembered<Fake>) {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(store, &options(&dir));
    (dir, manager)
}
