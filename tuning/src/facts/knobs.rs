//! Which knobs there may be of each kind.

use super::Facts;
use crate::catalog::Kind;
use crate::knob::Knob;

impl Facts {
    /// The knobs of a kind that a host like this may have.
    pub(crate) fn knobs_of(&self, kind: Kind) -> Vec<Knob> {
        let device = || self.device.name.clone();
        let feature = |name: &str| {
            vec![Knob::Feature {
                device: device(),
                feature: name.to_owned(),
            }]
        };
        let ring = |receive| {
            vec![Knob::Ring {
                device: device(),
                receive,
            }]
        };
        let (rx, tx) = (0..self.device.rx_queues, 0..self.device.tx_queues);
        match kind {
            Kind::Channels => vec![Knob::Channels { device: device() }],
            Kind::RxRing => ring(true),
            Kind::TxRing => ring(false),
            Kind::Gro => feature("generic-receive-offload"),
            Kind::Gso => feature("generic-segmentation-offload"),
            Kind::Tso => feature("tcp-segmentation-offload"),
            Kind::UdpGso => feature("tx-udp-segmentation"),
            Kind::UdpGroForwarding => feature("rx-udp-gro-forwarding"),
            Kind::Rps => rx
                .map(|queue| Knob::Rps {
                    device: device(),
                    queue,
                })
                .collect(),
            Kind::Rfs => rx
                .map(|queue| Knob::RpsFlows {
                    device: device(),
                    queue,
                })
                .collect(),
            Kind::Xps => tx
                .map(|queue| Knob::Xps {
                    device: device(),
                    queue,
                })
                .collect(),
            Kind::Irq => {
                let irqs = self.device.irqs.iter();
                irqs.map(|&number| Knob::Irq { number }).collect()
            }
            Kind::Governor => {
                let cpus = self.cores.online.iter();
                cpus.map(|cpu| Knob::Governor { cpu }).collect()
            }
            Kind::Backlog
            | Kind::Budget
            | Kind::BusyPoll
            | Kind::RmemMax
            | Kind::WmemMax
            | Kind::BpfJit => vec![Knob::sysctl(&format!("net.core.{}", kind.name()))],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_knob_is_of_one_kind() {
        let facts = Facts::default();
        let mut seen = BTreeSet::new();
        for knob in Kind::ALL.iter().flat_map(|&kind| facts.knobs_of(kind)) {
            assert!(seen.insert(knob.clone()), "{knob}");
        }
    }
}
