//! What is said: one line of JSON each. Before it may be blanks, which carry descriptors.

use super::tally::Tally;
use crate::text::{one_line, shown};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The version of the conversation. Both sides must have the same.
pub const VERSION: u64 = 1;

/// Who wants to take over: what goes with the request `hand-over`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Claim {
    /// [`VERSION`] of who asks. Others may say more than this one knows.
    pub hand_over: u64,
    /// Name and version of its program.
    pub weft: String,
    /// The agent's name: its network and its `subnet.env`.
    pub agent: String,
    /// Where it keeps MAC addresses and what it remembers.
    pub state_dir: String,
}

impl Claim {
    /// Why an agent that would make the claim `own` hands nothing over to this one, if so.
    pub fn refusal(&self, own: &Claim) -> Option<String> {
        let Claim {
            hand_over,
            weft: _,
            agent,
            state_dir,
        } = self;
        if *hand_over != own.hand_over {
            let known = own.hand_over;
            return Some(format!(
                "the new agent speaks version {hand_over} of the hand-over, and the one that runs version {known}"
            ));
        }
        if *agent != own.agent {
            let (other, name) = (shown(agent), &own.agent);
            return Some(format!(
                "the new agent is for {other}, and the one that runs for {name}"
            ));
        }
        let other = state_dir != &own.state_dir;
        other.then(|| {
            let (other, dir) = (shown(state_dir), &own.state_dir);
            format!("the new agent's -state-dir is {other}, and that of the one that runs {dir}")
        })
    }
}

/// What an agent knows and has. The descriptors that come with it are in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Offer {
    /// Name and version of its program.
    pub weft: String,
    /// Whether the first descriptor is a file with what it knows of its network.
    pub knowledge: bool,
    /// Its tunnels, one for each family that has one.
    pub tunnels: Vec<TunnelOffer>,
    /// What has been counted up to it.
    #[serde(default)]
    pub tally: Tally,
}

/// A tunnel. Its descriptors are the queues of the device, the TAP if there is one, the sockets that
/// receive, and those that send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TunnelOffer {
    /// Name of the device.
    pub device: String,
    /// The form of the frames.
    pub wire: String,
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port of all nodes.
    pub port: u16,
    /// Underlay address that packets leave from.
    pub local: IpAddr,
    /// Index of the underlay device.
    pub underlay: u32,
    /// DF is set on outer packets.
    pub outer_df: bool,
    /// How many descriptors there are.
    pub descriptors: u16,
    /// Groups of queues of the device, each for one worker.
    pub queues: u16,
    /// Queues of each; agents that do not say so have one.
    #[serde(default = "one")]
    pub shares: u16,
    /// Sockets that send.
    pub senders: u8,
    /// Name of the TAP.
    pub tap: Option<String>,
    /// Offloads that were asked for.
    pub wanted: Super,
    /// What the kernel accepted of them.
    pub granted: Super,
}

fn one() -> u16 {
    1
}

/// Which super-packets the device gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Super {
    /// Of TCP.
    pub tcp: bool,
    /// Of UDP.
    pub udp: bool,
}

/// What is said after the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The old one's answer: take a look.
    Offer(Offer),
    /// The successor only has to be let.
    Ready {},
    /// Nobody carries packets: it is the successor's turn.
    Yours {
        /// Since when, in nanoseconds of `CLOCK_MONOTONIC`.
        since: u64,
    },
    /// The successor carries packets and has all that only one can have.
    Running {},
    /// It comes to nothing, and why. One line.
    Error(String),
}

impl Message {
    /// As a line.
    pub fn line(&self) -> String {
        let value = serde_json::to_value(self).unwrap_or_default();
        format!("{value}\n")
    }

    /// Read a line; what is wrong with it. Who answers a request, and in which version of the
    /// socket, is left aside.
    pub fn read(line: &[u8]) -> Result<Message, String> {
        let refused = |error: serde_json::Error| one_line(&error.to_string());
        let mut object: Map<String, Value> = serde_json::from_slice(line).map_err(refused)?;
        object.remove("version");
        object.remove("agent");
        serde_json::from_value(Value::Object(object)).map_err(refused)
    }

    /// One word for complaints.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Message::Offer(_) => "offer",
            Message::Ready {} => "ready",
            Message::Yours { .. } => "yours",
            Message::Running {} => "running",
            Message::Error(_) => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn claim() -> Claim {
        Claim {
            hand_over: VERSION,
            weft: "weft 0.1.0".to_owned(),
            agent: "/coreos.com/network /run/flannel/subnet.env".to_owned(),
            state_dir: "/var/lib/weft".to_owned(),
        }
    }

    #[test]
    fn only_a_later_run_of_the_same_agent_takes_over() {
        let own = claim();
        let newer = Claim {
            weft: "weft 0.2.0".to_owned(),
            ..claim()
        };
        assert_eq!(newer.refusal(&own), None);
        for (other, words) in [
            (
                Claim {
                    hand_over: 2,
                    ..claim()
                },
                "the new agent speaks version 2 of the hand-over, and the one that runs version 1",
            ),
            (
                Claim {
                    agent: "/other /run/x".to_owned(),
                    ..claim()
                },
                "/other /run/x",
            ),
            (
                Claim {
                    state_dir: "/tmp".to_owned(),
                    ..claim()
                },
                "-state-dir is /tmp",
            ),
        ] {
            let refusal = other.refusal(&own).unwrap();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn messages_are_lines_of_json() {
        for (message, text) in [
            (Message::Ready {}, r#"{"ready":{}}"#),
            (Message::Yours { since: 7 }, r#"{"yours":{"since":7}}"#),
            (Message::Running {}, r#"{"running":{}}"#),
            (Message::Error("no".to_owned()), r#"{"error":"no"}"#),
        ] {
            assert_eq!(message.line(), format!("{text}\n"));
            assert_eq!(Message::read(text.as_bytes()), Ok(message));
        }
        let refusal = r#"{"agent":"/net /run/subnet.env","error":"no","version":1}"#;
        let read = Message::read(refusal.as_bytes());
        assert_eq!(read, Ok(Message::Error("no".to_owned())));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_one_line(bytes: Vec<u8>) {
            if let Err(reason) = Message::read(&bytes) {
                prop_assert!(!reason.chars().any(char::is_control) && reason.len() < 2000);
            }
        }

        #[test]
        fn any_text_in_a_message_comes_back(weft: String, device: String, tap: Option<String>) {
            let all = Super { tcp: true, udp: true };
            let tunnel = TunnelOffer {
                device,
                wire: "vxlan".to_owned(),
                vni: 1,
                port: 8472,
                local: [192, 0, 2, 1].into(),
                underlay: 7,
                outer_df: false,
                descriptors: 2321,
                queues: 32,
                shares: 8,
                senders: 16,
                tap,
                wanted: all,
                granted: all,
            };
            let offer = Message::Offer(Offer {
                weft,
                knowledge: true,
                tunnels: vec![tunnel],
                tally: Tally::default(),
            });
            prop_assert_eq!(Message::read(offer.line().as_bytes()), Ok(offer));
        }
    }
}
