//! What is done to one object: get, create, update, patch, delete.

use super::failure::{About, Failure};
use super::patch::Patch;
use super::request::{Query, Target};
use super::resource::Resource;
use super::store::{Key, Scope, Store, Stored, Write};
use super::strategy;
use bytes::Bytes;
use serde_json::{Value, json};

/// A request about objects of a kind that is known.
#[derive(Debug)]
pub(super) struct Task<'a> {
    pub(super) store: &'a Store,
    pub(super) resource: &'a Resource,
    pub(super) target: &'a Target,
    pub(super) query: &'a Query,
}

/// What comes of it: an HTTP status and JSON.
pub(super) type Done = Result<(u16, Bytes), Failure>;

impl Task<'_> {
    fn kind(&self) -> String {
        self.resource.spelt()
    }

    fn key(&self) -> Key {
        Key::new(&self.kind(), &self.target.namespace, &self.target.name)
    }

    /// JSON of an object as clients see it.
    fn shown(&self, object: &Stored) -> Bytes {
        object.typed(&self.resource.kind, &self.resource.api_version())
    }

    /// JSON of an object that is not stored.
    fn shown_only(&self, object: &Value) -> Bytes {
        let mut object = object.clone();
        object["kind"] = self.resource.kind.as_str().into();
        object["apiVersion"] = self.resource.api_version().into();
        object.to_string().into()
    }

    pub(super) fn get(&self) -> Done {
        let kind = self.kind();
        let about = About {
            kind: &kind,
            name: &self.target.name,
        };
        let object = self
            .store
            .get(&self.key())
            .ok_or_else(|| Failure::not_found(about))?;
        Ok((200, self.shown(&object)))
    }

    pub(super) fn create(&self, object: Value) -> Done {
        strategy::check(self.resource, self.target, &object)?;
        let object = strategy::for_create(self.resource, self.target, object)?;
        let name = object["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        self.check_namespace()?;
        let key = Key { name, ..self.key() };
        let dry_run = self.query.is_dry_run();
        let shown = dry_run.then(|| self.shown_only(&object));
        let written = self.store.write(&key, |there| match there {
            Some(_) => Err(Failure::already_exists(About {
                kind: &key.kind,
                name: &key.name,
            })),
            None if dry_run => Ok(Write::Keep),
            None => Ok(Write::Put(object)),
        })?;
        let shown = shown.or_else(|| written.object.map(|object| self.shown(&object)));
        Ok((201, shown.unwrap_or_default()))
    }

    /// Nothing comes to be in a namespace that is not there.
    fn check_namespace(&self) -> Result<(), Failure> {
        let namespace = &self.target.namespace;
        let about = About {
            kind: "namespaces",
            name: namespace,
        };
        match self.resource.namespaced {
            true if namespace.is_empty() => Err(Failure::method_not_allowed()),
            true if self
                .store
                .get(&Key::new("namespaces", "", namespace))
                .is_none() =>
            {
                Err(Failure::not_found(about))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn update(&self, object: Value) -> Done {
        strategy::check(self.resource, self.target, &object)?;
        self.change(|_| Ok(object))
    }

    pub(super) fn patch(&self, patch: &Patch) -> Done {
        if let Some(object) = patch.created()
            && self.store.get(&self.key()).is_none()
        {
            strategy::check(self.resource, self.target, &object)?;
            let collection = Target {
                name: String::new(),
                ..self.target.clone()
            };
            return Task {
                target: &collection,
                ..*self
            }
            .create(object);
        }
        self.change(|old| {
            let new = patch.apply(old, self.resource.custom)?;
            strategy::check(self.resource, self.target, &new)?;
            Ok(new)
        })
    }

    /// Store what `change` makes of the object.
    fn change(&self, change: impl FnOnce(&Value) -> Result<Value, Failure>) -> Done {
        let kind = self.kind();
        let about = About {
            kind: &kind,
            name: &self.target.name,
        };
        let dry_run = self.query.is_dry_run();
        let mut shown = None;
        let written = self.store.write(&self.key(), |old| {
            let old = old.ok_or_else(|| Failure::not_found(about))?;
            let new = strategy::for_update(self.resource, self.target, old, change(old)?)?;
            if dry_run {
                shown = Some(self.shown_only(&new));
                return Ok(Write::Keep);
            }
            match is_leaving(&new) {
                true => Ok(Write::Delete),
                false => Ok(Write::Put(new)),
            }
        })?;
        let shown = shown.or_else(|| written.object.map(|object| self.shown(&object)));
        Ok((200, shown.unwrap_or_default()))
    }

    /// `options`: a `DeleteOptions` object, or nothing.
    pub(super) fn delete(&self, options: &Value) -> Done {
        let kind = self.kind();
        let about = About {
            kind: &kind,
            name: &self.target.name,
        };
        let dry_run = self.query.is_dry_run() || options["dryRun"] == json!(["All"]);
        let mut uid = Value::Null;
        let written = self.store.write(&self.key(), |old| {
            let old = old.ok_or_else(|| Failure::not_found(about))?;
            let metadata = &old["metadata"];
            check_preconditions(about, metadata, &options["preconditions"])?;
            uid = metadata["uid"].clone();
            if dry_run {
                return Ok(Write::Keep);
            }
            match metadata["finalizers"].as_array().is_none_or(Vec::is_empty) {
                true => Ok(Write::Delete),
                false => {
                    let mut leaving = old.clone();
                    if metadata["deletionTimestamp"].is_null() {
                        leaving["metadata"]["deletionTimestamp"] = strategy::now().into();
                    }
                    Ok(Write::Put(leaving))
                }
            }
        })?;
        let stays = self.store.get(&self.key()).filter(|_| !dry_run);
        if let (Some(_), Some(object)) = (stays, &written.object) {
            return Ok((200, self.shown(object)));
        }
        if self.resource.plural == "namespaces" && !dry_run {
            self.empty_namespace();
        }
        let mut details =
            json!({"name": self.target.name, "kind": self.resource.plural, "uid": uid});
        if !self.resource.group.is_empty() {
            details["group"] = self.resource.group.as_str().into();
        }
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": details,
        });
        Ok((200, status.to_string().into()))
    }

    /// Delete all that was in a namespace that is gone.
    fn empty_namespace(&self) {
        for resource in super::catalog::all(self.store)
            .iter()
            .filter(|resource| resource.namespaced)
        {
            let scope = Scope {
                kind: resource.spelt(),
                namespace: Some(self.target.name.clone()),
            };
            let inside = self.store.list(&scope, None).map(|list| list.objects);
            for object in inside.unwrap_or_default() {
                // Who deleted it meanwhile did the same.
                let _ = self
                    .store
                    .write(&object.key, |_| Ok::<_, Failure>(Write::Delete));
            }
        }
    }
}

/// Whether an object was deleted and nobody wants to see to it any more.
fn is_leaving(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

fn check_preconditions(about: About<'_>, metadata: &Value, wanted: &Value) -> Result<(), Failure> {
    for (field, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let (wanted, is) = (&wanted[field], &metadata[field]);
        if let Some(wanted) = wanted.as_str()
            && is != wanted
        {
            let is = is.as_str().unwrap_or_default();
            let why = format!(
                "Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {is}"
            );
            return Err(Failure::conflict(about, &why));
        }
    }
    Ok(())
}
