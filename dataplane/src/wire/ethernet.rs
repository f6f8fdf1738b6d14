//! Ethernet II.

use super::{Malformed, between, take, take_u16};
use std::fmt;
use std::str::FromStr;

/// Length of the header in bytes, without VLAN tags.
pub const HEADER_LEN: usize = 14;

/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;

/// EtherType of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// A MAC address.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Whether the group bit is set; broadcast counts.
    #[inline]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// Whether all bytes are zero.
    #[inline]
    pub fn is_unspecified(self) -> bool {
        self.0 == [0; 6]
    }
}

impl From<[u8; 6]> for MacAddr {
    #[inline]
    fn from(bytes: [u8; 6]) -> MacAddr {
        MacAddr(bytes)
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is no MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: expected six two-digit hexadecimal bytes like 0a:58:0a:f4:00:01")]
pub struct BadMac;

impl FromStr for MacAddr {
    type Err = BadMac;

    /// Six bytes of two hexadecimal digits, all separated by `:` or all by `-`.
    fn from_str(text: &str) -> Result<MacAddr, BadMac> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or(BadMac)?;
            // from_str_radix alone would take a sign.
            if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(BadMac);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| BadMac)?;
        }
        match parts.next() {
            None => Ok(MacAddr(bytes)),
            Some(_) => Err(BadMac),
        }
    }
}

/// An Ethernet frame without its check sequence.
#[derive(Clone, Copy, Debug)]
pub struct Frame<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Frame<T> {
    /// Check that a header is there.
    #[inline]
    pub fn new(bytes: T) -> Result<Frame<T>, Malformed> {
        match bytes.as_ref().len() {
            HEADER_LEN.. => Ok(Frame { bytes }),
            _ => Err(Malformed::Truncated),
        }
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> MacAddr {
        MacAddr(take(self.bytes.as_ref(), 0))
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> MacAddr {
        MacAddr(take(self.bytes.as_ref(), 6))
    }

    /// EtherType.
    #[inline]
    pub fn ethertype(&self) -> u16 {
        take_u16(self.bytes.as_ref(), 12)
    }

    /// What follows the header.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        between(self.bytes.as_ref(), HEADER_LEN, usize::MAX)
    }
}

impl<'a> Frame<&'a [u8]> {
    /// As [`Frame::payload`], borrowing from the buffer rather than from the view.
    #[inline]
    pub fn into_payload(self) -> &'a [u8] {
        between(self.bytes, HEADER_LEN, usize::MAX)
    }
}

/// Write a header.
#[inline]
pub fn write(header: &mut [u8; HEADER_LEN], dst: MacAddr, src: MacAddr, ethertype: u16) {
    header[..6].copy_from_slice(&dst.0);
    header[6..12].copy_from_slice(&src.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: [u8; 16] = [
        0x0a, 0x58, 0x0a, 0xf4, 0x02, 0x03, 0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x02, 0x86, 0xdd, 0x60, 0,
    ];

    #[test]
    fn reads_a_frame() {
        let frame = Frame::new(&FRAME[..]).unwrap();
        assert_eq!(frame.dst().to_string(), "0a:58:0a:f4:02:03");
        assert_eq!(frame.src(), MacAddr([0x0a, 0x58, 0x0a, 0xf4, 0x01, 0x02]));
        assert_eq!(frame.ethertype(), ETHERTYPE_IPV6);
        assert_eq!(frame.payload(), [0x60, 0]);
        assert_eq!(Frame::new(&FRAME[..13]).unwrap_err(), Malformed::Truncated);
    }

    #[test]
    fn writes_the_header_it_reads() {
        let mut header = [0xff; HEADER_LEN];
        let frame = Frame::new(&FRAME[..]).unwrap();
        write(&mut header, frame.dst(), frame.src(), frame.ethertype());
        assert_eq!(header, FRAME[..HEADER_LEN]);
    }

    #[test]
    fn mac_text_both_ways() {
        let mac = MacAddr([0x0a, 0x58, 0, 0xf4, 0xff, 0x01]);
        assert_eq!("0a:58:00:f4:ff:01".parse(), Ok(mac));
        assert_eq!("0A-58-00-F4-FF-01".parse(), Ok(mac));
        assert_eq!(
            format!("{mac} {mac:?}"),
            "0a:58:00:f4:ff:01 0a:58:00:f4:ff:01"
        );
        for bad in [
            "",
            "0a",
            "0a:58:00:f4:ff",
            "0a:58:00:f4:ff:01:02",
            "0a:58:00:f4:ff:1",
            "0a:58:00:f4:ff:+1",
            "0a:58:00:f4:ff:gg",
            "0a:58-00:f4:ff:01",
            "0a5800f4ff01",
            "0a:58:00:f4:ff:é",
        ] {
            assert_eq!(bad.parse::<MacAddr>(), Err(BadMac), "{bad}");
        }
    }

    #[test]
    fn mac_kinds() {
        assert!(MacAddr([0xff; 6]).is_multicast());
        assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
        assert!(!MacAddr([0x0a, 0x58, 0, 0, 0, 1]).is_multicast());
        assert!(MacAddr::default().is_unspecified());
        assert!(!MacAddr([0, 0, 0, 0, 0, 1]).is_unspecified());
    }
}
