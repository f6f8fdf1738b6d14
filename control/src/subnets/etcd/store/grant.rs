//! etcd's own leases: what a key hangs on that is to go by itself.

use super::Store;
use crate::subnets::etcd::client::Failure;
use etcd_client::{Client, LeaseTimeToLiveOptions, LeaseTimeToLiveResponse};
use std::time::{Duration, Instant};

/// An etcd lease just granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    /// 0 for none.
    pub(crate) id: i64,
    /// When it ends if it is not renewed.
    pub(crate) expires: Option<Instant>,
}

/// The grant of a key that stays for ever.
pub(crate) const RESERVATION: Grant = Grant {
    id: 0,
    expires: None,
};

impl Store {
    /// A fresh etcd lease.
    pub(crate) async fn grant(&self) -> Result<Grant, Failure> {
        let ttl = self.timing().lease_ttl.as_secs() as i64;
        let asked = Instant::now();
        let grant = |client: Client| async move { client.lease_client().grant(ttl, None).await };
        let response = self.connection.call("grant an etcd lease", grant).await?;
        let ttl = Duration::from_secs(response.ttl().try_into().unwrap_or(0));
        Ok(Grant {
            id: response.id(),
            expires: Some(asked + ttl),
        })
    }

    /// Give back an etcd lease that this node's key hung on before, or should have, unless some
    /// key does: etcd deletes the keys of a lease that is revoked.
    pub(crate) async fn give_back(&self, lease_id: i64) {
        if lease_id == 0 {
            return;
        }
        let ask = |client: Client| async move {
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
        let revoke = |client: Client| async move { client.lease_client().revoke(lease_id).await };
        let _ = self.connection.call("revoke an etcd lease", revoke).await;
    }

    /// When an etcd lease ends; at once if it already has.
    pub(crate) async fn expiry(&self, lease_id: i64) -> Result<Option<Instant>, Failure> {
        if lease_id == 0 {
            return Ok(None);
        }
        let asked = Instant::now();
        let response = self.time_to_live(lease_id).await?;
        let left = Duration::from_secs(response.ttl().try_into().unwrap_or(0));
        Ok(Some(asked + left))
    }

    /// What is left of an etcd lease; a TTL of -1 is etcd's word for one that is no more.
    pub(crate) async fn time_to_live(
        &self,
        lease_id: i64,
    ) -> Result<LeaseTimeToLiveResponse, Failure> {
        let ask = |client: Client| async move {
            client.lease_client().time_to_live(lease_id, None).await
        };
        self.connection.call("tell a lease's end", ask).await
    }
}
