//! The ECN field of both IP versions (RFC 3168).

/// What the two bits say. `repr` is the codepoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Ecn {
    /// Not ECN-capable transport.
    #[default]
    NotEct = 0,
    /// ECN-capable, codepoint 1.
    Ect1 = 1,
    /// ECN-capable, codepoint 0.
    Ect0 = 2,
    /// Congestion experienced.
    Ce = 3,
}

impl Ecn {
    /// All four, in the order of their codepoints.
    pub const ALL: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

    /// The low two bits of a type of service or traffic class.
    #[inline]
    pub const fn of_tos(tos: u8) -> Ecn {
        Ecn::ALL[(tos & 3) as usize]
    }

    /// The codepoint: 0 to 3.
    #[inline]
    pub const fn bits(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codepoints_are_those_of_rfc_3168() {
        assert_eq!(Ecn::ALL.map(Ecn::bits), [0b00, 0b01, 0b10, 0b11]);
        for tos in 0..=u8::MAX {
            assert_eq!(Ecn::of_tos(tos).bits(), tos & 3);
        }
        assert_eq!(Ecn::default(), Ecn::NotEct);
    }
}
