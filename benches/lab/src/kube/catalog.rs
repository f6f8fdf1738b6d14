//! Which kinds there are: those that are built in, and those of definitions in the store.

use super::request::Target;
use super::resource::{DEFINITIONS, Resource};
use super::store::{Scope, Store};
use std::sync::OnceLock;

/// All kinds.
pub(super) fn all(store: &Store) -> Vec<Resource> {
    let scope = Scope {
        kind: DEFINITIONS.to_owned(),
        namespace: None,
    };
    let definitions = store
        .list(&scope, None)
        .map(|list| list.objects)
        .unwrap_or_default();
    let declared = definitions
        .iter()
        .flat_map(|definition| Resource::declared(&definition.value()));
    built_in().iter().cloned().chain(declared).collect()
}

/// The kind that a target is of.
pub(super) fn find(store: &Store, target: &Target) -> Option<Resource> {
    let is_wanted = |resource: &Resource| {
        resource.plural == target.plural
            && resource.group == target.group
            && resource.version == target.version
    };
    let built_in = built_in().iter().find(|resource| is_wanted(resource));
    built_in
        .cloned()
        .or_else(|| all(store).into_iter().find(is_wanted))
}

fn built_in() -> &'static [Resource] {
    static BUILT_IN: OnceLock<Vec<Resource>> = OnceLock::new();
    BUILT_IN.get_or_init(Resource::built_in)
}
