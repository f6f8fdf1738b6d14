//! What operators do to leases: look at them, reserve and release them.
//!
//! Unlike a node, an operator does not wait: what cannot be done now is an error.

mod conflicts;
mod follow;
mod record;
mod reserve;

pub use follow::News;
pub use record::{Life, Listing, Record};
pub use reserve::{Reservation, Reserved};

use super::EtcdOptions;
use super::connection::{Connection, Failure};
use super::list;
use super::store::normalised;
use super::{SubnetError, Timing};
use crate::config::NetworkConfig;
use etcd_client::{Client, Compare, CompareOp, KeyValue, LeaseTimeToLiveResponse, Txn, TxnOp};
use futures::{StreamExt, TryStreamExt, stream};
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// How many leases may be asked for their end at the same time.
const ASKED_AT_ONCE: usize = 32;

/// Why something could not be done. One line.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The process cannot be set up.
    #[error("cannot set up the process: {0}")]
    Process(#[from] io::Error),
    /// The options, or what the files they name hold.
    #[error(transparent)]
    Settings(#[from] SubnetError),
    /// No server answers.
    #[error("etcd cannot be reached: {0}")]
    Unreachable(String),
    /// etcd, or a rule, says no.
    #[error("{0}")]
    Refused(String),
}

/// The leases of one network in etcd, for an operator. Each call waits for its outcome; not to
/// be used from inside an asynchronous runtime.
pub struct Admin {
    runtime: Runtime,
    keys: Keys,
}

/// The keys of one network.
struct Keys {
    connection: Connection,
    prefix: String,
    /// How etcdctl is called for the same servers, for hints.
    etcdctl: String,
}

impl Admin {
    /// Check the options and read the files that they name; nothing is sent.
    pub fn new(options: &EtcdOptions) -> Result<Admin, AdminError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let prefix = normalised(&options.prefix);
        let connection = Connection::new(options, &prefix, Timing::default())?;
        let keys = Keys {
            connection,
            prefix,
            etcdctl: options.etcdctl(),
        };
        Ok(Admin { runtime, keys })
    }

    /// All leases, with what is wrong with them; their ends have not been asked for.
    pub fn list(&self) -> Result<Listing, AdminError> {
        self.runtime.block_on(self.keys.list())
    }

    /// Put down when each lease ends. That takes a request for each.
    pub fn ask_ends(&self, records: &mut [Record]) -> Result<(), AdminError> {
        let leases: Vec<i64> = records.iter().map(|record| record.etcd_lease).collect();
        let lives = stream::iter(leases).map(|lease| self.keys.life(lease));
        let lives = lives.buffered(ASKED_AT_ONCE).try_collect();
        let lives: Vec<Life> = self.runtime.block_on(lives)?;
        for (record, life) in records.iter_mut().zip(lives) {
            record.life = life;
        }
        Ok(())
    }

    /// Make a reservation, or turn a node's lease into one.
    pub fn reserve(&self, wanted: &Reservation) -> Result<Reserved, AdminError> {
        self.runtime.block_on(reserve::reserve(&self.keys, wanted))
    }

    /// Delete a key as long as it is as `record` shows it; whether it was.
    pub fn release(&self, record: &Record) -> Result<bool, AdminError> {
        let path = self.keys.path(&record.key);
        let delete = TxnOp::delete(path, None);
        let change = self.keys.change_if(record, delete);
        self.runtime.block_on(change)
    }

    /// Tell every change from now on, until SIGINT or SIGTERM comes or `tell` breaks.
    pub fn watch(&self, tell: impl FnMut(News) -> ControlFlow<()>) -> Result<(), AdminError> {
        self.runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                ended = follow::follow(&self.keys, tell) => ended,
                _ = interrupt.recv() => Ok(()),
                _ = terminate.recv() => Ok(()),
            }
        })
    }
}

impl Keys {
    /// The etcd key of a lease by its name.
    fn path(&self, name: &str) -> String {
        format!("{}subnets/{name}", self.prefix)
    }

    /// Send a request.
    async fn call<T, F, Fut>(&self, what: &str, request: F) -> Result<T, AdminError>
    where
        F: Fn(Client) -> Fut,
        Fut: Future<Output = Result<T, etcd_client::Error>>,
    {
        let outcome = self.connection.call(what, request).await;
        outcome.map_err(|failure| self.error(failure))
    }

    fn error(&self, failure: Failure) -> AdminError {
        match failure {
            Failure::Refused(reason) => AdminError::Refused(reason),
            Failure::Unreachable => AdminError::Unreachable(self.connection.outage()),
            Failure::Broken(reason) => AdminError::Unreachable(reason),
        }
    }

    /// All leases as they are; what is wrong with them together is not yet put down.
    async fn read(&self) -> Result<Vec<Record>, AdminError> {
        let listed = list::list(&self.connection, &self.path("")).await;
        let (_, keys) = listed.map_err(|failure| self.error(failure))?;
        Ok(self.records(&keys))
    }

    async fn config(&self) -> Result<Result<NetworkConfig, String>, AdminError> {
        let key = format!("{}config", self.prefix);
        let read = |client: Client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        };
        let response = self.call("read the network config", read).await?;
        let Some(kv) = response.kvs().first() else {
            let etcdctl = self.etcdctl.clone();
            return Ok(Err(SubnetError::NoConfig { key, etcdctl }.to_string()));
        };
        let text = String::from_utf8_lossy(kv.value());
        Ok(NetworkConfig::parse(&text).map_err(|error| error.to_string()))
    }

    async fn list(&self) -> Result<Listing, AdminError> {
        let config = self.config().await?;
        let mut records = self.read().await?;
        conflicts::mark(&mut records, config.as_ref().ok());
        records.sort_by_key(|record| (record.subnets.is_none(), record.subnets));
        Ok(Listing { config, records })
    }

    fn records(&self, kvs: &[KeyValue]) -> Vec<Record> {
        let prefix = self.path("");
        kvs.iter().map(|kv| Record::of(kv, &prefix)).collect()
    }

    /// How long a key on this etcd lease lives.
    async fn life(&self, lease: i64) -> Result<Life, AdminError> {
        if lease == 0 {
            return Ok(Life::Reserved);
        }
        let ask =
            |client: Client| async move { client.lease_client().time_to_live(lease, None).await };
        let answer = self.call("tell a lease's end", ask).await?;
        Ok(life(&answer))
    }

    /// Change a key as long as it is as `record` shows it; whether it was. Its etcd lease counts,
    /// too: a store put back from a snapshot gives revisions out a second time.
    async fn change_if(&self, record: &Record, change: TxnOp) -> Result<bool, AdminError> {
        let path = self.path(&record.key);
        let unchanged = [
            Compare::mod_revision(path.clone(), CompareOp::Equal, record.revision),
            Compare::lease(path, CompareOp::Equal, record.etcd_lease),
        ];
        let txn = Txn::new().when(unchanged).and_then([change]);
        let write = |client: Client| {
            let txn = txn.clone();
            async move { Ok(client.kv_client().txn(txn).await?.succeeded()) }
        };
        self.call("change a lease", write).await
    }
}

/// A TTL of -1 is etcd's word for a lease that is no more.
fn life(answer: &LeaseTimeToLiveResponse) -> Life {
    let seconds = |seconds: i64| Duration::from_secs(seconds.try_into().unwrap_or(0));
    Life::Leased {
        granted: seconds(answer.granted_ttl()),
        left: seconds(answer.ttl()),
    }
}
