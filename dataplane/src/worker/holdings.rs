//! What the workers of a device hold of the kernel, and how it goes from one process to another.
//!
//! Packets wait in the queues of the TUN and in the buffers of the receive sockets, and these live
//! as long as one process has a descriptor of each. So a successor that gets duplicates of all
//! (by `SCM_RIGHTS`, or from systemd's store) goes on where the workers of the other process
//! stopped, and nothing is lost. The send sockets are among them, so that each flow keeps its outer
//! source port, by which the peer picks the worker that keeps its order.

use super::config::Config;
use crate::caps::Capability;
use crate::sys::adopt::AdoptError;
use crate::sys::port::Port;
use crate::sys::tap::Tap;
use crate::sys::tun::{MAX_QUEUES, Offloads, Queues, Tun};
use crate::sys::udp::{self, SocketError};
use socket2::Socket;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The most send sockets that there can be.
const MAX_SENDERS: usize = u8::MAX as usize;

/// What a [`Holdings`] is made of, to be told to the process that adopts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Name of the TUN device.
    pub device: String,
    /// Its queues, 1 to [`MAX_QUEUES`] in all, of lanes with sockets that receive.
    pub queues: Queues,
    /// The offloads that were asked for.
    pub wanted: Offloads,
    /// What the kernel accepted of them.
    pub granted: Offloads,
    /// Name of the TAP of tunnel GSO, if there is one.
    pub tap: Option<String>,
    /// Sockets that send, 1 to 255.
    pub senders: usize,
    /// Underlay address that they send from.
    pub local: IpAddr,
    /// Index of the underlay device, by which a link-local `local` is sent from.
    pub underlay: u32,
    /// UDP port that is received on.
    pub port: u16,
    /// DF is set on outer packets.
    pub outer_df: bool,
}

impl Description {
    /// How many descriptors belong to it.
    pub fn descriptors(&self) -> usize {
        let with_tap = usize::from(self.tap.is_some());
        let sockets = Port::sockets(self.queues.lanes).saturating_add(self.senders);
        let queues = self.queues.count();
        queues.saturating_add(with_tap).saturating_add(sockets)
    }

    /// What the sockets that send are bound to.
    fn source(&self) -> SocketAddr {
        udp::source(self.local, self.underlay)
    }

    /// Whether workers with `config` and as many `lanes` can run on it; otherwise what they would
    /// need else.
    pub(super) fn fits(&self, config: &Config, lanes: usize) -> Result<(), AdoptError> {
        let differs = |what: &str, is: &dyn ToString, wanted: &dyn ToString| {
            let (is, wanted) = (is.to_string(), wanted.to_string());
            let why = format!("{what} is {is} there, and {wanted} here");
            Err(AdoptError::new(format!("workers of {}", self.device), why))
        };
        let source = udp::source(config.local, config.underlay);
        let senders = config.pool().sockets();
        if self.queues.lanes != lanes {
            return differs("the number of queues", &self.queues.lanes, &lanes);
        }
        if self.source() != source {
            return differs("the address", &self.source(), &source);
        }
        if self.port != config.port {
            return differs("the port", &self.port, &config.port);
        }
        if self.senders != senders {
            return differs("the number of send sockets", &self.senders, &senders);
        }
        if self.outer_df != config.outer_df {
            return differs("DF on outer packets", &self.outer_df, &config.outer_df);
        }
        Ok(())
    }
}

/// The descriptors that the workers of a device work with. A clone has the same ones.
///
/// As long as anyone has them, in this process or another, the device counts as held, the port is
/// taken, and the TAP stays.
#[derive(Clone)]
pub struct Holdings {
    pub(super) tun: Tun,
    pub(super) tap: Option<Arc<Tap>>,
    /// With sockets for each lane.
    pub(super) port: Arc<Port>,
    /// One pool for all workers: the outer source port, by which the peer picks its worker,
    /// must depend on the inner flow alone. With a pool each, a flow that moves to another
    /// queue here moves to another worker there, whose writes move it again here, for ever.
    pub(super) senders: Arc<[Socket]>,
    local: IpAddr,
    underlay: u32,
    port_number: u16,
    outer_df: bool,
}

