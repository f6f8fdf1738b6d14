//! A Node of the API: what of it counts here.
//!
//! A Node is some 12 KB of JSON, nine tenths of which are images, conditions and what other
//! programs note. Nothing of that is kept, and little of it is looked at.

use super::annotations::Annotations;
use super::pod_cidrs::{self, PodCidrs};
use super::prefix::AnnotationPrefix;
use crate::family::PerFamily;
use crate::lease::{Lease, LeaseAttrs};
use crate::text::{one_line, shown};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The annotation of the bookmark with which a streamed list ends.
const LIST_ENDS: &str = "k8s.io/initial-events-end";

/// What of a Node counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeState {
    pub(super) name: String,
    /// The version of the object, as opaque as the server gives it.
    pub(super) version: String,
    pub(super) annotations: Annotations,
    /// As in `spec`.
    pub(super) pod_cidrs: Vec<String>,
    pub(super) is_windows: bool,
}

/// A Node that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadNode {
    /// Empty if that cannot be read either.
    pub(super) name: String,
    pub(super) reason: String,
}

/// What a node is to the network.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Standing {
    /// It has no annotation of flannel's.
    Foreign,
    /// The cluster has given it no subnet yet.
    NoSubnet,
    /// Something of it cannot be read; why, and its subnets if these can be.
    Bad(String, Option<PodCidrs>),
    /// Others reach it by this.
    Peer(Box<Lease>),
}

#[derive(Deserialize)]
struct RawNode<'a> {
    #[serde(borrow)]
    metadata: RawMetadata<'a>,
    #[serde(default, borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawMetadata<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default, borrow, rename = "resourceVersion")]
    version: Cow<'a, str>,
    #[serde(default, borrow)]
    labels: Option<&'a RawValue>,
    #[serde(default, borrow)]
    annotations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct RawSpec {
    #[serde(default, rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(default, rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct RawLabels<'a> {
    #[serde(default, borrow, rename = "kubernetes.io/os")]
    os: Option<Cow<'a, str>>,
}

impl NodeState {
    /// Read the JSON of a Node.
    pub(super) fn read(json: &[u8], prefix: &AnnotationPrefix) -> Result<NodeState, BadNode> {
        let node: RawNode<'_> = serde_json::from_slice(json).map_err(|error| BadNode {
            name: name_of(json),
            reason: one_line(&error.to_string()),
        })?;
        let metadata = node.metadata;
        let bad = |reason: String| BadNode {
            name: shown(&metadata.name),
            reason,
        };
        if metadata.name.is_empty() {
            return Err(bad("metadata.name is empty".to_owned()));
        }
        let annotations = match metadata.annotations {
            Some(text) => Annotations::read(text, prefix).map_err(bad)?,
            None => Annotations::default(),
        };
        let spec: Option<RawSpec> = match node.spec {
            Some(text) => serde_json::from_str(text.get())
                .map_err(|error| bad(format!("spec: {}", one_line(&error.to_string()))))?,
            None => None,
        };
        let pod_cidrs = spec.map_or_else(Vec::new, |spec| {
            let all = spec.pod_cidrs.filter(|all| !all.is_empty());
            let one = || spec.pod_cidr.filter(|one| !one.is_empty());
            all.unwrap_or_else(|| one().into_iter().collect())
        });
        // Labels say nothing that counts but for people.
        let labels = metadata.labels.map(|text| serde_json::from_str(text.get()));
        let os = labels.and_then(|labels: Result<RawLabels<'_>, _>| labels.ok()?.os);
        Ok(NodeState {
            name: metadata.name.into_owned(),
            version: metadata.version.into_owned(),
            annotations,
            pod_cidrs,
            is_windows: os.is_some_and(|os| os == "windows"),
        })
    }

    /// Its subnets; the error names the field.
    pub(super) fn cidrs(&self) -> Result<PodCidrs, String> {
        pod_cidrs::read(&self.pod_cidrs)
    }

    /// What it is to a network that has these families.
    pub(super) fn standing(&self, families: PerFamily<bool>) -> Standing {
        let cidrs = match self.cidrs() {
            Ok(cidrs) => PerFamily::new(|family| cidrs.of(family).filter(|_| *families.of(family))),
            Err(reason) => return Standing::Bad(reason, None),
        };
        let attrs = match self.annotations.attrs(families) {
            Ok(Some(attrs)) => attrs,
            Ok(None) => return Standing::Foreign,
            Err(reason) => return Standing::Bad(reason, Some(cidrs)),
        };
        match cidrs.present().next() {
            Some(_) => Standing::Peer(Box::new(self.lease(&cidrs, attrs))),
            None => Standing::NoSubnet,
        }
    }

    /// The lease of these subnets and attributes. None of the API's ever ends.
    pub(super) fn lease(&self, cidrs: &PodCidrs, attrs: LeaseAttrs) -> Lease {
        let (subnet, subnet_v6) = cidrs.typed();
        Lease {
            subnet,
            subnet_v6,
            attrs,
            expires: None,
            revision: self.version.parse().unwrap_or_default(),
        }
    }
}

/// The name of a Node whose rest cannot be read.
fn name_of(json: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
    }
    let named: Result<Named, _> = serde_json::from_slice(json);
    named.map_or_else(|_| String::new(), |named| shown(&named.metadata.name))
}

