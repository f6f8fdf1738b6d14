//! What is read from and written to etcd, in terms of leases.

use super::EtcdOptions;
use super::connection::{Connection, Failure};
use super::feed::{self, Feed, Keys, Since};
use super::once::Warned;
use super::{SubnetError, Timing, list};
use crate::lease::{LeaseAttrs, SubnetKey};
use crate::text::shown;
use etcd_client::{
    Compare, CompareOp, Error, KeyValue, LeaseTimeToLiveOptions, PutOptions, ResponseHeader, Txn,
    TxnOp, WatchStream,
};
use std::time::{Duration, Instant};

/// Longest message taken from etcd, in bytes.
pub(super) const MESSAGE_MAX: usize = 256 << 20;

/// The keys of one network in etcd.
pub(super) struct Store {
    connection: Connection,
    prefix: String,
    /// Keys that cannot be used.
    warned: Warned,
}

/// A point in the history of an etcd cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) cluster: u64,
    pub(super) revision: i64,
}

/// A key under `<prefix>/subnets`.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: SubnetKey,
    /// The value, or what is wrong with it.
    pub(super) attrs: Result<LeaseAttrs, String>,
    pub(super) mod_revision: i64,
    /// The revision since which the key has been there without a break.
    pub(super) create_revision: i64,
    /// The etcd lease that the key hangs on; 0: none, the key stays for ever.
    pub(super) lease_id: i64,
}

impl Entry {
    /// Whether the key stays until someone deletes it.
    pub(super) fn is_reservation(&self) -> bool {
        self.lease_id == 0
    }

    /// Whether the value is a lease of the node with these attributes.
    pub(super) fn is_of(&self, node: &LeaseAttrs) -> bool {
        let attrs = self.attrs.as_ref();
        attrs.is_ok_and(|attrs| attrs.same_node(node))
    }
}

/// An etcd lease just granted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// 0 for none.
    pub(super) id: i64,
    /// When it ends if it is not renewed.
    pub(super) expires: Option<Instant>,
}

/// The grant of a key that stays for ever.
pub(super) const RESERVATION: Grant = Grant {
    id: 0,
    expires: None,
};

impl Store {
    pub(super) fn new(options: &EtcdOptions, timing: Timing) -> Result<Store, SubnetError> {
        let prefix = normalised(&options.prefix);
        Ok(Store {
            connection: Connection::new(options, &prefix, timing)?,
            prefix,
            warned: Warned::default(),
        })
    }

    pub(super) fn timing(&self) -> &Timing {
        self.connection.timing()
    }

    /// The key of the network config.
    pub(super) fn config_key(&self) -> String {
        format!("{}config", self.prefix)
    }

    /// The etcd key of a lease.
    pub(super) fn path(&self, key: &SubnetKey) -> String {
        format!("{}subnets/{key}", self.prefix)
    }

    /// The network config; waits for etcd.
    pub(super) async fn config(&self) -> Option<Vec<u8>> {
        let key = self.config_key();
        let read = |client: etcd_client::Client| {
            let key = key.clone();
            async move { client.kv_client().get(key, None).await }
        };
        let response = self
            .connection
            .insist("read the network config", read)
            .await;
        let kv = response.kvs().first()?;
        Some(kv.value().to_vec())
    }

    /// All leases, sorted by key. Malformed keys are left out with a warning.
    pub(super) async fn list(&self) -> Result<Vec<Entry>, Failure> {
        let (_, keys) = list::list(&self.connection, &self.path_of_leases()).await?;
        Ok(keys.iter().filter_map(|kv| self.entry(kv)).collect())
    }

