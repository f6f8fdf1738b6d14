//! As much of OpenAPI as kubectl looks for before it applies: which parameters a patch may have.
//! There are no schemas.

use super::discovery::RELEASE;
use super::protobuf::field;
use super::resource::Resource;
use serde_json::{Map, Value, json};

/// Parameters of patches that kubectl wants to know of.
const PARAMETERS: [&str; 3] = ["dryRun", "fieldManager", "fieldValidation"];

/// Marks the kind that an operation is for.
const KIND: &str = "x-kubernetes-group-version-kind";

/// The answer to `/openapi/v3` and what is below.
pub(super) fn v3(path: &str, all: &[Resource]) -> Option<Value> {
    let rest = path.strip_prefix("/openapi/v3")?;
    if rest.is_empty() {
        let url = |resource: &Resource| {
            let root = root(resource);
            let url = json!({"serverRelativeURL": format!("/openapi/v3/{root}")});
            (root, url)
        };
        let paths: Map<String, Value> = all.iter().map(url).collect();
        return Some(json!({"paths": paths}));
    }
    let wanted = rest.strip_prefix('/')?;
    let paths: Map<String, Value> = all
        .iter()
        .filter(|resource| root(resource) == wanted)
        .map(described)
        .collect();
    (!paths.is_empty()).then(|| {
        json!({
            "openapi": "3.0.0", "info": {"title": "Kubernetes", "version": RELEASE},
            "paths": paths, "components": {"schemas": {}},
        })
    })
}

/// `api/v1`, `apis/apps/v1`.
fn root(resource: &Resource) -> String {
    let api_version = resource.api_version();
    match resource.group.as_str() {
        "" => format!("api/{api_version}"),
        _ => format!("apis/{api_version}"),
    }
}

/// The path of one object.
fn path(resource: &Resource) -> String {
    let namespace = if resource.namespaced {
        "namespaces/{namespace}/"
    } else {
        ""
    };
    format!(
        "/{}/{namespace}{}/{{name}}",
        root(resource),
        resource.plural
    )
}

fn kind(resource: &Resource) -> Value {
    json!({"group": resource.group, "version": resource.version, "kind": resource.kind})
}

fn described(resource: &Resource) -> (String, Value) {
    let parameter =
        |name: &&str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let parameters: Vec<Value> = PARAMETERS.iter().map(parameter).collect();
    let patch = json!({
        "operationId": format!("patch{}", resource.kind), "parameters": parameters,
        "responses": {"200": {"description": "OK"}}, KIND: kind(resource),
    });
    (path(resource), json!({"patch": patch}))
}

/// `/openapi/v2` as JSON.
pub(super) fn v2(all: &[Resource]) -> Value {
    let paths: Map<String, Value> = all.iter().map(described).collect();
    json!({
        "swagger": "2.0", "info": {"title": "Kubernetes", "version": RELEASE},
        "paths": paths, "definitions": {},
    })
}

/// `/openapi/v2` in protobuf, which is all that old clients read: `openapi.v2.Document`.
pub(super) fn v2_protobuf(all: &[Resource]) -> Vec<u8> {
    let info = [field(1, "Kubernetes"), field(2, RELEASE)].concat();
    let paths: Vec<Vec<u8>> = all
        .iter()
        .map(|resource| field(2, path_message(resource)))
        .collect();
    [field(1, "2.0"), field(2, info), field(8, paths.concat())].concat()
}

/// `NamedPathItem`.
fn path_message(resource: &Resource) -> Vec<u8> {
    let parameter = |name: &&str| {
        // QueryParameterSubSchema, in NonBodyParameter, in Parameter, in ParametersItem.
        let query = [field(2, "query"), field(4, name), field(6, "string")].concat();
        field(8, field(1, field(2, field(3, query))))
    };
    let parameters: Vec<Vec<u8>> = PARAMETERS.iter().map(parameter).collect();
    // NamedAny of an Any in YAML.
    let extension = [
        field(1, KIND),
        field(2, field(2, kind(resource).to_string())),
    ]
    .concat();
    let operation = [parameters.concat(), field(13, extension)].concat();
    [field(1, path(resource)), field(2, field(8, operation))].concat()
}
