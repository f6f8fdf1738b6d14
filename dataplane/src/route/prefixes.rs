//! Longest-prefix match over one address family, immutable once built.
//!
//! The prefixes are flattened into disjoint ranges, each with the value of the longest
//! prefix over it, so that one binary search answers any address. On top lies an index
//! with one slot for each subnet of the overlay network: where a slot lies in one range,
//! which is the case unless somebody routes a part of a subnet, the lookup ends there.

/// Slots an index may have at most: 4 MiB of them. Larger networks are searched.
pub(super) const MAX_SLOTS: usize = 1 << 20;

/// Values that prefixes may carry lie below this.
pub(super) const MAX_VALUE: u32 = SPLIT;

/// No prefix covers the addresses.
const EMPTY: u32 = u32::MAX;

/// The slot is cut by prefixes longer than itself.
const SPLIT: u32 = u32::MAX - 1;

/// An IP address as an unsigned integer.
pub(super) trait Address: Copy + Ord {
    /// Length in bits.
    const BITS: u8;
    /// The lowest address.
    const ZERO: Self;
    /// `self + (n << shift)`, modulo the address space; `shift` is less than `BITS`.
    fn add_shifted(self, n: usize, shift: u8) -> Self;
    /// `(self - base) >> shift`, saturating; `shift` is less than `BITS`.
    fn slot(self, base: Self, shift: u8) -> usize;
    /// The highest address that shares the first `len` bits with this one.
    fn last(self, len: u8) -> Self;
    /// The address after this one, unless there is none.
    fn next(self) -> Option<Self>;
    /// The address before this one, which is not the lowest.
    fn previous(self) -> Self;
}

macro_rules! address {
    ($int:ty) => {
        impl Address for $int {
            const BITS: u8 = <$int>::BITS as u8;
            const ZERO: Self = 0;

            fn add_shifted(self, n: usize, shift: u8) -> Self {
                self.wrapping_add((n as $int) << shift)
            }

            #[inline]
            fn slot(self, base: Self, shift: u8) -> usize {
                usize::try_from(self.wrapping_sub(base) >> shift).unwrap_or(usize::MAX)
            }

            fn last(self, len: u8) -> Self {
                self | <$int>::MAX.checked_shr(u32::from(len)).unwrap_or(0)
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Self {
                self.wrapping_sub(1)
            }
        }
    };
}

address!(u32);
address!(u128);

/// `len` leading bits of `start`, the others of which are zero, belong to `value`.
#[derive(Clone, Copy)]
pub(super) struct Prefix<A> {
    pub(super) start: A,
    pub(super) len: u8,
    pub(super) value: u32,
}

/// The overlay network and the length of the subnets it is cut into:
/// `len <= subnet_len <= A::BITS`.
#[derive(Clone, Copy)]
pub(super) struct Network<A> {
    pub(super) start: A,
    pub(super) len: u8,
    pub(super) subnet_len: u8,
}

/// Range `i` reaches from `starts[i]` to just before `starts[i + 1]`.
struct Ranges<A> {
    starts: Vec<A>,
    values: Vec<u32>,
}

impl<A: Address> Ranges<A> {
    /// Of equal prefixes the last one wins.
    fn flatten(mut prefixes: Vec<Prefix<A>>) -> Ranges<A> {
        // Stable, so equal prefixes stay in the order in which they were given.
        prefixes.sort_by_key(|prefix| (prefix.start, prefix.len));
        let mut ranges = Ranges {
            starts: Vec::with_capacity(prefixes.len() + 1),
            values: Vec::with_capacity(prefixes.len() + 1),
        };
        ranges.begin(A::ZERO, EMPTY);
        // The prefixes around the current address, from the outermost to the innermost.
        let mut open: Vec<(A, u32)> = Vec::new();
        for prefix in prefixes {
            while let Some(&(last, _)) = open.last()
                && last < prefix.start
            {
                ranges.close(&mut open);
            }
            ranges.begin(prefix.start, prefix.value);
            open.push((prefix.start.last(prefix.len), prefix.value));
        }
        while !open.is_empty() {
            ranges.close(&mut open);
        }
        ranges
    }

    fn begin(&mut self, start: A, value: u32) {
        if self.starts.last() == Some(&start) {
            self.values.pop();
            self.values.push(value);
        } else if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    /// End the innermost prefix; what follows belongs to the one around it.
    fn close(&mut self, open: &mut Vec<(A, u32)>) {
        if let Some((last, _)) = open.pop()
            && let Some(next) = last.next()
        {
            let outer = open.last().map_or(EMPTY, |&(_, value)| value);
            self.begin(next, outer);
        }
    }

    /// One value for each subnet of `network`, or [`SPLIT`] where it has several.
    fn index(&self, network: Network<A>) -> Vec<u32> {
        let shift = A::BITS - network.subnet_len;
        let count = 1 << (network.subnet_len - network.len);
        let mut at = 0;
        (0..count)
            .map(|i| {
                let first = network.start.add_shifted(i, shift);
                let last = first.last(network.subnet_len);
                while self.starts.get(at + 1).is_some_and(|&next| next <= first) {
                    at += 1;
                }
                match self.starts.get(at + 1) {
                    Some(&next) if next <= last => SPLIT,
                    _ => self.values.get(at).copied().unwrap_or(EMPTY),
                }
            })
            .collect()
    }
}

/// Prefixes of one address family, each with a value below [`MAX_VALUE`].
pub(super) struct PrefixMap<A> {
    base: A,
    shift: u8,
    slots: Box<[u32]>,
    starts: Box<[A]>,
    values: Box<[u32]>,
}

impl<A: Address> PrefixMap<A> {
    /// A map of `prefixes`, with an index if `network` is given and has at most
    /// [`MAX_SLOTS`] subnets. Of equal prefixes the last one wins.
    pub(super) fn new(network: Option<Network<A>>, prefixes: Vec<Prefix<A>>) -> PrefixMap<A> {
        let indexed = network.filter(|n| {
            !prefixes.is_empty()
                && n.subnet_len > 0
                && u32::from(n.subnet_len - n.len) <= MAX_SLOTS.ilog2()
        });
        let ranges = Ranges::flatten(prefixes);
        PrefixMap {
            base: indexed.map_or(A::ZERO, |n| n.start),
            shift: indexed.map_or(0, |n| A::BITS - n.subnet_len),
            slots: indexed.map_or(Vec::new(), |n| ranges.index(n)).into(),
            starts: ranges.starts.into(),
            values: ranges.values.into(),
        }
    }

    /// The value of the longest prefix over `address`.
    #[inline]
    pub(super) fn get(&self, address: A) -> Option<u32> {
        // Addresses below the base wrap around and end up beyond the last slot.
        match self.slots.get(address.slot(self.base, self.shift)) {
            Some(&EMPTY) => None,
            Some(&SPLIT) | None => self.search(address),
            Some(&value) => Some(value),
        }
    }

    /// The disjoint ranges that have a value: their first and last address and the value.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (A, A, u32)> {
        let next = self.starts.iter().skip(1).map(|&next| Some(next));
        let ends = next.chain([None]);
        let ranges = self.starts.iter().zip(ends).zip(&self.values);
        ranges.filter_map(|((&start, next), &value)| {
            let last = next.map_or(A::ZERO.last(0), A::previous);
            (value != EMPTY).then_some((start, last, value))
        })
    }

    fn search(&self, address: A) -> Option<u32> {
        let after = self.starts.partition_point(|&start| start <= address);
        let value = *self.values.get(after.checked_sub(1)?)?;
        (value != EMPTY).then_some(value)
    }
}
