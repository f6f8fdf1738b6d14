//! A key under `<prefix>/subnets` that is a lease's, as the agent reads it.

use crate::lease::{LeaseAttrs, SubnetKey};
use etcd_client::KeyValue;

/// A key that names a lease, with its value.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: SubnetKey,
    /// The value, or what is wrong with it.
    pub(crate) attrs: Result<LeaseAttrs, String>,
    pub(crate) mod_revision: i64,
    /// The revision since which the key has been there without a break.
    pub(crate) create_revision: i64,
    /// The etcd lease that the key hangs on; 0: none, the key stays for ever.
    pub(crate) lease_id: i64,
}

impl Entry {
    /// What etcd holds under `key`.
    pub(crate) fn of(key: SubnetKey, kv: &KeyValue) -> Entry {
        Entry {
            key,
            attrs: attrs(kv.value()),
            mod_revision: kv.mod_revision(),
            create_revision: kv.create_revision(),
            lease_id: kv.lease(),
        }
    }

    /// Whether the key stays until someone deletes it.
    pub(crate) fn is_reservation(&self) -> bool {
        self.lease_id == 0
    }

    /// Whether the value is a lease of the node with these attributes.
    pub(crate) fn is_of(&self, node: &LeaseAttrs) -> bool {
        let attrs = self.attrs.as_ref();
        attrs.is_ok_and(|attrs| attrs.same_node(node))
    }
}

fn attrs(value: &[u8]) -> Result<LeaseAttrs, String> {
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8 text".to_owned())?;
    LeaseAttrs::parse(text).map_err(|error| error.to_string())
}
