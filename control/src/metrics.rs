//! `/metrics`: a node's [`NodeStatus`] in the two forms that Prometheus reads.
//!
//! Nothing is kept here between two scrapes: workers and the agent count, and what they have
//! counted is written down when somebody asks.

mod families;
mod node;
mod tunnel;

use crate::status::NodeStatus;
use families::Families;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus' own text, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

impl Exposition {
    /// The one to answer with where `accept` is the request's header of this name: OpenMetrics
    /// for who names it, as Prometheus does.
    pub fn wanted(accept: &str) -> Exposition {
        match accept.contains("application/openmetrics-text") {
            true => Exposition::OpenMetrics,
            false => Exposition::Text,
        }
    }

    /// What the answer's `Content-Type` says.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::Text => prometheus_text::CONTENT_TYPE,
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The metrics of a node.
pub fn encode(status: Arc<NodeStatus>, format: Exposition) -> String {
    written(NodeCollector(Some(status)), format)
}

/// All families as text, each with its type and what it means, and without any value.
pub fn families() -> String {
    written(NodeCollector(None), Exposition::Text)
}

fn written(node: NodeCollector, format: Exposition) -> String {
    let mut registry = Registry::with_prefix("weft");
    registry.register_collector(Box::new(node));
    let mut metrics = String::new();
    let written = match format {
        Exposition::Text => prometheus_text::encode(&mut metrics, &registry),
        Exposition::OpenMetrics => text::encode(&mut metrics, &registry),
    };
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
    metrics
}

#[derive(Debug)]
struct NodeCollector(Option<Arc<NodeStatus>>);

impl Collector for NodeCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        let status = self.0.as_deref();
        node::encode(status, &mut families)?;
        let tunnels = status.map_or(&[][..], |status| &status.tunnels);
        tunnel::encode(tunnels, &mut families)
    }
}

#[cfg(test)]
mod tests;
