//! Devices and sockets that another process has handed over, on their way to the tunnels that go
//! on with them.

use super::spec::TunnelSpec;
use crate::hand_over::{Super, TunnelOffer};
use crate::text::shown;
use std::os::fd::{BorrowedFd, OwnedFd};
use weft_dataplane::sys::tun::{Offloads, Queues};
use weft_dataplane::wire::frame::Wire;
use weft_dataplane::worker::{Description, Holdings};

/// What tunnels can go on with.
#[derive(Debug, Default)]
pub struct Inheritance(Vec<Inherited>);

#[derive(Debug)]
struct Inherited {
    offer: TunnelOffer,
    descriptors: Vec<OwnedFd>,
}

impl Inheritance {
    /// What was offered, with all descriptors in their order. The error is one line.
    pub fn of(
        offers: Vec<TunnelOffer>,
        mut descriptors: impl Iterator<Item = OwnedFd>,
    ) -> Result<Inheritance, String> {
        let mut all = Vec::with_capacity(offers.len());
        for offer in offers {
            let count = usize::from(offer.descriptors);
            let own: Vec<OwnedFd> = descriptors.by_ref().take(count).collect();
            if own.len() < count {
                let (device, came) = (shown(&offer.device), own.len());
                return Err(format!("{came} of {count} descriptors of {device} came"));
            }
            all.push(Inherited {
                offer,
                descriptors: own,
            });
        }
        match descriptors.count() {
            0 => Ok(Inheritance(all)),
            more => Err(format!("{more} descriptors came that belong to nothing")),
        }
    }

    /// The queues of each device, if there are devices.
    pub(in crate::backend) fn queues(&self) -> Option<usize> {
        self.0
            .first()
            .map(|inherited| inherited.offer.queues.into())
    }

    /// The name of the first device, if there are any.
    pub(in crate::backend) fn device(&self) -> Option<&str> {
        self.0
            .first()
            .map(|inherited| inherited.offer.device.as_str())
    }

    /// What the tunnel with this `spec` goes on with. The error is one line.
    pub(super) fn take(&mut self, spec: &TunnelSpec) -> Result<Holdings, String> {
        let device = &spec.device;
        let mut found = self.0.iter();
        let found = found.position(|inherited| inherited.offer.device == *device);
        let index = found.ok_or_else(|| format!("there is no {device}"))?;
        let Inherited { offer, descriptors } = self.0.swap_remove(index);
        if let Some(difference) = difference(&offer, spec) {
            return Err(format!("{device} has {difference}"));
        }
        let adopted = Holdings::adopt(&description(&offer), descriptors);
        adopted.map_err(|error| error.to_string())
    }

    /// That every tunnel was taken. The error is one line.
    pub(in crate::backend) fn finish(self) -> Result<(), String> {
        let mut left = self.0.iter().map(|inherited| &inherited.offer.device);
        left.next().map_or(Ok(()), |device| {
            Err(format!("{} is of no use", shown(device)))
        })
    }
}

/// What is other than it is to be.
fn difference(offer: &TunnelOffer, spec: &TunnelSpec) -> Option<String> {
    let pairs = [
        (
            "wire format",
            shown(&offer.wire),
            wire(spec.wire).to_owned(),
        ),
        ("VNI", offer.vni.to_string(), spec.vni.get().to_string()),
        ("port", offer.port.to_string(), spec.port.to_string()),
        ("address", offer.local.to_string(), spec.local.to_string()),
    ];
    let mut differ = pairs.into_iter().filter(|(_, is, wanted)| is != wanted);
    let (what, is, wanted) = differ.next()?;
    Some(format!("{what} {is} there, and is to have {wanted} here"))
}

fn wire(wire: Wire) -> &'static str {
    match wire {
        Wire::Vxlan => "vxlan",
        Wire::Ip => "udp",
    }
}

/// What is told of the holdings of the tunnel with this `spec`, and their descriptors.
pub(super) fn offer<'a>(
    holdings: &'a Holdings,
    spec: &TunnelSpec,
) -> (TunnelOffer, Vec<BorrowedFd<'a>>) {
    let of = |Offloads { tso, uso }| Super { tcp: tso, udp: uso };
    let of_queues = |count| u16::try_from(count).unwrap_or(u16::MAX);
    let told = holdings.describe();
    let offer = TunnelOffer {
        descriptors: u16::try_from(told.descriptors()).unwrap_or(u16::MAX),
        device: told.device,
        wire: wire(spec.wire).to_owned(),
        vni: spec.vni.get(),
        port: told.port,
        local: told.local,
        underlay: told.underlay,
        outer_df: told.outer_df,
        queues: of_queues(told.queues.lanes),
        shares: of_queues(told.queues.shares),
        senders: u8::try_from(told.senders).unwrap_or(u8::MAX),
        tap: told.tap,
        wanted: of(told.wanted),
        granted: of(told.granted),
    };
    (offer, holdings.descriptors())
}

fn description(offer: &TunnelOffer) -> Description {
    let of = |Super { tcp, udp }| Offloads { tso: tcp, uso: udp };
    Description {
        device: offer.device.clone(),
        queues: Queues {
            lanes: offer.queues.into(),
            shares: offer.shares.into(),
        },
        wanted: of(offer.wanted),
        granted: of(offer.granted),
        tap: offer.tap.clone(),
        senders: offer.senders.into(),
        local: offer.local,
        underlay: offer.underlay,
        port: offer.port,
        outer_df: offer.outer_df,
    }
}
