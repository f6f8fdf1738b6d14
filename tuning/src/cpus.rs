//! Sets of CPUs, in the two forms that the kernel has for them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// The highest number that a CPU can have (`CONFIG_NR_CPUS` is 8,192 at most).
const CPU_MAX: u32 = 8191;

/// Bits of each group of a mask.
const GROUP: u32 = 32;

/// CPUs by number. As text a list such as `0-3,8`, or `none`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

/// A text that is no set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("neither a list of CPUs such as 0-3,8 nor none")]
pub struct NoCpuSet;

impl CpuSet {
    /// Their numbers, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those that `other` has, too.
    pub fn and(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.intersection(&other.0).copied().collect())
    }

    /// Those that `other` does not have.
    pub fn without(&self, other: &CpuSet) -> CpuSet {
        CpuSet(self.0.difference(&other.0).copied().collect())
    }

    /// These, or `other` if there is none.
    pub fn or<'a>(&'a self, other: &'a CpuSet) -> &'a CpuSet {
        if self.is_empty() { other } else { self }
    }

    /// Read a mask such as `ff` or `1,00000000`, the highest CPUs first.
    pub fn from_mask(text: &str) -> Result<CpuSet, NoCpuSet> {
        let mut cpus = BTreeSet::new();
        for (group, digits) in text.trim().split(',').rev().enumerate() {
            let bits = u32::from_str_radix(digits, 16).map_err(|_| NoCpuSet)?;
            let first = group as u32 * GROUP;
            cpus.extend(
                (0..GROUP)
                    .filter(|bit| bits >> bit & 1 == 1)
                    .map(|bit| first + bit),
            );
        }
        match cpus.last() {
            Some(&last) if last > CPU_MAX => Err(NoCpuSet),
            _ => Ok(CpuSet(cpus)),
        }
    }

    /// The mask of them, in groups of eight digits.
    pub fn to_mask(&self) -> String {
        let groups = self.0.last().map_or(0, |last| last / GROUP);
        let group = |number: u32| {
            let own = self.iter().filter(|cpu| cpu / GROUP == number);
            own.fold(0_u32, |bits, cpu| bits | 1 << (cpu % GROUP))
        };
        let groups = (0..=groups)
            .rev()
            .map(|number| format!("{:08x}", group(number)));
        groups.collect::<Vec<_>>().join(",")
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> CpuSet {
        CpuSet(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = NoCpuSet;

    fn from_str(text: &str) -> Result<CpuSet, NoCpuSet> {
        let text = text.trim();
        // The kernel writes an empty line for none.
        if text.is_empty() || text == "none" {
            return Ok(CpuSet::default());
        }
        let number = |text: &str| -> Result<u32, NoCpuSet> {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|&cpu| digits && cpu <= CPU_MAX);
            number.ok_or(NoCpuSet)
        };
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(NoCpuSet);
            }
            cpus.extend(first..=last);
        }
        Ok(CpuSet(cpus))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let cpus: Vec<u32> = self.iter().collect();
        for (index, run) in cpus.chunk_by(|a, b| a + 1 == *b).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                [only] => write!(f, "{comma}{only}")?,
                [] => {}
            }
        }
        Ok(())
    }
}

impl serde::Serialize for CpuSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lists_and_masks_are_read_as_the_kernel_writes_them() {
        for (list, mask, shown) in [
            ("0", "1", "0"),
            ("0-3,8", "10f", "0-3,8"),
            ("", "0", "none"),
            ("none", "00000000,00000000", "none"),
            ("32,63", "80000001,00000000", "32,63"),
        ] {
            let set: CpuSet = list.parse().unwrap();
            assert_eq!(CpuSet::from_mask(mask).unwrap(), set, "{list}");
            assert_eq!(set.to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["a", "1-", "-1", "3-1", "1,,2", "9999", "+1", "0x1"] {
            assert_eq!(text.parse::<CpuSet>(), Err(NoCpuSet), "{text}");
        }
        for text in ["", "g", "1,", "-1"] {
            assert_eq!(CpuSet::from_mask(text), Err(NoCpuSet), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_forms_lead_back(cpus in proptest::collection::btree_set(0_u32..200, 0..20)) {
            let set: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(CpuSet::from_mask(&set.to_mask()), Ok(set.clone()));
            prop_assert_eq!(set.to_string().parse(), Ok(set));
        }
    }
}
