//! What is read from and written to etcd, for the agent and for operators alike.

mod entry;
mod feed;
mod grant;
mod list;
mod position;
mod stream;
mod warned;

use super::client::{Connection, Failure};
use super::options::EtcdOptions;
use super::timing::Timing;
use crate::lease::{LeaseAttrs, SubnetKey};
use crate::status::StoreHealth;
use crate::subnets::SubnetError;
use crate::text::shown;
pub(super) use entry::Entry;
use etcd_client::{Client, Compare, CompareOp, KeyValue, PutOptions, Txn, TxnOp, WatchStream};
pub(super) use feed::{Feed, Update};
pub(super) use grant::{Grant, RESERVATION};
use position::{Position, position};
use std::fmt::Display;
use stream::{Scope, Since};
use warned::Warned;

/// The keys of one network in etcd.
pub(crate) struct Store {
    connection: Connection,
    prefix: String,
    /// How etcdctl is called for the same servers, for hints.
    etcdctl: String,
    /// Keys that cannot be used.
    warned: Warned,
}

impl Store {
    pub(crate) fn new(options: &EtcdOptions, timing: Timing) -> Result<Store, SubnetError> {
        let prefix = normalised(&options.prefix);
        Ok(Store {
            connection: Connection::new(options, &prefix, timing)?,
            prefix,
            etcdctl: options.etcdctl(),
            warned: Warned::default(),
        })
    }

    pub(crate) fn timing(&self) -> &Timing {
        self.connection.timing()
    }

    /// The key of the network config.
    pub(crate) fn config_key(&self) -> String {
        format!("{}config", self.prefix)
    }

    /// That there is no network config, and what to do about it.
    pub(crate) fn no_config(&self) -> SubnetError {
        SubnetError::NoConfig {
            key: self.config_key(),
            etcdctl: self.etcdctl.clone(),
        }
    }

    /// Why no server could be reached when one was last asked.
    pub(crate) fn outage(&self) -> String {
        self.connection.outage()
    }

    /// How the servers have answered so far.
    pub(crate) fn health(&self) -> StoreHealth {
        self.connection.health()
    }

    /// What the etcd keys of all leases begin with.
    pub(crate) fn path_of_leases(&self) -> String {
        self.path("")
    }

    /// The etcd key of the lease with this name.
    pub(crate) fn path(&self, name: impl Display) -> String {
        format!("{}subnets/{name}", self.prefix)
    }

