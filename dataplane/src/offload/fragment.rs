//! An IPv4 packet to fragments (RFC 791), as the kernel makes them.
//!
//! Only headers are written; the payload stays where it is and is named by a range. The
//! options that are not to be copied become no-operations in all fragments but the first
//! (as in Linux, `ip_options_fragment`), so all headers have one length.

use crate::wire::{Malformed, ipv4};
use std::ops::Range;

/// The longest header that a fragment may have here: an IPv4 header with all its options and
/// what else precedes the payload.
pub const MAX_HEADER_LEN: usize = 60 + MAX_LEAD;

/// Bytes of a packet's payload that may lie apart from the rest: a UDP header.
pub const MAX_LEAD: usize = 8;

/// Fragment offsets count units of this many bytes.
const UNIT: usize = 8;

/// Longest that the payload of a packet put together again can be.
const MAX_WHOLE: usize = 65_535;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_COPIED: u8 = 0x80;

/// Why a packet cannot be fragmented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// The header is malformed.
    #[error("malformed header: {0}")]
    Malformed(#[from] Malformed),
    /// Its sender forbids it.
    #[error("DF is set")]
    DontFragment,
    /// The header lies about the length of what is behind it.
    #[error("header and payload differ in length")]
    Length,
    /// More lies apart from the payload than [`MAX_LEAD`].
    #[error("too much in front of the payload")]
    Lead,
    /// Not even a header and eight bytes fit a fragment.
    #[error("fragments of {0} bytes are too short")]
    TooShort(usize),
    /// A fragment that reaches beyond the longest packet there can be.
    #[error("the fragment ends beyond 65,535 bytes")]
    Beyond,
}

/// Cuts one packet into fragments, in order. It borrows nothing.
#[derive(Clone, Debug)]
pub struct Fragmenter {
    /// Header of the next fragment, and behind it what of the packet's payload lies apart.
    head: [u8; MAX_HEADER_LEN],
    ip_len: usize,
    /// Bytes behind the IP header in `head` that are still to go out.
    lead: usize,
    /// What of the payload is still to go out.
    rest: Range<usize>,
    /// Payload bytes of every fragment but the last.
    step: usize,
    /// Payload bytes that the last fragment may have.
    room: usize,
    /// Where the next fragment belongs in the whole packet, in bytes.
    offset: usize,
    /// The packet is a fragment that others follow.
    more: bool,
    done: bool,
}

impl Fragmenter {
    /// Prepare to cut the packet that begins with `head` and goes on with the bytes in
    /// `payload` of some buffer into fragments of `limit` bytes at most.
    ///
    /// `head` is the IP header with its options and up to [`MAX_LEAD`] bytes of what follows.
    /// The packet may be a fragment itself.
    pub fn new(
        head: &[u8],
        payload: Range<usize>,
        limit: usize,
    ) -> Result<Fragmenter, FragmentError> {
        let packet = ipv4::Packet::header_only(head)?;
        let ip_len = packet.header_len();
        let lead = head.len() - ip_len;
        if lead > MAX_LEAD {
            return Err(FragmentError::Lead);
        }
        if usize::from(packet.total_len()) != head.len() + payload.len() {
            return Err(FragmentError::Length);
        }
        if packet.dont_frag() {
            return Err(FragmentError::DontFragment);
        }
        let room = limit.saturating_sub(ip_len);
        let step = room / UNIT * UNIT;
        if step == 0 {
            return Err(FragmentError::TooShort(limit));
        }
        let offset = usize::from(packet.frag_offset());
        if offset + lead + payload.len() > MAX_WHOLE {
            return Err(FragmentError::Beyond);
        }
        let mut fragmenter = Fragmenter {
            head: [0; MAX_HEADER_LEN],
            ip_len,
            lead,
            rest: payload,
            step,
            room,
            offset,
            more: packet.more_frags(),
            done: false,
        };
        for (to, from) in fragmenter.head.iter_mut().zip(head) {
            *to = *from;
        }
        Ok(fragmenter)
    }

    /// Whether all fragments have been handed out.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Bytes of header of the next fragment; `None` after the last one.
    pub fn next_header_len(&self) -> Option<usize> {
        (!self.done).then_some(self.ip_len + self.lead)
    }

    /// Write the next fragment's finished header to the start of `slot` and return its
    /// length and where its payload lies.
    ///
    /// `None` at the end, or when `slot` is too short; nothing advances then.
    pub fn fragment(&mut self, slot: &mut [u8]) -> Option<(usize, Range<usize>)> {
        if self.done {
            return None;
        }
        let header_len = self.ip_len + self.lead;
        let left = self.lead + self.rest.len();
        let len = if left <= self.room { left } else { self.step };
        let last = len == left;
        let slot = slot.get_mut(..header_len)?;
        slot.copy_from_slice(self.head.get(..header_len)?);
        let mut packet = ipv4::Packet::header_only(slot).ok()?;
        packet.set_total_len((self.ip_len + len) as u16);
        packet.set_fragment(false, self.more || !last, self.offset as u16);
        packet.fill_checksum();

        let end = self.rest.start + (len - self.lead);
        let payload = self.rest.start..end;
        self.rest.start = end;
        if self.offset == 0 {
            let options = self.head.get_mut(ipv4::MIN_HEADER_LEN..self.ip_len)?;
            drop_uncopied(options);
        }
        self.offset += len;
        self.lead = 0;
        self.done = last;
        Some((header_len, payload))
    }
}

/// Turn options that belong in the first fragment only into no-operations.
fn drop_uncopied(mut options: &mut [u8]) {
    while let Some(&kind) = options.first() {
        let len = match kind {
            OPTION_END => return,
            OPTION_NOP => 1,
            _ => match options.get(1) {
                Some(&len) if len >= 2 => usize::from(len),
                _ => return,
            },
        };
        let Some((option, rest)) = options.split_at_mut_checked(len) else {
            return;
        };
        if kind & OPTION_COPIED == 0 {
            option.fill(OPTION_NOP);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests;
