//! Programs on devices: attached, taken over from an earlier agent, and left behind.

use super::error::{During, FastPathError};
use super::pins::Pins;
use crate::sys::tc::{self, Direction};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Below Linux 6.6 there are no links. Filters have this priority then, and a handle that comes
/// from the tunnel's name: by both they are known again.
pub const FILTER_PRIORITY: u16 = 0x7765;

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A tcx link, from Linux 6.6.
    Tcx,
    /// A filter of the clsact qdisc.
    Clsact,
}

impl Hook {
    /// One word for flags and logs.
    pub fn name(self) -> &'static str {
        match self {
            Hook::Tcx => "tcx",
            Hook::Clsact => "clsact",
        }
    }
}

/// Where a program belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    pub(super) device: &'a str,
    pub(super) direction: TcAttachType,
    /// The name of its pin.
    pub(super) pin: &'a str,
    /// The TUN device that it is for.
    pub(super) tunnel: &'a str,
}

/// A program on a device.
#[derive(Debug)]
pub(super) struct Attached {
    held: Held,
    device: u32,
    direction: Direction,
    program: u32,
    /// Where it is pinned.
    pin: Option<PathBuf>,
    /// Why it is pinned nowhere, though it was to be.
    unpinned: Option<String>,
    /// Of its filter, if it is one.
    handle: TcHandle,
}

/// What a program is attached by.
#[derive(Debug)]
enum Held {
    /// Detached with this process, unless it is pinned.
    Tcx { _link: FdLink },
    /// Stays until it is detached; emptied by that.
    Clsact(Option<SchedClassifierLink>),
}

impl Attached {
    /// Attach `program`. A pinned link of an earlier agent takes it over in one step, so that no
    /// packet misses both; others are pinned, if there are `pins`.
    pub(super) fn new(
        program: &mut SchedClassifier,
        place: Place<'_>,
        hook: Hook,
        pins: Option<&Pins>,
    ) -> Result<Attached, FastPathError> {
        let step = format!("attaching to {}", place.device);
        let (held, unpinned) = match (hook, pins) {
            (Hook::Tcx, Some(pins)) => pinned(program, place, pins).during(&step)?,
            (Hook::Tcx, None) => (plain(program, place).during(&step)?, None),
            (Hook::Clsact, _) => (filter(program, place).during(&step)?, None),
        };
        Ok(Attached {
            held,
            device: super::index_of(place.device)?,
            direction: match place.direction {
                TcAttachType::Egress => Direction::Egress,
                TcAttachType::Ingress | TcAttachType::Custom(_) => Direction::Ingress,
            },
            program: program.info().during(&step)?.id(),
            pin: pins
                .filter(|_| hook == Hook::Tcx && unpinned.is_none())
                .map(|pins| pins.path(place.pin)),
            unpinned,
            handle: TcHandle::from(filter_handle(place.tunnel)),
        })
    }

    /// Why it cannot be pinned.
    pub(super) fn unpinned(&self) -> Option<&str> {
        self.unpinned.as_deref()
    }

    /// The device's index and the program's id.
    pub(super) fn place(&self) -> (u32, u32) {
        (self.device, self.program)
    }

    /// Whether the program is still where it was put: somebody may have taken it off, or the pin
    /// away that it is to outlive this process by.
    pub(super) fn is_in_place(&self) -> bool {
        self.runs() && self.pin.as_ref().is_none_or(|pin| pin.exists())
    }

    fn runs(&self) -> bool {
        let (device, direction) = (self.device, self.direction);
        let runs = match self.held {
            Held::Tcx { .. } => {
                tc::tcx_programs(device, direction).map(|programs| programs.contains(&self.program))
            }
            Held::Clsact(_) => {
                tc::filter_program(device, direction, FILTER_PRIORITY, self.handle.into())
                    .map(|program| program == Some(self.program))
            }
        };
        runs.unwrap_or(false)
    }

    /// Take the program off the device. Whoever pinned it must have removed the pin.
    pub(super) fn detach(mut self) -> Result<(), FastPathError> {
        let Held::Clsact(link) = &mut self.held else {
            return Ok(());
        };
        let Some(link) = link.take() else {
            return Ok(());
        };
        match aya::programs::Link::detach(link) {
            Err(error) if self.runs() => Err(error).during("detaching"),
            // Or somebody has done it before.
            _ => Ok(()),
        }
    }

