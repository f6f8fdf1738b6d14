//! One line of a watch.

use super::known::Told;
use super::node::{NodeState, read_bookmark};
use super::prefix::AnnotationPrefix;
use crate::text::one_line;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a line of a watch says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeEvent {
    /// A node is there, as it is now.
    Put(Told),
    /// A node is gone, as it was last.
    Delete(Told),
    /// Everything up to this version has been told.
    Bookmark {
        version: String,
        /// It is the end of a list that is streamed.
        ends_list: bool,
    },
    /// The server ends the watch, with a status of HTTP.
    Error { status: u16, message: String },
    /// It cannot be read; why.
    Unreadable(String),
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct ErrorStatus {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl NodeEvent {
    /// Read a line.
    pub(super) fn read(line: &[u8], prefix: &AnnotationPrefix) -> NodeEvent {
        let line: Line<'_> = match serde_json::from_slice(line) {
            Ok(line) => line,
            Err(error) => return NodeEvent::Unreadable(one_line(&error.to_string())),
        };
        let object = line.object.get().as_bytes();
        match &*line.kind {
            "ADDED" | "MODIFIED" => NodeEvent::Put(NodeState::read(object, prefix)),
            "DELETED" => NodeEvent::Delete(NodeState::read(object, prefix)),
            "BOOKMARK" => match read_bookmark(object) {
                Some((version, ends_list)) => NodeEvent::Bookmark { version, ends_list },
                None => NodeEvent::Unreadable("a bookmark without a version".to_owned()),
            },
            "ERROR" => match serde_json::from_slice(object) {
                Ok(ErrorStatus { code, message }) => NodeEvent::Error {
                    status: code,
                    message: one_line(&message),
                },
                Err(error) => NodeEvent::Unreadable(one_line(&error.to_string())),
            },
            other => NodeEvent::Unreadable(format!("unknown type {}", one_line(other))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnets::kube::tests::node_json;

    fn read(line: &str) -> NodeEvent {
        NodeEvent::read(line.as_bytes(), &AnnotationPrefix::default())
    }

    #[test]
    fn every_type_is_known() {
        let node = node_json(7);
        for kind in ["ADDED", "MODIFIED", "DELETED"] {
            let line = format!(r#"{{"type":"{kind}","object":{node}}}"#);
            let (NodeEvent::Put(told) | NodeEvent::Delete(told)) = read(&line) else {
                panic!("{kind}");
            };
            assert_eq!(told.unwrap().name, "node-7");
        }
        let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}"#;
        let message = "too old resource version".to_owned();
        assert_eq!(
            read(gone),
            NodeEvent::Error {
                status: 410,
                message
            }
        );
        let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"7"}}}"#;
        let version = "7".to_owned();
        assert_eq!(
            read(bookmark),
            NodeEvent::Bookmark {
                version,
                ends_list: false
            }
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_event() {
        for line in [
            "",
            "{",
            "[]",
            "<html>",
            r#"{"type":"NEW","object":{}}"#,
            r#"{"type":"ADDED"}"#,
            r#"{"type":"BOOKMARK","object":{}}"#,
            r#"{"type":"ERROR","object":7}"#,
            r#"{"object":{}}"#,
        ] {
            assert!(matches!(read(line), NodeEvent::Unreadable(_)), "{line}");
        }
    }
}
