//! All keys under a prefix, as they were at one moment.

use super::connection::{Connection, Failure};
use super::refusal;
use super::store::{MESSAGE_MAX, Position, position};
use etcd_client::{Client, Error, GetOptions, KeyValue};

/// How many keys one answer holds: some hundred kilobytes of leases.
const PAGE: i64 = 2000;

/// How often a list is begun, if etcd drops the revision that it is read at meanwhile.
const TRIES_MAX: usize = 3;

/// The keys that begin with `prefix`, which ends with a slash, in their order.
///
/// The pages are one request for [`Connection::call`]: one server answers them all, and after a
/// failure the next one begins anew.
pub(super) async fn list(
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
    let mut kv = client.kv_client().max_decoding_message_size(MESSAGE_MAX);
    let mut from = prefix.as_bytes().to_vec();
    let mut end = from.clone();
    // What begins with `a/` lies before `a0`.
    end.pop();
    end.push(b'/' + 1);
    let mut all: Vec<KeyValue> = Vec::new();
    let mut at: Option<Position> = None;
    loop {
        let revision = at.map_or(0, |at| at.revision);
        let options = GetOptions::new()
            .with_range(end.clone())
            .with_limit(PAGE)
            .with_revision(revision);
        let mut page = kv.get(from, Some(options)).await?;
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
