//! Objects, the changes that they went through, and one version for all of them.

use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

#[cfg(test)]
mod tests;

/// Changes that are remembered unless told otherwise.
pub(super) const HISTORY: usize = 10_000;

/// Which object. In this order lists have them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// `nodes`, `daemonsets.apps`.
    pub(super) kind: String,
    /// Empty for what belongs to the cluster.
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(kind: &str, namespace: &str, name: &str) -> Key {
        Key {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Where to look for objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) kind: String,
    /// `None`: everywhere.
    pub(super) namespace: Option<String>,
}

impl Scope {
    fn contains(&self, key: &Key) -> bool {
        let namespace = self.namespace.as_ref();
        self.kind == key.kind && namespace.is_none_or(|namespace| *namespace == key.namespace)
    }
}

/// An object as it was at a version. Kept as text: lists and watches are made of that.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: Key,
    pub(super) labels: BTreeMap<String, String>,
    /// JSON, its version in it, without `kind` and `apiVersion`, as items of lists have it.
    pub(super) json: Bytes,
}

impl Stored {
    pub(super) fn new(key: Key, version: u64, mut value: Value) -> Stored {
        if let Some(fields) = value.as_object_mut() {
            fields.remove("kind");
            fields.remove("apiVersion");
        }
        value["metadata"]["resourceVersion"] = version.to_string().into();
        let labels = value["metadata"]["labels"]
            .as_object()
            .into_iter()
            .flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let labels = labels.map(|(label, value)| (label.clone(), text(value)));
        Stored {
            labels: labels.collect(),
            json: value.to_string().into(),
            key,
        }
    }

    /// The object, without `kind` and `apiVersion`.
    pub(super) fn value(&self) -> Value {
        // It was made by the same library.
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// JSON with `kind` and `apiVersion`.
    pub(super) fn typed(&self, kind: &str, api_version: &str) -> Bytes {
        let mut text = format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","#).into_bytes();
        text.extend_from_slice(&self.json[1..]);
        text.into()
    }
}

/// One object came, changed or went.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) version: u64,
    /// As it is since; of one that went, as it was, with the version of its end.
    pub(super) object: Arc<Stored>,
    /// As it was; `None` if it came.
    pub(super) before: Option<Arc<Stored>>,
    pub(super) deleted: bool,
}

/// What to do with an object.
#[derive(Debug)]
pub(super) enum Write {
    /// Nothing is stored if it is as it was.
    Put(Value),
    Delete,
    Keep,
}

/// What was done with it.
#[derive(Debug)]
pub(super) struct Written {
    /// As it is, or was before it was deleted.
    pub(super) object: Option<Arc<Stored>>,
    pub(super) version: u64,
}

/// A list, consistent at a version.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) objects: Vec<Arc<Stored>>,
}

/// What would be needed of the history is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forgotten {
    /// The oldest version from which changes are known.
    pub(super) oldest: u64,
}

#[derive(Debug)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Arc<Stored>>,
    history: VecDeque<Arc<Change>>,
    limit: usize,
    /// All changes after this version are in the history.
    oldest: u64,
}

/// The store.
#[derive(Debug)]
pub(super) struct Store {
    state: Mutex<State>,
    latest: watch::Sender<u64>,
}

