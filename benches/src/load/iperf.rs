//! iperf3 between two pods.

use serde::Deserialize;
use std::time::Duration;
use weft_lab::process::listens;
use weft_lab::{Error, Pod, Result, run as run_command, wait_until};

const PORT: u16 = 5201;

/// How long the server may take to listen, and how much longer than asked a run may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// What a run gave, as the receiving side counted it.
#[derive(Clone, Debug, PartialEq)]
pub struct Iperf {
    /// Payload rate.
    pub bits_per_second: f64,
    /// Payload delivered.
    pub bits: f64,
    /// Segments sent again, over all streams.
    pub retransmits: u64,
    /// CPU of the iperf3 client in percent of one core.
    pub client_cpu: f64,
    /// CPU of the iperf3 server in percent of one core.
    pub server_cpu: f64,
    /// The client's output as it was.
    pub json: String,
}

/// Which way the data flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the pod that connects.
    There,
    /// To the pod that connects.
    Back,
    /// Both ways at once.
    Both,
}

impl Direction {
    fn flag(self) -> Option<&'static str> {
        match self {
            Direction::There => None,
            Direction::Back => Some("-R"),
            Direction::Both => Some("--bidir"),
        }
    }
}

/// Run TCP for `time` (whole seconds, at least one) over `streams` connections from the pod
/// `from` to the pod `to`. Figures of both directions are added up.
pub fn run(
    from: &Pod,
    to: &Pod,
    time: Duration,
    streams: u32,
    direction: Direction,
) -> Result<Iperf> {
    let mut server = to.ns.command("iperf3");
    server.args(["-s", "-1", "-p", &PORT.to_string()]);
    let mut server = to.ns.spawn(server, "/dev/null".as_ref())?;
    if !wait_until(PATIENCE, || listens(server.pid(), PORT)) {
        return Err(Error::new("the iperf3 server does not listen"));
    }
    let seconds = time.as_secs().max(1);
    let limit = seconds + PATIENCE.as_secs();
    // On a dead path iperf3 would wait for minutes.
    let mut client = from.ns.command("timeout");
    client.args([&limit.to_string(), "iperf3", "-J", "-c"]);
    client.args([&to.address.to_string(), "-p", &PORT.to_string()]);
    client.args(["-t", &seconds.to_string(), "-P", &streams.to_string()]);
    client.args(direction.flag());
    let result = run_command(&mut client).and_then(parse);
    if server.wait(Duration::from_secs(2)).is_err() {
        server.kill()?;
    }
    result
}

#[derive(Deserialize)]
struct Report {
    error: Option<String>,
    end: Option<End>,
}

#[derive(Deserialize)]
struct End {
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
    sum_sent_bidir_reverse: Option<Sum>,
    sum_received_bidir_reverse: Option<Sum>,
    cpu_utilization_percent: Option<Cpu>,
}

#[derive(Deserialize)]
struct Sum {
    bits_per_second: f64,
    bytes: f64,
    retransmits: Option<u64>,
}

#[derive(Deserialize)]
struct Cpu {
    host_total: f64,
    remote_total: f64,
}

/// Read the client's JSON.
fn parse(json: String) -> Result<Iperf> {
    let report: Report = serde_json::from_str(&json)
        .map_err(|e| Error::because("cannot read the output of iperf3", e))?;
    if let Some(error) = report.error {
        return Err(Error::because("iperf3", error));
    }
    let incomplete = || Error::new("the output of iperf3 has no sums");
    let end = report.end.ok_or_else(incomplete)?;
    let there = (
        end.sum_sent.ok_or_else(incomplete)?,
        end.sum_received.ok_or_else(incomplete)?,
    );
    let back = end
        .sum_sent_bidir_reverse
        .zip(end.sum_received_bidir_reverse);
    let (sent, received): (Vec<_>, Vec<_>) = std::iter::once(there).chain(back).unzip();
    let cpu = end.cpu_utilization_percent;
    Ok(Iperf {
        bits_per_second: received.iter().map(|sum| sum.bits_per_second).sum(),
        bits: received.iter().map(|sum| sum.bytes * 8.0).sum(),
        retransmits: sent.iter().filter_map(|sum| sum.retransmits).sum(),
        client_cpu: cpu.as_ref().map_or(0.0, |c| c.host_total),
        server_cpu: cpu.as_ref().map_or(0.0, |c| c.remote_total),
        json,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// iperf3 3.12 `-J -t 1`, shortened to one interval and one stream.
    const SAMPLE: &str = r#"{
      "start": {"connected": [{"socket": 5, "local_port": 40112}], "version": "iperf 3.12"},
      "intervals": [{"sum": {"bits_per_second": 3.1e10, "retransmits": 0}}],
      "end": {
        "streams": [{"sender": {"retransmits": 3}, "receiver": {"bytes": 3880255488}}],
        "sum_sent": {"start": 0, "end": 1.000047, "seconds": 1.000047, "bytes": 3884974080,
                     "bits_per_second": 31078331000.4, "retransmits": 3, "sender": true},
        "sum_received": {"start": 0, "end": 1.000412, "seconds": 1.000412, "bytes": 3880255488,
                         "bits_per_second": 31029259688.6, "sender": true},
        "cpu_utilization_percent": {"host_total": 93.5, "host_user": 0.7, "host_system": 92.8,
                                    "remote_total": 61.25, "remote_user": 3.1, "remote_system": 58.1},
        "sender_tcp_congestion": "cubic", "receiver_tcp_congestion": "cubic"
      }
    }"#;

    #[test]
    fn sums_are_the_receivers() {
        let result = parse(SAMPLE.to_owned()).unwrap();
        assert_eq!(result.bits_per_second, 31_029_259_688.6);
        assert_eq!(result.bits, 3_880_255_488.0 * 8.0);
        assert_eq!(result.retransmits, 3);
        assert_eq!((result.client_cpu, result.server_cpu), (93.5, 61.25));
        assert_eq!(result.json, SAMPLE);
    }

    #[test]
    fn both_directions_are_added_up() {
        let json = r#"{"end": {
            "sum_sent": {"bytes": 110, "bits_per_second": 880.0, "retransmits": 2},
            "sum_received": {"bytes": 100, "bits_per_second": 800.0},
            "sum_sent_bidir_reverse": {"bytes": 60, "bits_per_second": 480.0, "retransmits": 5},
            "sum_received_bidir_reverse": {"bytes": 50, "bits_per_second": 400.0}
        }}"#;
        let result = parse(json.to_owned()).unwrap();
        assert_eq!((result.bits_per_second, result.bits), (1200.0, 1200.0));
        assert_eq!(result.retransmits, 7);
    }

    #[test]
    fn errors_are_passed_on() {
        let json = r#"{"start": {}, "intervals": [], "end": {}, "error": "unable to connect"}"#;
        let error = parse(json.to_owned()).unwrap_err().to_string();
        assert_eq!(error, "iperf3: unable to connect");
        assert!(parse(r#"{"end": {}}"#.to_owned()).is_err());
        assert!(parse("iperf3: error".to_owned()).is_err());
    }
}
