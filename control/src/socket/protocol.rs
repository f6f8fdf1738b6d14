//! What is said over the socket.

use crate::backend::{FastPathMode, FastPathReport};
use crate::hand_over::Claim;
use crate::status::{NodeStatus, PeerStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of all that is below. A request of another one gets an error.
const VERSION: u64 = 1;

/// The longest request in bytes, its end included.
pub(super) const REQUEST_MAX: usize = 64 << 10;

/// The longest answer: some 100,000 peers.
pub(super) const ANSWER_MAX: u64 = 16 << 20;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Verb {
    /// Have the fast path of all tunnels in this mode, and tell how it is; without a mode, tell.
    FastPath {
        /// The mode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<FastPathMode>,
    },
    /// Hand everything over to the process that asks. What is said from there on is no longer of
    /// this protocol: see [`hand_over`](crate::hand_over).
    HandOver(Claim),
    /// Tell what the node is doing.
    Status,
    /// Tell which other nodes there are, and what leads to them.
    Peers,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// How the fast path of each tunnel is now.
    FastPath(Vec<FastPathReport>),
    /// What the node is doing.
    Status(Box<NodeStatus>),
    /// All other nodes that have a usable lease.
    Peers(Vec<PeerStatus>),
    /// Why nothing was done. One line.
    Error(String),
}

/// An answer, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The agent's name: its network and its `subnet.env`.
    pub agent: String,
    /// What it says.
    pub answer: Answer,
}

impl Verb {
    /// As a line.
    pub(super) fn line(&self) -> String {
        line(self, Map::new())
    }

    /// Read a line; what is wrong with it.
    pub(super) fn read(text: &[u8]) -> Result<Verb, String> {
        body(text)
    }
}

impl Reply {
    /// As a line.
    pub(super) fn line(&self) -> String {
        let agent = ("agent".to_owned(), Value::from(self.agent.as_str()));
        line(&self.answer, Map::from_iter([agent]))
    }

    /// Read a line; what is wrong with it.
    pub(super) fn read(text: &[u8]) -> Result<Reply, String> {
        let mut object: Map<String, Value> = body(text)?;
        let agent = object.remove("agent");
        let agent = agent.as_ref().and_then(Value::as_str).unwrap_or_default();
        let answer = serde_json::from_value(Value::Object(object));
        Ok(Reply {
            agent: agent.to_owned(),
            answer: answer.map_err(|error| error.to_string())?,
        })
    }
}

fn line(body: &impl Serialize, mut object: Map<String, Value>) -> String {
    object.insert("version".to_owned(), VERSION.into());
    if let Ok(Value::Object(body)) = serde_json::to_value(body) {
        object.extend(body);
    }
    format!("{}\n", Value::Object(object))
}

/// What a line says besides its version.
fn body<T: for<'a> Deserialize<'a>>(text: &[u8]) -> Result<T, String> {
    let mut object: Map<String, Value> =
        serde_json::from_slice(text).map_err(|error| format!("not a JSON object: {error}"))?;
    match object.remove("version").as_ref().and_then(Value::as_u64) {
        Some(VERSION) => {}
        Some(other) => return Err(format!("version {other} is not known here, {VERSION} is")),
        None => return Err(format!("no version; {VERSION} is known here")),
    }
    serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_are_lines_of_json() {
        for (mode, text) in [
            (None, r#"{"verb":"fast-path","version":1}"#),
            (
                Some(FastPathMode::Off),
                r#"{"mode":"off","verb":"fast-path","version":1}"#,
            ),
        ] {
            let request = Verb::FastPath { mode };
            assert_eq!(request.line(), format!("{text}\n"));
            assert_eq!(Verb::read(text.as_bytes()), Ok(request));
        }
        let status = r#"{"verb":"status","version":1}"#;
        assert_eq!(Verb::read(status.as_bytes()), Ok(Verb::Status));
        let reply = Reply {
            agent: "/net /run/subnet.env".to_owned(),
            answer: Answer::Status(Box::default()),
        };
        assert_eq!(Reply::read(reply.line().as_bytes()), Ok(reply));
        let peers = r#"{"verb":"peers","version":1}"#;
        assert_eq!(Verb::read(peers.as_bytes()), Ok(Verb::Peers));
        let peer = PeerStatus {
            subnet: "10.5.34.0/24".parse().unwrap(),
            public: [10, 0, 0, 5].into(),
            device: Some("flannel.1".to_owned()),
        };
        let reply = Reply {
            agent: "/net /run/subnet.env".to_owned(),
            answer: Answer::Peers(vec![peer]),
        };
        assert_eq!(Reply::read(reply.line().as_bytes()), Ok(reply));
        let reply = Reply {
            agent: "/net /run/subnet.env".to_owned(),
            answer: Answer::Error("no".to_owned()),
        };
        let text = r#"{"agent":"/net /run/subnet.env","error":"no","version":1}"#;
        assert_eq!(reply.line(), format!("{text}\n"));
        assert_eq!(Reply::read(text.as_bytes()), Ok(reply));
    }

    #[test]
    fn what_is_no_request_is_told_in_one_line() {
        for (text, told) in [
            ("", "not a JSON object"),
            ("[1]", "not a JSON object"),
            ("\0\u{fffd}", "not a JSON object"),
            ("{}", "no version"),
            (
                r#"{"version":2,"verb":"fast-path"}"#,
                "version 2 is not known",
            ),
            (r#"{"version":1}"#, "verb"),
            (r#"{"version":1,"verb":"reboot"}"#, "reboot"),
            (r#"{"version":1,"verb":"fast-path","mode":"fast"}"#, "fast"),
            (r#"{"version":1,"verb":"fast-path","mood":"off"}"#, "mood"),
        ] {
            let error = Verb::read(text.as_bytes()).unwrap_err();
            assert!(error.contains(told) && !error.contains('\n'), "{error}");
        }
    }
}
