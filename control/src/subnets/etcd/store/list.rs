//! All keys under a prefix, as they were at one moment.

use super::position::{MESSAGE_MAX, Position, position};
use crate::subnets::etcd::client::{Connection, Failure, refusal};
use crate::text::shown;
use etcd_client::{Client, Error, GetOptions, KeyValue};
use tonic::Status;

/// How many keys one answer holds at most: some hundred kilobytes of leases.
const PAGE: i64 = 2000;

/// Longest answer with several keys, in bytes. Leases never come near; if other values do, the
/// list goes on with fewer keys at a time.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// How often a list is begun, if etcd drops the revision that it is read at meanwhile.
const TRIES_MAX: usize = 3;

/// The keys that begin with `prefix`, which ends with a slash, in their order.
///
/// The pages are one request for [`Connection::call`]: one server answers them all, and after a
/// failure the next one begins anew.
pub(crate) async fn list(
    connection: &Connection,
    prefix: &str,
) -> Result<(Position, Vec<KeyValue>), Failure> {
    let read = |client: Client| async move {
        let mut tries = 0;
        loop {
            tries += 1;
            match pages(&client, prefix).await {
                Err(error) if refusal::is_about_revision(&error) && tries < TRIES_MAX => {}
                outcome => return outcome,
            }
        }
    };
    connection.call("list leases", read).await
}

async fn pages(client: &Client, prefix: &str) -> Result<(Position, Vec<KeyValue>), Error> {
    let mut from = prefix.as_bytes().to_vec();
    let mut end = from.clone();
    // What begins with `a/` lies before `a0`.
    end.pop();
    end.push(b'/' + 1);
    let mut all: Vec<KeyValue> = Vec::new();
    let mut at: Option<Position> = None;
    let mut size = PAGE;
    loop {
        let bytes = if size > 1 {
            PAGE_BYTES_MAX
        } else {
            MESSAGE_MAX
        };
        let mut kv = client.kv_client().max_decoding_message_size(bytes);
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(size)
            .with_revision(at.map_or(0, |at| at.revision));
        let mut page = match kv.get(from.clone(), Some(options.clone())).await {
            Err(error) if refusal::is_about_length(&error) && size > 1 => {
                size /= 2;
                continue;
            }
            Err(error) if refusal::is_about_length(&error) => {
                let key = kv.get(from, Some(options.with_keys_only())).await?;
                let key = key.kvs().first().map_or(&[][..], KeyValue::key);
                return Err(unreadable(key));
            }
            outcome => outcome?,
        };
        let now = position(page.header())?;
        let at = *at.get_or_insert(now);
        if now.cluster != at.cluster {
            return Err(Error::Internal("the cluster is another than before".into()));
        }
        all.append(&mut page.take_kvs());
        match all.last() {
            Some(last) if page.more() => from = [last.key(), b"\0"].concat(),
            _ => return Ok((at, all)),
        }
    }
}

/// What is said of a key without which there is no list.
fn unreadable(key: &[u8]) -> Error {
    let key = String::from_utf8_lossy(key);
    Error::GRpcStatus(Status::data_loss(format!(
        "the value of key \"{}\" is longer than {} MiB and no lease; delete it",
        shown(&key),
        MESSAGE_MAX >> 20
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_cannot_be_read_is_named_with_what_to_do() {
        let error = unreadable(b"/coreos.com/network/subnets/junk\n");
        assert!(
            refusal::is_answer(&error),
            "told, and not held against the server"
        );
        assert!(
            !refusal::is_about_revision(&error),
            "not tried at once again"
        );
        assert_eq!(
            refusal::describe(&error),
            "the value of key \"/coreos.com/network/subnets/junk\\n\" is longer than 256 MiB and no lease; delete it"
        );
    }
}
