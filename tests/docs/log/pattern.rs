//! Texts with gaps, and whether two of them may be the same line.

/// The fewest letters that two texts must have in common to be taken for one line.
const COMMON_MIN: usize = 6;

/// The same where one is only a part of the other.
const PART_MIN: usize = 12;

/// A piece of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// Anything.
    Gap,
}

/// A text with gaps.
#[derive(Debug)]
pub(crate) struct Pattern {
    pieces: Vec<Piece>,
    words: Vec<String>,
}

impl Pattern {
    /// A format string, whose `{...}` are gaps.
    pub(crate) fn of_code(text: &str) -> Pattern {
        let mut pieces = Vec::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    pieces.push(Piece::Char(c));
                }
                '{' => {
                    while chars.next().is_some_and(|c| c != '}') {}
                    pieces.push(Piece::Gap);
                }
                c => pieces.push(Piece::Char(c)),
            }
        }
        Pattern::of(pieces)
    }

    /// A line as a page shows it: `...` and `<something>` are gaps.
    pub(crate) fn of_page(line: &str) -> Pattern {
        let mut pieces = Vec::new();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let gap = match rest {
                _ if rest.starts_with("...") => Some(3),
                _ if c == '<' => rest.find('>').map(|end| end + 1),
                _ => None,
            };
            pieces.push(gap.map_or(Piece::Char(c), |_| Piece::Gap));
            rest = &rest[gap.unwrap_or(c.len_utf8())..];
        }
        Pattern::of(pieces)
    }

    fn of(pieces: Vec<Piece>) -> Pattern {
        let text = pieces.iter().map(|piece| match piece {
            Piece::Char(c) => *c,
            Piece::Gap => ' ',
        });
        let text: String = text.collect();
        let words = text
            .split(|c: char| !c.is_alphabetic())
            .filter(|word| word.len() > 3);
        let words = words.map(str::to_owned).collect();
        Pattern { pieces, words }
    }

    /// How many words are the text's own.
    pub(crate) fn own_words(&self) -> usize {
        self.words.len()
    }

    /// Whether some line fits both, and by more than its gaps: half of the one that says less. Either
    /// may also be a part of the other, as a reason is of the line that tells it.
    pub(crate) fn may_be(&self, other: &Pattern) -> bool {
        if !self.words.iter().any(|word| other.words.contains(word)) {
            return false;
        }
        let least = self.letters().min(other.letters()).div_ceil(2);
        let fits = |one: &Pattern, other: &Pattern, min: usize| {
            let common = one.common(other);
            common.is_some_and(|common| common >= least.max(min))
        };
        fits(self, other, COMMON_MIN) || fits(&self.open(), &other.open(), PART_MIN)
    }

    fn letters(&self) -> usize {
        let letters = self.pieces.iter().filter(|&&piece| piece != Piece::Gap);
        letters.count()
    }

    /// With gaps before and behind.
    fn open(&self) -> Pattern {
        let pieces = self.pieces.iter().copied();
        let pieces = std::iter::once(Piece::Gap).chain(pieces);
        Pattern {
            pieces: pieces.chain([Piece::Gap]).collect(),
            words: self.words.clone(),
        }
    }

    /// The most letters that the two share in a line that fits both; `None` if none does.
    fn common(&self, other: &Pattern) -> Option<usize> {
        let (own, other) = (&self.pieces, &other.pieces);
        // What follows in each row is the best from there to both ends.
        let mut below: Vec<Option<usize>> = vec![None; other.len() + 1];
        for i in (0..=own.len()).rev() {
            let mut row: Vec<Option<usize>> = vec![None; other.len() + 1];
            for j in (0..=other.len()).rev() {
                row[j] = match (own.get(i), other.get(j)) {
                    (None, None) => Some(0),
                    (Some(Piece::Gap), None) => below[j],
                    (None, Some(Piece::Gap)) => row[j + 1],
                    (Some(Piece::Gap), Some(Piece::Gap)) => below[j].max(row[j + 1]),
                    // A gap ends here, or takes in one more.
                    (Some(Piece::Gap), Some(Piece::Char(_)))
                    | (Some(Piece::Char(_)), Some(Piece::Gap)) => below[j].max(row[j + 1]),
                    (Some(Piece::Char(a)), Some(Piece::Char(b))) if a == b => {
                        below[j + 1].map(|common| common + 1)
                    }
                    _ => None,
                };
            }
            below = row;
        }
        below[0]
    }
}

#[test]
fn a_line_with_examples_is_that_of_a_format_string() {
    let line = Pattern::of_page("etcd unreachable: <server>: <reason>; retrying");
    assert!(line.may_be(&Pattern::of_code("etcd unreachable: {reasons}; retrying")));
    assert!(!line.may_be(&Pattern::of_code("etcd refused to {what}: {reason}")));
    let ready = Pattern::of_page("ready: 10.5.34.0/24 on flannel.1, peers: 7");
    assert!(ready.may_be(&Pattern::of_code("ready: {} on {ways}, peers: {peers}")));
    assert!(!ready.may_be(&Pattern::of_code("{reason}; trying again")));
    let cut = Pattern::of_page("the route to 10.5.0.0/16 went through another device; ...");
    let whole = "the route to {network} went through another device; it goes through {} now";
    assert!(cut.may_be(&Pattern::of_code(whole)));
    let part = Pattern::of_page("no permission to create TUN device");
    let whole = "no permission to create TUN device {0}: CAP_NET_ADMIN is needed";
    assert!(part.may_be(&Pattern::of_code(whole)));
}