    /// All keys of leases, and what happens to them.
    pub(super) fn feed(&self) -> Feed<'_> {
        Feed::new(&self.connection, self.path_of_leases())
    }

    /// One lease.
    pub(super) async fn get(&self, key: &SubnetKey) -> Result<(Position, Option<Entry>), Failure> {
        let path = self.path(key);
        let read = |client: etcd_client::Client| {
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
    pub(super) async fn put_if(
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
    pub(super) async fn replace(
        &self,
        old: &[&Entry],
        key: &SubnetKey,
        attrs: &LeaseAttrs,
        grant: Grant,
    ) -> Result<Option<i64>, Failure> {
        let same = |entry: &&Entry| self.unchanged(&entry.key, entry.mod_revision);
        let mut when: Vec<Compare> = old.iter().map(same).collect();
        when.push(self.unchanged(key, 0));
        let delete = |entry: &&Entry| TxnOp::delete(self.path(&entry.key), None);
        let deletes = old.iter().map(delete).collect();
        self.write(when, deletes, key, attrs, grant).await
    }

    /// Delete a lease; whether it was still as in `entry`.
    pub(super) async fn remove(&self, entry: &Entry) -> Result<bool, Failure> {
        let when = [self.unchanged(&entry.key, entry.mod_revision)];
        let delete = TxnOp::delete(self.path(&entry.key), None);
        let txn = Txn::new().when(when).and_then([delete]);
        let remove = |client: etcd_client::Client| {
            let txn = txn.clone();
            async move { client.kv_client().txn(txn).await }
        };
        let response = self.connection.call("delete a lease", remove).await?;
        Ok(response.succeeded())
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
        let txn = Txn::new().when(when).and_then(then);
        let write = |client: etcd_client::Client| {
            let txn = txn.clone();
            async move {
                let response = client.kv_client().txn(txn).await?;
                let position = position(response.header())?;
                Ok(response.succeeded().then_some(position.revision))
            }
        };
        let outcome = match self.connection.call("write a lease", write).await {
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

    /// A fresh etcd lease.
    pub(super) async fn grant(&self) -> Result<Grant, Failure> {
        let ttl = self.timing().lease_ttl.as_secs() as i64;
        let asked = Instant::now();
        let grant = |client: etcd_client::Client| async move {
            client.lease_client().grant(ttl, None).await
        };
        let response = self.connection.call("grant an etcd lease", grant).await?;
        let ttl = Duration::from_secs(response.ttl().try_into().unwrap_or(0));
        Ok(Grant {
            id: response.id(),
            expires: Some(asked + ttl),
        })
    }

    /// Give back an etcd lease that this node's key hung on before, or should have, unless some
    /// key does: etcd deletes the keys of a lease that is revoked.
    pub(super) async fn give_back(&self, lease_id: i64) {
        if lease_id == 0 {
            return;
        }
        let ask = |client: etcd_client::Client| async move {
            let options = LeaseTimeToLiveOptions::new().with_keys();
            let mut leases = client.lease_client();
            leases.time_to_live(lease_id, Some(options)).await
        };
        let answer = self.connection.call("tell a lease's keys", ask).await;
        if answer.is_ok_and(|lease| lease.ttl() > 0 && lease.keys().is_empty()) {
            self.revoke(lease_id).await;
        }
    }

    /// Revoke an etcd lease that no key hangs on. A failure does no harm: it times out.
    async fn revoke(&self, lease_id: i64) {
        let revoke = |client: etcd_client::Client| async move {
            client.lease_client().revoke(lease_id).await
        };
        let _ = self.connection.call("revoke an etcd lease", revoke).await;
    }

    /// When an etcd lease ends; at once if it already has.
    pub(super) async fn expiry(&self, lease_id: i64) -> Result<Option<Instant>, Failure> {
        if lease_id == 0 {
            return Ok(None);
        }
        let ask = |client: etcd_client::Client| async move {
            client.lease_client().time_to_live(lease_id, None).await
        };
        let asked = Instant::now();
        let response = self.connection.call("tell a lease's end", ask).await?;
        let left = Duration::from_secs(response.ttl().try_into().unwrap_or(0));
        Ok(Some(asked + left))
    }

    /// Follow one lease from now on.
    pub(super) async fn watch(&self, key: &SubnetKey) -> Result<WatchStream, Failure> {
        feed::watch(&self.connection, &self.path(key), Keys::One, Since::Now).await
    }

    /// A key with its value; `None`, with a warning, if the key is no lease's.
    pub(super) fn entry(&self, kv: &KeyValue) -> Option<Entry> {
        Some(Entry {
            key: self.key(kv)?,
            attrs: attrs(kv.value()),
            mod_revision: kv.mod_revision(),
            create_revision: kv.create_revision(),
            lease_id: kv.lease(),
        })
    }

    /// The lease that a key names; `None`, with a warning, if it names none.
    pub(super) fn key(&self, kv: &KeyValue) -> Option<SubnetKey> {
        let path = String::from_utf8_lossy(kv.key());
        let key = path.parse().ok().filter(|key| self.path(key) == path);
        if key.is_none() {
            let ignored = || format!("ignoring etcd key \"{}\": it names no subnet", shown(&path));
            self.warned.warn(&path, ignored);
        }
        key
    }

    /// Warn of a lease whose value cannot be read.
    pub(super) fn warn_of_value(&self, key: &SubnetKey, reason: &str) {
        let ignored = || format!("ignoring the value of lease {key} in etcd: {reason}");
        self.warned.warn(&self.path(key), ignored);
    }

    fn path_of_leases(&self) -> String {
        format!("{}subnets/", self.prefix)
    }
}

fn attrs(value: &[u8]) -> Result<LeaseAttrs, String> {
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8 text".to_owned())?;
    LeaseAttrs::parse(text).map_err(|error| error.to_string())
}

pub(super) fn position(header: Option<&ResponseHeader>) -> Result<Position, Error> {
    let header = header.ok_or_else(|| Error::Internal("a response without a header".into()))?;
    Ok(Position {
        cluster: header.cluster_id(),
        revision: header.revision(),
    })
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
