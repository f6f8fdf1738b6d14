//! A key under `<prefix>/subnets`, as operators see it.

use crate::config::NetworkConfig;
use crate::family::Family;
use crate::lease::{LeaseAttrs, SubnetKey, VxlanData};
use crate::wire::MacAddr;
use etcd_client::KeyValue;
use serde_json::{Value, json};
use std::time::Duration;

/// All leases of a network.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The network config, or why there is none.
    pub config: Result<NetworkConfig, String>,
    /// Sorted by subnet; keys that name none are last.
    pub records: Vec<Record>,
}

/// One key.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name, what follows `<prefix>/subnets/`.
    pub key: String,
    /// The subnets that the name stands for; `None`: it stands for none.
    pub subnets: Option<SubnetKey>,
    /// The value as it is stored.
    pub value: String,
    /// What the value says, or what is wrong with it.
    pub attrs: Result<LeaseAttrs, String>,
    /// How long the key lives.
    pub life: Life,
    /// The etcd lease that the key hangs on; 0: none.
    pub etcd_lease: i64,
    /// etcd's revision of the last change.
    pub revision: i64,
    /// What is wrong with the lease, one line each.
    pub conflicts: Vec<String>,
}

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// For ever: it hangs on no etcd lease.
    Reserved,
    /// Until its etcd lease is over, which has not been asked for.
    Unasked,
    /// Until its etcd lease is over. etcd knows no times of day: the renewal was as long ago
    /// as is missing from what was granted.
    Leased {
        /// What the node was granted.
        granted: Duration,
        /// What is left of it.
        left: Duration,
    },
}

impl Life {
    /// How long ago the lease was taken or renewed.
    pub fn renewed(&self) -> Option<Duration> {
        match self {
            Life::Reserved | Life::Unasked => None,
            Life::Leased { granted, left } => Some(granted.saturating_sub(*left)),
        }
    }
}

impl Record {
    /// A key whose path begins with `prefix`.
    pub(super) fn of(kv: &KeyValue, prefix: &str) -> Record {
        let path = String::from_utf8_lossy(kv.key());
        let key = path.strip_prefix(prefix).unwrap_or(&path).to_owned();
        let value = String::from_utf8_lossy(kv.value()).into_owned();
        let subnets: Option<SubnetKey> = key.parse().ok();
        Record {
            // What follows a further slash would be parsed, too.
            subnets: subnets.filter(|subnets| subnets.to_string() == key),
            attrs: LeaseAttrs::parse(&value).map_err(|error| error.to_string()),
            key,
            value,
            life: match kv.lease() {
                0 => Life::Reserved,
                _ => Life::Unasked,
            },
            etcd_lease: kv.lease(),
            revision: kv.mod_revision(),
            conflicts: Vec::new(),
        }
    }

    /// The MAC addresses that a vxlan node's peers send to, for IPv4 and for IPv6.
    pub fn macs(&self) -> [Option<MacAddr>; 2] {
        let Ok(attrs) = &self.attrs else {
            return [None; 2];
        };
        let mac = |data: VxlanData| data.vtep_mac;
        Family::BOTH.map(|family| attrs.vxlan_data(family).ok().map(mac))
    }

    /// The type of backend as peers understand it; `None` if the value says none, as those
    /// of udp and alloc do.
    pub fn backend(&self) -> Option<&str> {
        let kind = &self.attrs.as_ref().ok()?.backend_type;
        (!kind.is_empty()).then_some(kind)
    }

    /// Everything, for programs.
    pub fn to_json(&self) -> Value {
        let attrs = self.attrs.as_ref().ok();
        let [mac, mac_v6] = self.macs().map(|mac| mac.map(|mac| mac.to_string()));
        let (ttl, granted) = match self.life {
            Life::Reserved | Life::Unasked => (None, None),
            Life::Leased { granted, left } => (Some(left.as_secs()), Some(granted.as_secs())),
        };
        json!({
            "key": self.key,
            "subnet": self.subnets.and_then(|subnets| subnets.v4),
            "ipv6_subnet": self.subnets.and_then(|subnets| subnets.v6),
            "public_ip": attrs.map(|attrs| attrs.public_ip),
            "public_ipv6": attrs.and_then(|attrs| attrs.public_ipv6),
            "backend": self.backend(),
            "mac": mac,
            "mac_ipv6": mac_v6,
            "reserved": self.life == Life::Reserved,
            "ttl_seconds": ttl,
            "granted_seconds": granted,
            "renewed_seconds_ago": self.life.renewed().map(|ago| ago.as_secs()),
            "etcd_lease": (self.etcd_lease != 0).then(|| format!("{:x}", self.etcd_lease)),
            "revision": self.revision,
            "value": self.value,
            "conflicts": self.conflicts,
        })
    }
}