impl Holdings {
    /// Those of a device that was just opened: its sockets are opened, too. Trains are received if
    /// `gro` is asked for and granted.
    pub(super) fn open(
        tun: Tun,
        tap: Option<Tap>,
        config: &Config,
        gro: Option<&Capability>,
    ) -> Result<Holdings, SocketError> {
        let Config {
            local,
            port,
            outer_df,
            underlay,
            ..
        } = *config;
        let receivers = Port::open(local, port, tun.counts().lanes, config.frames, gro)?;
        let source = udp::source(local, underlay);
        let senders = udp::senders(source, config.pool().sockets(), outer_df)?;
        Ok(Holdings {
            tun,
            tap: tap.map(Arc::new),
            port: Arc::new(receivers),
            senders: senders.into(),
            local,
            underlay,
            port_number: port,
            outer_df,
        })
    }

    /// Those that another process told of and whose descriptors it handed over, in the order of
    /// [`Holdings::descriptors`].
    ///
    /// The kernel is asked what each descriptor is. Nothing is changed that the other process
    /// could notice, so it may run meanwhile.
    ///
    /// # Errors
    /// One line that names what is not as told, and says what it is.
    pub fn adopt(told: &Description, descriptors: Vec<OwnedFd>) -> Result<Holdings, AdoptError> {
        check_counts(told, descriptors.len())?;
        let mut rest = descriptors.into_iter();
        let offloads = (told.wanted, told.granted);
        let queues = rest.by_ref().take(told.queues.count());
        let tun = Tun::adopt(&told.device, told.queues, offloads, queues)?;
        let tap = match &told.tap {
            Some(name) => rest.next().map(|fd| Tap::adopt(name, fd)).transpose()?,
            None => None,
        };
        let receivers = rest.by_ref().take(Port::sockets(told.queues.lanes));
        let port = Port::adopt(told.local, told.port, receivers)?;
        Ok(Holdings {
            tun,
            tap: tap.map(Arc::new),
            port: Arc::new(port),
            senders: adopt_senders(told, rest)?.into(),
            local: told.local,
            underlay: told.underlay,
            port_number: told.port,
            outer_df: told.outer_df,
        })
    }

    /// What they are.
    pub fn describe(&self) -> Description {
        Description {
            device: self.tun.name().to_owned(),
            queues: self.tun.counts(),
            wanted: self.tun.wanted(),
            granted: self.tun.offloads(),
            tap: self.tap.as_ref().map(|tap| tap.name().to_owned()),
            senders: self.senders.len(),
            local: self.local,
            underlay: self.underlay,
            port: self.port_number,
            outer_df: self.outer_df,
        }
    }

    /// All of them, in this order: the queues of the TUN, the TAP if there is one, the sockets that
    /// receive, those that send.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let queues = self.tun.queues().iter().map(AsFd::as_fd);
        let tap = self.tap.iter().map(AsFd::as_fd);
        let receivers = self.port.descriptors();
        let senders = self.senders.iter().map(AsFd::as_fd);
        queues.chain(tap).chain(receivers).chain(senders).collect()
    }

    /// What the sockets that send are bound to.
    pub(super) fn source(&self) -> SocketAddr {
        udp::source(self.local, self.underlay)
    }
}

impl fmt::Debug for Holdings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Holdings").field(&self.describe()).finish()
    }
}

fn check_counts(told: &Description, found: usize) -> Result<(), AdoptError> {
    let refuse = |why| {
        Err(AdoptError::new(
            format!("descriptors of {}", told.device),
            why,
        ))
    };
    if !(1..=MAX_QUEUES).contains(&told.queues.count())
        || !(1..=MAX_SENDERS).contains(&told.senders)
    {
        return refuse(format!(
            "{} queues and {} send sockets are told of; 1 to {MAX_QUEUES} and 1 to {MAX_SENDERS} are possible",
            told.queues.count(),
            told.senders
        ));
    }
    match told.descriptors() {
        expected if expected == found => Ok(()),
        expected => refuse(format!("{found} came, of {expected} that are told of")),
    }
}

