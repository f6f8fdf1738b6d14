//! Watches as etcd has them.

use super::position::MESSAGE_MAX;
use crate::subnets::etcd::client::{Connection, Failure, refusal};
use etcd_client::{Client, Error, WatchOptions, WatchStream};

/// Which keys to watch.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Key,
    /// All that begin so.
    Below,
}

/// From where on to watch.
#[derive(Clone, Copy)]
pub(crate) enum Since {
    Now,
    Revision(i64),
}

/// A watch that stands: the server has said so.
pub(crate) async fn open(
    connection: &Connection,
    path: &str,
    scope: Scope,
    since: Since,
) -> Result<WatchStream, Failure> {
    let options = match since {
        Since::Now => WatchOptions::new(),
        Since::Revision(from) => WatchOptions::new().with_start_revision(from),
    };
    let options = match scope {
        Scope::Key => options,
        Scope::Below => options.with_prefix(),
    };
    let watch = |client: Client| {
        let options = options.clone();
        async move {
            let mut watch = client.watch_client().max_decoding_message_size(MESSAGE_MAX);
            let mut stream = watch.watch(path, Some(options)).await?;
            match stream.message().await? {
                // What it was cancelled for may be a matter of who asks; else it is told again.
                Some(first) if first.canceled() => {
                    let reason = first.cancel_reason();
                    let refusal = refusal::of_cancelled_watch(reason);
                    Err(refusal.unwrap_or_else(|| Error::WatchError(refusal::cancelled(reason))))
                }
                Some(_) => Ok(stream),
                None => Err(Error::WatchError("the stream ended at once".into())),
            }
        }
    };
    connection.call("watch leases", watch).await
}