    /// Leave the program where it is, as far as it stays without this process.
    pub(super) fn leave(self) {
        if let Held::Clsact(Some(link)) = self.held {
            std::mem::forget(link);
        }
    }
}

/// What goes wrong when a program is attached.
#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error(transparent)]
    Program(#[from] ProgramError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn tcx() -> TcAttachOptions {
    // The last: whoever was there before sees the packets first, as without weft.
    TcAttachOptions::TcxOrder(LinkOrder::default())
}

fn plain(program: &mut SchedClassifier, place: Place<'_>) -> Result<Held, AttachError> {
    let id = program.attach_with_options(place.device, place.direction, tcx())?;
    let link = program.take_link(id)?;
    Ok(Held::Tcx {
        _link: link.try_into()?,
    })
}

/// Attached by a link that is pinned, or by one that is not, and why.
fn pinned(
    program: &mut SchedClassifier,
    place: Place<'_>,
    pins: &Pins,
) -> Result<(Held, Option<String>), AttachError> {
    let path = pins.path(place.pin);
    if let Some(link) = adopt(program, &path) {
        return Ok((Held::Tcx { _link: link }, None));
    }
    let id = program.attach_with_options(place.device, place.direction, tcx())?;
    let link: FdLink = program.take_link(id)?.try_into()?;
    match link.pin(&path) {
        Ok(link) => Ok((Held::Tcx { _link: link.into() }, None)),
        // The link has gone with that.
        Err(error) => {
            let reason = FastPathError::new("pinning", &error).to_string();
            Ok((plain(program, place)?, Some(reason)))
        }
    }
}

/// Have the link that is pinned at `path` run `program`. One whose device has gone is removed.
fn adopt(program: &mut SchedClassifier, path: &std::path::Path) -> Option<FdLink> {
    let adopted = PinnedLink::from_pin(path).and_then(|pinned| {
        let link: SchedClassifierLink = FdLink::from(pinned).try_into()?;
        Ok(link)
    });
    let link = adopted
        .ok()
        .and_then(|link| program.attach_to_link(link).ok())
        .and_then(|id| program.take_link(id).ok())
        .and_then(|link| link.try_into().ok());
    if link.is_none() {
        // If that fails, pinning does, and tells why.
        let _ = fs::remove_file(path);
    }
    link
}

/// The handle of filters for the TUN device `tunnel`: FNV-1a of the name; never 0, for which the
/// kernel would choose one itself.
pub fn filter_handle(tunnel: &str) -> u32 {
    let fold = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    tunnel.bytes().fold(0x811c_9dc5, fold).max(1)
}

/// Whether the filter for the TUN device `tunnel` is on it.
pub(super) fn has_filter(tunnel: &str) -> bool {
    let handle = TcHandle::from(filter_handle(tunnel));
    super::index_of(tunnel)
        .and_then(|index| {
            tc::filter_program(index, Direction::Egress, FILTER_PRIORITY, handle.into())
                .during("looking for filters")
        })
        .is_ok_and(|program| program.is_some())
}

/// Remove the filters of this handle from `device`; whether there was one.
pub fn remove_filters(device: &str, handle: u32) -> bool {
    let remove = |direction| {
        let handle = TcHandle::from(handle);
        SchedClassifierLink::attached(device, direction, FILTER_PRIORITY, handle, None)
            .is_ok_and(|link| aya::programs::Link::detach(link).is_ok())
    };
    let [inwards, outwards] = [TcAttachType::Ingress, TcAttachType::Egress].map(remove);
    inwards || outwards
}

fn filter(program: &mut SchedClassifier, place: Place<'_>) -> Result<Held, AttachError> {
    match aya::programs::tc::qdisc_add_clsact(place.device) {
        // Somebody else's is as good, and is never removed.
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(ProgramError::from(error).into()),
    }
    let (device, direction) = (place.device, place.direction);
    let handle = TcHandle::from(filter_handle(place.tunnel));
    let old = SchedClassifierLink::attached(device, direction, FILTER_PRIORITY, handle, None)?;
    if let Ok(id) = program.attach_to_link(old) {
        return Ok(Held::Clsact(Some(program.take_link(id)?)));
    }
    let options = NlOptions {
        priority: FILTER_PRIORITY,
        handle,
        classid: None,
    };
    let options = TcAttachOptions::Netlink(options);
    let id = program.attach_with_options(device, direction, options)?;
    Ok(Held::Clsact(Some(program.take_link(id)?)))
}