fn adopt_senders(
    told: &Description,
    descriptors: impl Iterator<Item = OwnedFd>,
) -> Result<Vec<Socket>, AdoptError> {
    let mut ports = BTreeMap::new();
    let adopt = |(index, fd)| {
        let refuse = |why| AdoptError::new(format!("send socket {index}"), why);
        let (socket, port) = udp::adopt_sender(fd, told.source(), told.outer_df).map_err(refuse)?;
        match ports.insert(port, index) {
            None => Ok(socket),
            Some(first) => Err(refuse(format!("has port {port}, as socket {first} has"))),
        }
    };
    descriptors.enumerate().map(adopt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::port::Frames;
    use crate::wire::frame::Wire;
    use crate::wire::vxlan::Vni;
    use crate::worker::tunnel_gso::TunnelGso;

    const NONE: Offloads = Offloads {
        tso: false,
        uso: false,
    };

    fn config() -> Config {
        Config {
            local: [10, 0, 0, 1].into(),
            port: 8_472,
            frames: Frames {
                wire: Wire::Vxlan,
                vni: Vni::default(),
                gbp: false,
            },
            mtu: 1_450,
            pod_mtu: 1_450,
            tx_sockets: 8,
            outer_df: false,
            tunnel_gso: TunnelGso::Off,
            underlay: 7,
        }
    }

    fn told() -> Description {
        let config = config();
        Description {
            device: "flannel.1".to_owned(),
            queues: Queues::shared(2),
            wanted: NONE,
            granted: NONE,
            tap: None,
            senders: config.pool().sockets(),
            local: config.local,
            underlay: config.underlay,
            port: config.port,
            outer_df: config.outer_df,
        }
    }

    #[test]
    fn descriptors_of_each_kind_are_counted() {
        let mut told = told();
        told.senders = 8;
        let receivers = Port::sockets(2);
        assert_eq!(told.descriptors(), 24 + receivers);
        told.tap = Some("weft.1".to_owned());
        assert_eq!(told.descriptors(), 25 + receivers);
    }

    #[test]
    fn what_workers_cannot_run_on_is_told_by_what_differs() {
        assert_eq!(told().fits(&config(), 2), Ok(()));
        let refusal = |change: fn(&mut Config), queues| {
            let mut config = config();
            change(&mut config);
            let refusal = told().fits(&config, queues).unwrap_err().to_string();
            let prefix = "workers of flannel.1: ";
            refusal.strip_prefix(prefix).unwrap().to_owned()
        };
        let expected = "the number of queues is 2 there, and 4 here";
        assert_eq!(refusal(|_| {}, 4), expected);
        let expected = "the address is 10.0.0.1:0 there, and 10.0.0.2:0 here";
        assert_eq!(refusal(|c| c.local = [10, 0, 0, 2].into(), 2), expected);
        let expected = "the port is 8472 there, and 4789 here";
        assert_eq!(refusal(|c| c.port = 4_789, 2), expected);
        let expected = "DF on outer packets is false there, and true here";
        assert_eq!(refusal(|c| c.outer_df = true, 2), expected);
        let senders = refusal(|c| c.tx_sockets = 1, 2);
        assert!(
            senders.starts_with("the number of send sockets is "),
            "{senders}"
        );
    }

    #[test]
    fn a_device_that_was_made_anew_matters_only_where_the_address_is_bound_to_it() {
        let mut config = config();
        config.underlay = 8;
        assert_eq!(told().fits(&config, 2), Ok(()));
        config.local = "fe80::1".parse().unwrap();
        let told = Description {
            local: config.local,
            ..told()
        };
        let refusal = told.fits(&config, 2).unwrap_err().to_string();
        assert!(
            refusal.ends_with("[fe80::1%7]:0 there, and [fe80::1%8]:0 here"),
            "{refusal}"
        );
    }
}
