//! What is common to etcd's answers.

use etcd_client::{Error, ResponseHeader};

/// Longest message taken from etcd, in bytes.
pub(crate) const MESSAGE_MAX: usize = 256 << 20;

/// A point in the history of an etcd cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
}

/// Where an answer with this header was given.
pub(crate) fn position(header: Option<&ResponseHeader>) -> Result<Position, Error> {
    let header = header.ok_or_else(|| Error::Internal("a response without a header".into()))?;
    Ok(Position {
        cluster: header.cluster_id(),
        revision: header.revision(),
    })
}
