//! What is remembered, as text, and whether it may be used.

use super::clock::{Clock, SinceBoot, instant_at, seconds_at};
use crate::config::NetworkConfig;
use crate::family::PerFamily;
use crate::lease::{Lease, LeaseAttrs, SubnetKey};
use crate::subnets::LeaseEvent;
use crate::text::{one_line, shown, span};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// How far the end of a lease may be away: the life of one in etcd, and an hour for clocks that
/// are put right meanwhile.
const LIFE_MAX: u64 = 25 * 3600;

/// How much a clock may be put back without a word.
const CLOCK_SLACK: u64 = 60;

/// The other nodes, by their leases. What the thread that writes holds is not copied.
pub(super) type Peers = Arc<BTreeMap<SubnetKey, Arc<LeaseAttrs>>>;

/// What a node knew of its network when it last wrote it down.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Memory {
    /// When that was, in seconds since 1970.
    pub(super) written: u64,
    /// The same by a clock that nobody sets.
    pub(super) since_boot: Option<SinceBoot>,
    /// The network config as it was stored.
    pub(super) config: String,
    /// The addresses that the store wanted this node to advertise.
    pub(super) advertised: PerFamily<Option<IpAddr>>,
    pub(super) own: Own,
    pub(super) peers: Peers,
}

/// The node's own lease.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Own {
    pub(super) key: SubnetKey,
    pub(super) attrs: LeaseAttrs,
    pub(super) revision: i64,
    /// In seconds since 1970; `None` for a reservation, which never ends.
    pub(super) ends: Option<u64>,
}

/// The text of a memory. Keys and values of leases are those that they have in etcd, whatever the
/// store.
#[derive(Serialize, Deserialize)]
struct Content {
    written: u64,
    since_boot: Option<SinceBoot>,
    /// Path of the network in its store.
    prefix: String,
    config: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_ip: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    public_ipv6: Option<Ipv6Addr>,
    lease: String,
    attrs: Box<RawValue>,
    revision: i64,
    /// Must be there: a lease whose end got lost would never end.
    #[serde(deserialize_with = "Option::deserialize")]
    ends: Option<u64>,
    peers: BTreeMap<String, Box<RawValue>>,
}

impl Memory {
    /// Read a memory of the network with this prefix. The error is one line.
    pub(super) fn parse(content: &[u8], prefix: &str) -> Result<Memory, String> {
        let content: Content = serde_json::from_slice(content)
            .map_err(|error| format!("it cannot be read: {}", one_line(&error.to_string())))?;
        if content.prefix != prefix {
            let other = shown(&content.prefix);
            return Err(format!("it is of the network {other}, not of {prefix}"));
        }
        NetworkConfig::parse(&content.config).map_err(|error| error.to_string())?;
        let mut peers = BTreeMap::new();
        for (key, attrs) in &content.peers {
            let (key, attrs) = lease(key, attrs)?;
            peers.insert(key, Arc::new(attrs));
        }
        let (key, attrs) = lease(&content.lease, &content.attrs)?;
        Ok(Memory {
            written: content.written,
            since_boot: content.since_boot,
            config: content.config,
            advertised: PerFamily {
                v4: content.public_ip.map(IpAddr::V4),
                v6: content.public_ipv6.map(IpAddr::V6),
            },
            own: Own {
                key,
                attrs,
                revision: content.revision,
                ends: content.ends,
            },
            peers: Arc::new(peers),
        })
    }

    /// The text that [`Memory::parse`] reads.
    pub(super) fn render(&self, prefix: &str) -> Vec<u8> {
        let peers = self.peers.iter();
        let (public_ip, public_ipv6) = self.advertised.typed();
        let content = Content {
            written: self.written,
            since_boot: self.since_boot.clone(),
            prefix: prefix.to_owned(),
            config: self.config.clone(),
            public_ip,
            public_ipv6,
            lease: self.own.key.to_string(),
            attrs: raw(&self.own.attrs),
            revision: self.own.revision,
            ends: self.own.ends,
            peers: peers
                .map(|(key, attrs)| (key.to_string(), raw(attrs)))
                .collect(),
        };
        // Texts and numbers: nothing that could fail.
        serde_json::to_vec(&content).unwrap_or_default()
    }

    /// Say that it is written at this moment.
    pub(super) fn stamp(&mut self, now: Clock) {
        self.written = now.now;
        self.since_boot = SinceBoot::at(now);
    }