/// What a bookmark says: the version up to which everything has been told, and whether a list that
/// is streamed ends with it.
pub(super) fn read_bookmark(json: &[u8]) -> Option<(String, bool)> {
    #[derive(Deserialize)]
    struct Bookmark<'a> {
        #[serde(borrow)]
        metadata: RawMetadataOf<'a>,
    }
    #[derive(Deserialize)]
    struct RawMetadataOf<'a> {
        #[serde(borrow, rename = "resourceVersion")]
        version: Cow<'a, str>,
        #[serde(default, borrow)]
        annotations: Option<&'a RawValue>,
    }
    let bookmark: Bookmark<'_> = serde_json::from_slice(json).ok()?;
    let Bookmark { metadata } = bookmark;
    let ends = metadata.annotations.is_some_and(|text| {
        let all: Result<std::collections::BTreeMap<String, String>, _> =
            serde_json::from_str(text.get());
        all.is_ok_and(|all| all.get(LIST_ENDS).is_some_and(|value| value == "true"))
    });
    Some((metadata.version.into_owned(), ends))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subnets::kube::annotations::Key;
    use crate::subnets::kube::tests::node_json;

    const V4: PerFamily<bool> = PerFamily {
        v4: true,
        v6: false,
    };

    fn read(json: &str) -> Result<NodeState, BadNode> {
        NodeState::read(json.as_bytes(), &AnnotationPrefix::default())
    }

    #[test]
    fn what_counts_is_read_and_the_rest_is_not_looked_at() {
        let node = read(&node_json(7)).unwrap();
        assert_eq!((&*node.name, &*node.version), ("node-7", "1007"));
        assert_eq!(node.pod_cidrs, ["10.244.7.0/24"]);
        assert_eq!(node.annotations.get(Key::PublicIp), Some("192.0.2.7"));
        assert!(!node.is_windows);
        let Standing::Peer(lease) = node.standing(V4) else {
            panic!("{:?}", node.standing(V4));
        };
        assert_eq!(lease.key().to_string(), "10.244.7.0-24");
        assert_eq!(lease.revision, 1007);
        assert_eq!(lease.expires, None);
    }

    #[test]
    fn one_subnet_counts_where_there_is_no_list_of_them() {
        let node = |spec: &str| {
            let json = format!(r#"{{"metadata":{{"name":"n"}},"spec":{spec}}}"#);
            read(&json).map(|node| node.pod_cidrs)
        };
        assert_eq!(
            node(r#"{"podCIDR":"10.1.0.0/24"}"#).unwrap(),
            ["10.1.0.0/24"]
        );
        let both = node(r#"{"podCIDR":"10.1.0.0/24","podCIDRs":["10.1.0.0/24","fd00::/64"]}"#);
        assert_eq!(both.unwrap(), ["10.1.0.0/24", "fd00::/64"]);
        for spec in [
            "null",
            "{}",
            r#"{"podCIDR":"","podCIDRs":[]}"#,
            r#"{"podCIDRs":null}"#,
        ] {
            assert_eq!(node(spec).unwrap(), [""; 0], "{spec}");
        }
        let bad = node(r#"{"podCIDRs":"10.1.0.0/24"}"#).unwrap_err();
        assert_eq!(bad.name, "n");
        assert!(bad.reason.starts_with("spec: "), "{bad:?}");
    }

    #[test]
    fn what_a_node_is_to_the_network() {
        let standing = |from: &str, to: &str| {
            let json = node_json(7);
            assert!(json.contains(from), "{from}");
            read(&json.replace(from, to)).unwrap().standing(V4)
        };
        let none = standing(
            r#"kube-subnet-manager":"true""#,
            r#"kube-subnet-manager":"no""#,
        );
        assert_eq!(none, Standing::Foreign);
        let none = standing(
            r#""podCIDR":"10.244.7.0/24","podCIDRs":["10.244.7.0/24"]"#,
            r#""x":1"#,
        );
        assert_eq!(none, Standing::NoSubnet);
        let three = r#"["10.244.7.0/24","fd00::/64","fd01::/64"]"#;
        let bad = standing(r#"["10.244.7.0/24"]"#, three);
        assert!(matches!(bad, Standing::Bad(reason, None) if reason.contains("3 entries")));
        let bad = standing("192.0.2.7", "192.0.2");
        assert!(matches!(bad, Standing::Bad(reason, Some(_)) if reason.contains("public-ip")));
        let windows = node_json(7).replace(
            r#""kubernetes.io/os":"linux""#,
            r#""kubernetes.io/os":"windows""#,
        );
        assert!(read(&windows).unwrap().is_windows);
    }

    #[test]
    fn a_node_that_cannot_be_read_keeps_its_name() {
        let bad = read(r#"{"metadata":{"name":"n","resourceVersion":7}}"#).unwrap_err();
        assert_eq!(bad.name, "n");
        for json in ["", "{", "[]", "{}", r#"{"metadata":{"name":""}}"#] {
            let bad = read(json).unwrap_err();
            assert_eq!(bad.name, "", "{json}");
            assert!(!bad.reason.is_empty());
        }
    }

    #[test]
    fn bookmarks_tell_how_far_it_is_and_whether_the_list_is_over() {
        let bookmark = |json: &str| read_bookmark(json.as_bytes());
        let plain = bookmark(r#"{"kind":"Node","metadata":{"resourceVersion":"12746"}}"#);
        assert_eq!(plain, Some(("12746".to_owned(), false)));
        let last = bookmark(
            r#"{"metadata":{"resourceVersion":"7","annotations":{"k8s.io/initial-events-end":"true"}}}"#,
        );
        assert_eq!(last, Some(("7".to_owned(), true)));
        assert_eq!(bookmark(r#"{"metadata":{}}"#), None);
        assert_eq!(bookmark("{"), None);
    }
}
