//! As much of protobuf's encoding as two messages take: fields that have a length.

/// The wire type of fields with a length.
const LENGTH_DELIMITED: u64 = 2;

/// A field with a length.
pub(super) fn field(number: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let mut field = Vec::with_capacity(content.len() + 4);
    push_varint(&mut field, number << 3 | LENGTH_DELIMITED);
    push_varint(&mut field, content.len() as u64);
    field.extend_from_slice(content);
    field
}

fn push_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// The content of the first field of this number that has a length; `None` if there is none, or
/// the message cannot be read up to there.
pub(super) fn find(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut rest = message;
    while !rest.is_empty() {
        let tag = take_varint(&mut rest)?;
        let len = match tag & 7 {
            0 => {
                take_varint(&mut rest)?;
                continue;
            }
            1 => 8,
            LENGTH_DELIMITED => take_varint(&mut rest)?,
            5 => 4,
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
        if tag == number << 3 | LENGTH_DELIMITED {
            return Some(content);
        }
        rest = after;
    }
    None
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_again() {
        let long = "x".repeat(300);
        let message = [vec![0x08, 0x96, 0x01], field(2, "two"), field(20, &long)].concat();
        assert_eq!(find(&message, 2), Some(b"two".as_slice()));
        assert_eq!(find(&message, 20), Some(long.as_bytes()));
        assert_eq!(find(&message, 1), None);
        assert_eq!(find(&message[..6], 2), None, "cut off");
        assert_eq!(find(&[0xff; 12], 1), None);
    }
}