    /// Have its times by the host's clock as it goes `now`, if somebody has set that since.
    fn follow_clock(&mut self, now: Clock) {
        let Some(since_boot) = &self.since_boot else {
            return;
        };
        let set = since_boot.set_since(self.written, now);
        self.written = self.written.saturating_add_signed(set);
        self.own.follow_clock(set);
    }

    /// Why this must not be used at present, if so.
    pub(super) fn refusal_now(&mut self, use_ended: bool) -> Option<String> {
        let now = Clock::read();
        self.follow_clock(now);
        self.refusal(now.now, use_ended)
    }

    /// Why this must not be used at the time `now`, in seconds since 1970, if so.
    fn refusal(&self, now: u64, use_ended: bool) -> Option<String> {
        if self.written > now + CLOCK_SLACK {
            let ahead = span(Duration::from_secs(self.written - now));
            return Some(format!(
                "it was written {ahead} from now, by this host's clock"
            ));
        }
        let key = self.own.key;
        match self.own.ends {
            Some(ends) if ends > now.saturating_add(LIFE_MAX) => {
                let left = span(Duration::from_secs(ends - now));
                Some(format!(
                    "the lease {key} in it ends in {left}, which no lease does"
                ))
            }
            Some(ends) if ends <= now && !use_ended => {
                let ago = span(Duration::from_secs(now - ends));
                Some(format!(
                    "the lease {key} in it ended {ago} ago, and another node may have it (-use-ended-lease uses it all the same)"
                ))
            }
            _ => None,
        }
    }

    /// Why it is of no use to a node with these attributes in this network, if so.
    /// `allows` knows the subnets that the config allows.
    pub(super) fn mismatch(
        &self,
        config: &NetworkConfig,
        attrs: &LeaseAttrs,
        allows: impl Fn(&SubnetKey) -> bool,
    ) -> Option<String> {
        let Own {
            key, attrs: own, ..
        } = &self.own;
        if NetworkConfig::parse(&self.config).as_ref() != Ok(config) {
            return Some("the network config is another by now".to_owned());
        }
        if !allows(key) {
            return Some(format!("the network config does not allow the lease {key}"));
        }
        if !own.same_node(attrs) {
            let (of, this) = (own.identity(), attrs.identity());
            return Some(format!("the lease {key} in it is of {of}, not of {this}"));
        }
        if own.macs() != attrs.macs() {
            return Some(format!("the lease {key} in it has another MAC"));
        }
        (own != attrs).then(|| format!("the lease {key} in it has other attributes"))
    }
}

/// All other nodes, as a store tells them.
pub(super) fn snapshot(peers: &Peers) -> LeaseEvent {
    let lease = |(key, attrs): (&SubnetKey, &Arc<LeaseAttrs>)| Lease {
        subnet: key.v4,
        subnet_v6: key.v6,
        attrs: LeaseAttrs::clone(attrs),
        expires: None,
        revision: 0,
    };
    LeaseEvent::Snapshot(peers.iter().map(lease).collect())
}

impl Own {
    pub(super) fn of(lease: &Lease) -> Own {
        Own {
            key: lease.key(),
            attrs: lease.attrs.clone(),
            revision: lease.revision,
            ends: lease.expires.map(seconds_at),
        }
    }

    /// The time of day was set by so many seconds.
    pub(super) fn follow_clock(&mut self, set: i64) {
        self.ends = self.ends.map(|ends| ends.saturating_add_signed(set));
    }

    pub(super) fn lease(&self) -> Lease {
        Lease {
            subnet: self.key.v4,
            subnet_v6: self.key.v6,
            attrs: self.attrs.clone(),
            expires: self.ends.map(instant_at),
            revision: self.revision,
        }
    }
}

fn lease(key: &str, attrs: &RawValue) -> Result<(SubnetKey, LeaseAttrs), String> {
    let in_lease = |reason: String| format!("lease \"{}\" in it: {reason}", shown(key));
    let parsed = key.parse().ok();
    let spelt = parsed.filter(|parsed: &SubnetKey| parsed.to_string() == key);
    let subnets = spelt.ok_or_else(|| in_lease("it names no subnet".to_owned()))?;
    let attrs = LeaseAttrs::parse(attrs.get()).map_err(|error| in_lease(error.to_string()))?;
    Ok((subnets, attrs))
}

fn raw(attrs: &LeaseAttrs) -> Box<RawValue> {
    RawValue::from_string(attrs.to_json()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests;