    /// The network config, if there is one.
    pub(crate) async fn config(&self) -> Result<Option<Vec<u8>>, Failure> {
        let key = self.config_key();
        let read = |client: Client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        };
        let what = "read the network config";
        let response = self.connection.call(what, read).await?;
        let stored = response.kvs().first();
        Ok(stored.map(|kv| kv.value().to_vec()))
    }

    /// All keys under `<prefix>/subnets`, sorted.
    pub(crate) async fn keys(&self) -> Result<Vec<KeyValue>, Failure> {
        let (_, keys) = list::list(&self.connection, &self.path_of_leases()).await?;
        Ok(keys)
    }

    /// All leases, sorted by key. Malformed keys are left out with a warning.
    pub(crate) async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let keys = self.keys().await?;
        Ok(keys.iter().filter_map(|kv| self.entry(kv)).collect())
    }

    /// All keys of leases, and what happens to them.
    pub(crate) fn feed(&self) -> Feed<'_> {
        Feed::new(&self.connection, self.path_of_leases())
    }

    /// One lease.
    pub(crate) async fn get(&self, key: &SubnetKey) -> Result<(Position, Option<Entry>), Failure> {
        let path = self.path(key);
        let read = |client: Client| {
            let path = path.clone();
            async move {
                let response = client.kv_client().get(path, None).await?;
                Ok((position(response.header())?, response))
            }
        };
        let (position, response) = self.connection.call("read the own lease", read).await?;
        let entry = response.kvs().first().and_then(|kv| self.entry(kv));
        Ok((position, entry))
    }

    /// Write a lease if its key has not changed since `mod_revision` (0: does not exist).
    /// Returns the new revision, or `None` if the key has changed. The etcd lease is given back
    /// then, and when etcd refuses the write: each try would else leave one behind.
    ///
    /// A request whose answer got lost is sent again, and then finds its own write. That
    /// counts as done: giving the etcd lease back would delete the key that hangs on it.
    pub(crate) async fn put_if(
        &self,
        key: &SubnetKey,
        mod_revision: i64,
        attrs: &LeaseAttrs,
        grant: Grant,
    ) -> Result<Option<i64>, Failure> {
        let when = vec![self.unchanged(key, mod_revision)];
        self.write(when, Vec::new(), key, attrs, grant).await
    }

    /// Write a lease under a new key in place of others, all or nothing: as [`Store::put_if`],
    /// if none of `old` has changed and `key` does not exist.
    pub(crate) async fn replace(
        &self,
        old: &[&Entry],
        key: &SubnetKey,
        attrs: &LeaseAttrs,
        grant: Grant,
    ) -> Result<Option<i64>, Failure> {
        let same = |entry: &&Entry| self.unchanged(&entry.key, entry.mod_revision);
        let mut when: Vec<Compare> = old.iter().map(same).collect();
        when.push(self.unchanged(key, 0));
        let delete = |entry: &&Entry| TxnOp::delete(self.path(entry.key), None);
        let deletes = old.iter().map(delete).collect();
        self.write(when, deletes, key, attrs, grant).await
    }

    /// Delete a lease; whether it was still as in `entry`.
    pub(crate) async fn remove(&self, entry: &Entry) -> Result<bool, Failure> {
        let when = vec![self.unchanged(&entry.key, entry.mod_revision)];
        let delete = vec![TxnOp::delete(self.path(entry.key), None)];
        let deleted = self.commit("delete a lease", when, delete).await?;
        Ok(deleted.is_some())
    }

    /// If all of `when` holds, do all of `then` and return the revision; else do nothing. `what`
    /// completes "etcd refused to ...".
    pub(crate) async fn commit(
        &self,
        what: &str,
        when: Vec<Compare>,
        then: Vec<TxnOp>,
    ) -> Result<Option<i64>, Failure> {
        let txn = Txn::new().when(when).and_then(then);
        let commit = |client: Client| {
            let txn = txn.clone();
            async move {
                let response = client.kv_client().txn(txn).await?;
                let position = position(response.header())?;
                Ok(response.succeeded().then_some(position.revision))
            }
        };
        self.connection.call(what, commit).await
    }

    fn unchanged(&self, key: &SubnetKey, mod_revision: i64) -> Compare {
        Compare::mod_revision(self.path(key), CompareOp::Equal, mod_revision)
    }

    async fn write(
        &self,
        when: Vec<Compare>,
        mut then: Vec<TxnOp>,
        key: &SubnetKey,
        attrs: &LeaseAttrs,
        grant: Grant,
    ) -> Result<Option<i64>, Failure> {
        let options = PutOptions::new().with_lease(grant.id);
        then.push(TxnOp::put(self.path(key), attrs.to_json(), Some(options)));
        let outcome = match self.commit("write a lease", when, then).await {
            // For a reservation nothing is given back, and whoever reads the key sees the write.
            Ok(None) if grant.id != 0 => self.own_write(key, grant).await,
            outcome => outcome,
        };
        // A write that nobody has answered may still happen, and needs its etcd lease.
        if !matches!(outcome, Ok(Some(_)) | Err(Failure::Unreachable)) {
            self.give_back(grant.id).await;
        }
        outcome
    }

    /// The revision at which this grant was written to a key, if it was.
    async fn own_write(&self, key: &SubnetKey, grant: Grant) -> Result<Option<i64>, Failure> {
        let (_, entry) = self.get(key).await?;
        let own = entry.filter(|entry| entry.lease_id == grant.id);
        Ok(own.map(|entry| entry.mod_revision))
    }

    /// Follow one lease from now on.
    pub(crate) async fn watch(&self, key: &SubnetKey) -> Result<WatchStream, Failure> {
        stream::open(&self.connection, &self.path(key), Scope::Key, Since::Now).await
    }

    /// A key with its value; `None`, with a warning, if the key is no lease's.
    pub(crate) fn entry(&self, kv: &KeyValue) -> Option<Entry> {
        Some(Entry::of(self.key(kv)?, kv))
    }

    /// The lease that a key names; `None`, with a warning, if it names none.
    pub(crate) fn key(&self, kv: &KeyValue) -> Option<SubnetKey> {
        let path = String::from_utf8_lossy(kv.key());
        let key = path
            .parse()
            .ok()
            .filter(|key: &SubnetKey| self.path(key) == path);
        if key.is_none() {
            let ignored = || format!("ignoring etcd key \"{}\": it names no subnet", shown(&path));
            self.warned.warn(&path, ignored);
        }
        key
    }

    /// Warn of a lease whose value cannot be read.
    pub(crate) fn warn_of_value(&self, key: &SubnetKey, reason: &str) {
        let ignored = || format!("ignoring the value of lease {key} in etcd: {reason}");
        self.warned.warn(&self.path(key), ignored);
    }
}

/// A prefix with single slashes and one at its end, as Go's `path.Join` makes them.
pub(crate) fn normalised(prefix: &str) -> String {
    let root = if prefix.starts_with('/') { "/" } else { "" };
    let parts = prefix.split('/').filter(|part| !part.is_empty());
    parts.fold(root.to_owned(), |path, part| path + part + "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_joined_as_go_does() {
        for (prefix, path) in [
            ("/coreos.com/network", "/coreos.com/network/"),
            ("/coreos.com//network/", "/coreos.com/network/"),
            ("network", "network/"),
            ("/", "/"),
            ("", ""),
        ] {
            assert_eq!(normalised(prefix), path, "{prefix}");
        }
    }
}
