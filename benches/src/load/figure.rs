//! What can be read from a measurement.

use super::{Measurement, Workload};

/// One figure of a load.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Name in files.
    pub key: &'static str,
    /// Unit, or what is counted.
    pub unit: &'static str,
    /// Whether a smaller value is the better one.
    pub lower_is_better: bool,
    /// Read it; not a number where there is nothing to read.
    pub of: fn(&Measurement) -> f64,
}

const fn more(key: &'static str, unit: &'static str, of: fn(&Measurement) -> f64) -> Figure {
    Figure {
        key,
        unit,
        lower_is_better: false,
        of,
    }
}

const fn less(key: &'static str, unit: &'static str, of: fn(&Measurement) -> f64) -> Figure {
    Figure {
        lower_is_better: true,
        ..more(key, unit, of)
    }
}

/// What a Gbit costs.
pub const PER_GBIT: Figure = less(
    "core_seconds_per_gbit",
    "core-s/Gbit",
    Measurement::core_seconds_per_gbit,
);

const fn per_million(unit: &'static str) -> Figure {
    let of = Measurement::core_seconds_per_million;
    less("core_seconds_per_million", unit, of)
}

/// TCP segments sent again.
pub const RETRANSMITS: Figure = less("retransmits", "retransmits", |m| m.retransmits as f64);

static TCP: [Figure; 4] = [
    more("gbits_per_second", "Gbit/s", |m| m.gbits_per_second),
    PER_GBIT,
    per_million("core-s/Mpkt"),
    RETRANSMITS,
];

static UDP: [Figure; 5] = [
    more(
        "thousands_per_second",
        "kpps",
        Measurement::thousands_per_second,
    ),
    more("gbits_per_second", "Gbit/s", |m| m.gbits_per_second),
    per_million("core-s/Mpkt"),
    PER_GBIT,
    less("lost_percent", "lost %", Measurement::lost_percent),
];

static PING_PONG: [Figure; 4] = [
    less("median_us", "median us", |m| trip(m, |t| t.median_us)),
    less("p99_us", "p99 us", |m| trip(m, |t| t.p99_us)),
    less("p999_us", "p99.9 us", |m| trip(m, |t| t.p999_us)),
    per_million("core-s/Mpkt"),
];

static PING_PONG_TCP: [Figure; 5] = [
    PING_PONG[0],
    PING_PONG[1],
    PING_PONG[2],
    more("gbits_per_second", "TCP, Gbit/s", |m| m.gbits_per_second),
    PER_GBIT,
];

static CONNECT: [Figure; 3] = [
    more(
        "thousands_per_second",
        "thousand/s",
        Measurement::thousands_per_second,
    ),
    per_million("core-s/Mconn"),
    less("lost_percent", "failed %", Measurement::lost_percent),
];

/// One way is half a round trip.
static ONE_WAY: Figure = less("one_way_us", "us", |m| trip(m, |t| t.median_us) / 2.0);

fn trip(m: &Measurement, of: fn(&super::RoundTrip) -> f64) -> f64 {
    m.round_trip.as_ref().map_or(f64::NAN, of)
}

impl Workload {
    /// What is read from it; the first is what it is for.
    pub fn figures(self) -> &'static [Figure] {
        match self {
            Workload::Udp64 | Workload::Udp512 | Workload::Udp1400 => &UDP,
            Workload::PingPong => &PING_PONG,
            Workload::PingPongTcp1 => &PING_PONG_TCP,
            Workload::Connect => &CONNECT,
            _ => &TCP,
        }
    }

    /// What it is for.
    pub fn main_figure(self) -> Figure {
        self.figures()[0]
    }

    /// Name and figure of a one-line summary, where latency is one way, as sockperf has it.
    pub fn short(self) -> (String, Figure) {
        match self {
            Workload::PingPong => ("UDP one way, us".to_owned(), ONE_WAY),
            _ => {
                let figure = self.main_figure();
                (format!("{}, {}", self.title(), figure.unit), figure)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::RoundTrip;

    #[test]
    fn keys_of_a_load_are_unique() {
        for workload in Workload::ALL {
            let keys: Vec<_> = workload.figures().iter().map(|f| f.key).collect();
            for (i, key) in keys.iter().enumerate() {
                assert!(!keys[i + 1..].contains(key), "{workload:?} {key}");
            }
        }
    }

    #[test]
    fn latency_is_read_from_round_trips() {
        let mut measurement = Measurement::default();
        let (name, one_way) = Workload::PingPong.short();
        assert_eq!(name, "UDP one way, us");
        assert!((one_way.of)(&measurement).is_nan());
        measurement.round_trip = Some(RoundTrip {
            median_us: 60.0,
            p99_us: 80.0,
            p999_us: 95.0,
        });
        assert_eq!((one_way.of)(&measurement), 30.0);
        let read = |f: &Figure| (f.of)(&measurement);
        let figures: Vec<_> = Workload::PingPong.figures().iter().map(read).collect();
        assert_eq!(figures[..3], [60.0, 80.0, 95.0]);
    }

    #[test]
    fn short_names_have_units() {
        assert_eq!(Workload::Tcp4.short().0, "TCP 4 streams, Gbit/s");
        assert_eq!(Workload::Udp64.short().0, "UDP 64 B, kpps");
    }
}
