use super::memory::Memory;
use super::*;
use crate::lease::SubnetKey;
use std::fs;
use std::path::Path;
use std::time::Instant;
use tempfile::TempDir;
use tokio::sync::watch;

const CONFIG: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
const DAY: Duration = Duration::from_secs(86_400);
const LIMIT: Duration = Duration::from_secs(30);
const MARGIN: Duration = Duration::from_secs(3600);

/// A store that answers, or does not, and says what a test has it say.
struct Fake {
    answers: watch::Sender<bool>,
    config: Mutex<String>,
    /// The subnet that it gives out.
    lease: Mutex<Result<SubnetKey, SubnetError>>,
    expires: Mutex<Option<Duration>>,
    peers: Mutex<Vec<Lease>>,
    later: watch::Sender<Option<LeaseEvent>>,
    ends: watch::Sender<Option<Instant>>,
    /// How a lease that is kept ends.
    over: watch::Sender<Option<LeaseEnd>>,
    /// What it was asked for.
    asked: Mutex<Vec<&'static str>>,
}

impl Fake {
    fn new() -> Fake {
        Fake {
            answers: watch::Sender::new(true),
            config: Mutex::new(CONFIG.to_owned()),
            lease: Mutex::new(Ok(key(1))),
            expires: Mutex::new(Some(DAY)),
            peers: Mutex::new(vec![lease(2), lease(3)]),
            later: watch::Sender::new(None),
            ends: watch::Sender::new(None),
            over: watch::Sender::new(None),
            asked: Mutex::default(),
        }
    }

    fn silent() -> Fake {
        let fake = Fake::new();
        fake.answers.send_replace(false);
        fake
    }

    async fn answer(&self, what: &'static str) {
        self.asked.lock().unwrap().push(what);
        let mut answers = self.answers.subscribe();
        answers.wait_for(|answers| *answers).await.unwrap();
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

impl SubnetManager for Fake {
    async fn network_config(&self) -> Result<String, SubnetError> {
        self.answer("config").await;
        Ok(self.config.lock().unwrap().clone())
    }

    async fn acquire(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        _previous: &Previous,
    ) -> Result<Lease, SubnetError> {
        self.answer("lease").await;
        if NetworkConfig::parse(&self.config.lock().unwrap()).as_ref() != Ok(config) {
            return Err(SubnetError::ConfigChanged);
        }
        let key = self.lease.lock().unwrap().clone()?;
        let life = *self.expires.lock().unwrap();
        Ok(Lease {
            subnet: key.v4,
            subnet_v6: key.v6,
            attrs: attrs.clone(),
            expires: life.map(|life| Instant::now() + life),
            revision: 5,
        })
    }

    async fn known(&self, _attrs: &LeaseAttrs) -> Option<LeaseAttrs> {
        self.answer("known").await;
        None
    }

    async fn release(&self, _lease: &Lease) {
        self.answer("release").await;
    }

    async fn keep(&self, _lease: Lease, _margin: Duration) -> LeaseEnd {
        self.answer("keep").await;
        let mut over = self.over.subscribe();
        let end = *over.wait_for(Option::is_some).await.unwrap();
        end.unwrap()
    }

    fn ends(&self) -> watch::Receiver<Option<Instant>> {
        self.ends.subscribe()
    }

    async fn watch(&self, _own: &Lease, events: mpsc::Sender<LeaseEvent>) {
        let mut later = self.later.subscribe();
        self.answer("watch").await;
        let peers = self.peers.lock().unwrap().clone();
        events.send(LeaseEvent::Snapshot(peers)).await.unwrap();
        loop {
            later.changed().await.unwrap();
            let event = later.borrow_and_update().clone();
            events.send(event.unwrap()).await.unwrap();
        }
    }
}

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

/// The file with another end of the lease, in seconds from now.
fn ending(dir: &TempDir, from_now: i64) {
    let path = state_file(dir);
    let mut memory = stored(&path).unwrap();
    memory.own.ends = Some(seconds_now().saturating_add_signed(from_now));
    let content = memory.render("/coreos.com/network/");
    crate::host::state_file::write(&path, &content).unwrap();
}

#[tokio::test]
async fn what_the_store_says_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let memory = stored(&state_file(&dir)).unwrap();
    assert_eq!((memory.own.key, memory.own.revision), (key(1), 5));
    assert_eq!(memory.config, CONFIG);
    let left = memory.own.ends.unwrap() - seconds_now();
    assert!((86_300..=86_401).contains(&left), "{left}");
    assert_eq!(
        memory.peers.keys().copied().collect::<Vec<_>>(),
        [key(2), key(3)]
    );
    assert!(seconds_now() - memory.written < 60);
}

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
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(Fake::silent(), &options(&dir));
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
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(Fake::new(), &options(&dir));
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

/// A start from memory while the store is away, which then says something else.
async fn outdated(change: impl FnOnce(&Fake)) {
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(Fake::silent(), &options(&dir));
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
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let mut node = Node::start(&manager).await;
    let taken = LeaseEnd::Taken {
        by: [192, 0, 2, 9].into(),
    };
    manager.inner.over.send_replace(Some(taken));
    assert_eq!(node.follow(&manager, |_| false).await, Some(taken));
    assert!(!state_file(&dir).exists());
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
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(Fake::new(), &options(&dir));
    let mut node = Node::start(&manager).await;
    let path = state_file(&dir);
    let kept = |_: &[LeaseEvent]| manager.inner.asked().contains(&"keep");
    node.follow(&manager, kept).await;
    let ends = || stored(&path).unwrap().own.ends;
    let left = |expected: u64| {
        let left = ends().map(|ends| ends.saturating_sub(seconds_now()));
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
    let dir = tempfile::tempdir().unwrap();
    first_run(&dir).await;
    let manager = Remembered::new(Fake::silent(), &options(&dir));
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