impl Store {
    /// An empty one that remembers `limit` changes.
    pub(super) fn new(limit: usize) -> Store {
        Store {
            state: Mutex::new(State {
                version: 1,
                objects: BTreeMap::new(),
                history: VecDeque::new(),
                limit,
                oldest: 1,
            }),
            latest: watch::Sender::new(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version of the last change; its receivers see when there are others.
    pub(super) fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    pub(super) fn version(&self) -> u64 {
        self.state().version
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.state().objects.get(key).cloned()
    }

    /// Decide, by what is there, what is to be there. Nobody else writes meanwhile.
    pub(super) fn write<E>(
        &self,
        key: &Key,
        decide: impl FnOnce(Option<&Value>) -> Result<Write, E>,
    ) -> Result<Written, E> {
        let mut state = self.state();
        let before = state.objects.get(key).cloned();
        let value = before.as_ref().map(|before| before.value());
        let decided = match decide(value.as_ref())? {
            Write::Put(new) if value.as_ref().is_some_and(|old| is_same(old, &new)) => Write::Keep,
            decided => decided,
        };
        let version = state.version + 1;
        let (object, deleted) = match (decided, value) {
            (Write::Put(value), _) => (Stored::new(key.clone(), version, value), false),
            (Write::Delete, Some(value)) => (Stored::new(key.clone(), version, value), true),
            (Write::Delete, None) | (Write::Keep, _) => {
                let version = state.version;
                return Ok(Written {
                    object: before,
                    version,
                });
            }
        };
        let object = Arc::new(object);
        match deleted {
            true => state.objects.remove(key),
            false => state.objects.insert(key.clone(), object.clone()),
        };
        state.version = version;
        state.remember(Change {
            version,
            object: object.clone(),
            before,
            deleted,
        });
        drop(state);
        self.latest.send_replace(version);
        Ok(Written {
            object: Some(object),
            version,
        })
    }

    /// All objects of a scope, as they are or as they were at a version.
    pub(super) fn list(&self, scope: &Scope, at: Option<u64>) -> Result<Snapshot, Forgotten> {
        let state = self.state();
        let first = Key::new(&scope.kind, scope.namespace.as_deref().unwrap_or(""), "");
        let range = state.objects.range(&first..);
        let present = range.take_while(|(key, _)| scope.contains(key));
        let Some(at) = at.filter(|at| *at < state.version) else {
            let objects = present.map(|(_, object)| object.clone()).collect();
            return Ok(Snapshot {
                version: state.version,
                objects,
            });
        };
        if at < state.oldest {
            return Err(Forgotten {
                oldest: state.oldest,
            });
        }
        let mut objects: BTreeMap<&Key, &Arc<Stored>> = present.collect();
        let undone = state
            .history
            .iter()
            .rev()
            .take_while(|change| change.version > at);
        for change in undone.filter(|change| scope.contains(&change.object.key)) {
            match &change.before {
                Some(before) => objects.insert(&before.key, before),
                None => objects.remove(&change.object.key),
            };
        }
        let objects = objects.into_values().cloned().collect();
        Ok(Snapshot {
            version: at,
            objects,
        })
    }

    /// The changes of a scope after a version, and up to which version these are all.
    pub(super) fn changes(
        &self,
        scope: &Scope,
        after: u64,
    ) -> Result<(u64, Vec<Arc<Change>>), Forgotten> {
        let state = self.state();
        if after < state.oldest {
            return Err(Forgotten {
                oldest: state.oldest,
            });
        }
        let begin = state
            .history
            .partition_point(|change| change.version <= after);
        let changes = state.history.range(begin..);
        let changes = changes.filter(|change| scope.contains(&change.object.key));
        Ok((state.version.max(after), changes.cloned().collect()))
    }

    /// Forget all changes so far, as a compaction does.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.history.clear();
        state.oldest = state.version;
    }
}

impl State {
    fn remember(&mut self, change: Change) {
        self.history.push_back(Arc::new(change));
        while self.history.len() > self.limit {
            if let Some(forgotten) = self.history.pop_front() {
                self.oldest = forgotten.version;
            }
        }
    }
}

/// Whether storing `new` would change nothing.
fn is_same(old: &Value, new: &Value) -> bool {
    let mut new = new.clone();
    if let Some(fields) = new.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
    *old == new
}

/// An object of no content, for messages that carry a version alone.
pub(super) fn bare(kind: &str, api_version: &str, version: u64) -> Value {
    json!({"kind": kind, "apiVersion": api_version, "metadata": {
        "resourceVersion": version.to_string(), "creationTimestamp": null,
    }})
}
