//! A store as a test wants it.

use super::*;
use tokio::sync::watch;

/// A store that answers, or does not, and says what a test has it say.
pub(super) struct Fake {
    pub(super) answers: watch::Sender<bool>,
    pub(super) config: Mutex<String>,
    /// The subnet that it gives out.
    pub(super) lease: Mutex<Result<SubnetKey, SubnetError>>,
    pub(super) expires: Mutex<Option<Duration>>,
    pub(super) peers: Mutex<Vec<Lease>>,
    pub(super) later: watch::Sender<Option<LeaseEvent>>,
    pub(super) ends: watch::Sender<Option<Instant>>,
    /// How a lease that is kept ends.
    pub(super) over: watch::Sender<Option<LeaseEnd>>,
    /// What it was asked for.
    asked: Mutex<Vec<&'static str>>,
}

impl Fake {
    pub(super) fn new() -> Fake {
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

    pub(super) fn silent() -> Fake {
        let fake = Fake::new();
        fake.answers.send_replace(false);
        fake
    }

    async fn answer(&self, what: &'static str) {
        self.asked.lock().unwrap().push(what);
        let mut answers = self.answers.subscribe();
        answers.wait_for(|answers| *answers).await.unwrap();
    }

    pub(super) fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().clone()
    }
}

impl SubnetManager for Fake {
    fn store(&self) -> &'static str {
        "etcd"
    }

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
