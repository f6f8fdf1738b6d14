//! The store as an operator sees it: each request is made once, and a failure is an error.

use super::conflicts;
use super::error::AdminError;
use super::record::{Life, Listing, Record};
use crate::config::NetworkConfig;
use crate::subnets::etcd::client::Failure;
use crate::subnets::etcd::store::{Feed, Store};
use etcd_client::{Compare, CompareOp, KeyValue, LeaseTimeToLiveResponse, TxnOp};
use std::time::Duration;

/// The leases of one network.
pub(super) struct Leases {
    pub(super) store: Store,
}

impl Leases {
    /// What a failure is for an operator.
    pub(super) fn error(&self, failure: Failure) -> AdminError {
        match failure {
            Failure::Refused(reason) => AdminError::Refused(reason),
            Failure::Unreachable => AdminError::Unreachable(self.store.outage()),
            Failure::Broken(reason) => AdminError::Unreachable(reason),
        }
    }

    /// The network config, or why there is none that can be used.
    pub(super) async fn config(&self) -> Result<Result<NetworkConfig, String>, AdminError> {
        let stored = self.store.config().await;
        let Some(stored) = stored.map_err(|failure| self.error(failure))? else {
            return Ok(Err(self.store.no_config().to_string()));
        };
        let text = String::from_utf8_lossy(&stored);
        Ok(NetworkConfig::parse(&text).map_err(|error| error.to_string()))
    }

    /// All leases as they are; what is wrong with them together is not yet put down.
    pub(super) async fn read(&self) -> Result<Vec<Record>, AdminError> {
        let keys = self.store.keys().await;
        let keys = keys.map_err(|failure| self.error(failure))?;
        Ok(self.records(&keys))
    }

    /// All leases, with what is wrong with them.
    pub(super) async fn list(&self) -> Result<Listing, AdminError> {
        let config = self.config().await?;
        let mut records = self.read().await?;
        conflicts::mark(&mut records, config.as_ref().ok());
        records.sort_by_key(|record| (record.subnets.is_none(), record.subnets));
        Ok(Listing { config, records })
    }

    pub(super) fn records(&self, kvs: &[KeyValue]) -> Vec<Record> {
        kvs.iter().map(|kv| self.record(kv)).collect()
    }

    pub(super) fn record(&self, kv: &KeyValue) -> Record {
        Record::of(kv, &self.store.path_of_leases())
    }

    /// All keys, and what happens to them.
    pub(super) fn feed(&self) -> Feed<'_> {
        self.store.feed()
    }

    /// How long a key on this etcd lease lives.
    pub(super) async fn life(&self, lease: i64) -> Result<Life, AdminError> {
        if lease == 0 {
            return Ok(Life::Reserved);
        }
        let answer = self.store.time_to_live(lease).await;
        Ok(life(&answer.map_err(|failure| self.error(failure))?))
    }

    /// Write a value without an etcd lease as long as its key is as `record` shows it; whether it
    /// was.
    pub(super) async fn reserve(&self, record: &Record, value: &str) -> Result<bool, AdminError> {
        // Without options a key hangs on no etcd lease, whatever it hung on before.
        let put = TxnOp::put(self.store.path(&record.key), value, None);
        self.change_if(record, put).await
    }

    /// Delete a key as long as it is as `record` shows it; whether it was.
    pub(super) async fn release(&self, record: &Record) -> Result<bool, AdminError> {
        let delete = TxnOp::delete(self.store.path(&record.key), None);
        self.change_if(record, delete).await
    }

    /// Its etcd lease counts, too: a store put back from a snapshot gives revisions out a second
    /// time.
    async fn change_if(&self, record: &Record, change: TxnOp) -> Result<bool, AdminError> {
        let path = self.store.path(&record.key);
        let unchanged = vec![
            Compare::mod_revision(path.clone(), CompareOp::Equal, record.revision),
            Compare::lease(path, CompareOp::Equal, record.etcd_lease),
        ];
        let changed = self.store.commit("change a lease", unchanged, vec![change]);
        let changed = changed.await.map_err(|failure| self.error(failure))?;
        Ok(changed.is_some())
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
