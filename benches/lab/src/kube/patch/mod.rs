//! The four formats of patches.

mod json;
mod merge;
mod strategic;

use super::failure::Failure;
use serde_json::Value;

/// Media types of patches for kinds that are built in.
const ACCEPTED: [&str; 4] = [JSON, MERGE, STRATEGIC, APPLY];

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A patch as it came, its text read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Patch {
    format: Format,
    value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    Merge,
    Strategic,
    /// Server-side apply.
    Apply,
}

impl Patch {
    /// Read a patch for a kind that came by a definition (`custom`) or that is built in. Of
    /// those the latter alone know strategic patches.
    pub(super) fn read(media_type: &str, body: &[u8], custom: bool) -> Result<Patch, Failure> {
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let format = match media_type {
            JSON => Format::Json,
            MERGE => Format::Merge,
            STRATEGIC if !custom => Format::Strategic,
            APPLY => Format::Apply,
            _ => {
                let known = ACCEPTED
                    .into_iter()
                    .filter(|known| !custom || *known != STRATEGIC);
                let known: Vec<&str> = known.collect();
                return Err(Failure::unsupported_media_type(&known));
            }
        };
        // Clients send JSON, which is YAML, when they apply.
        let unreadable = |error| Failure::bad_request(format!("error decoding patch: {error}"));
        let value: Value = serde_json::from_slice(body).map_err(unreadable)?;
        let fits = match format {
            Format::Json => value.is_array(),
            _ => value.is_object(),
        };
        match fits {
            true => Ok(Patch { format, value }),
            false => Err(Failure::bad_request(
                "error decoding patch: it is of the wrong type",
            )),
        }
    }

    /// The object that it makes if there is none, where it is one that may.
    pub(super) fn created(&self) -> Option<Value> {
        (self.format == Format::Apply).then(|| self.value.clone())
    }

    /// What becomes of an object.
    pub(super) fn apply(&self, object: &Value, custom: bool) -> Result<Value, Failure> {
        let mut object = object.clone();
        match self.format {
            Format::Json => json::apply(&mut object, &self.value)?,
            Format::Merge => merge::apply(&mut object, &self.value),
            Format::Apply if custom => merge::apply(&mut object, &self.value),
            Format::Apply | Format::Strategic => strategic::apply(&mut object, &self.value)?,
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn custom_kinds_know_no_strategic_patches() {
        let refused = Patch::read(STRATEGIC, b"{}", true).unwrap_err();
        assert_eq!(refused.code, 415);
        assert!(
            !refused.message.contains("strategic"),
            "{}",
            refused.message
        );
        assert!(
            Patch::read(
                "application/strategic-merge-patch+json; charset=utf-8",
                b"{}",
                false
            )
            .is_ok()
        );
        for (kind, body) in [(JSON, "{}"), (MERGE, "[]"), (STRATEGIC, "1"), (MERGE, "{")] {
            let refused = Patch::read(kind, body.as_bytes(), false).unwrap_err();
            assert_eq!(refused.code, 400, "{kind} {body}");
        }
        assert_eq!(
            Patch::read("application/json", b"{}", false)
                .unwrap_err()
                .code,
            415
        );
    }

    #[test]
    fn a_merge_patch_replaces_lists() {
        let object = json!({"status": {"conditions": [{"type": "Ready"}]}, "a": {"b": 1, "c": 2}});
        let body = br#"{"status": {"conditions": [{"type": "Other"}]}, "a": {"b": null}, "n": {"x": null}}"#;
        let patch = Patch::read(MERGE, body, false).unwrap();
        let expected =
            json!({"status": {"conditions": [{"type": "Other"}]}, "a": {"c": 2}, "n": {}});
        assert_eq!(patch.apply(&object, false).unwrap(), expected);
    }
}
