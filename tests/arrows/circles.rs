//! Circles among modules that have one parent.

use crate::source::Arrow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Modules that know each other, directly or through others.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Circle {
    /// With crate and parent: `weft_control::host::iface`.
    pub(crate) members: BTreeSet<String>,
    /// The arrows between them.
    arrows: Vec<String>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<&str> = self.members.iter().map(String::as_str).collect();
        write!(f, "{}", members.join(" <-> "))?;
        for arrow in &self.arrows {
            write!(f, "\n      {arrow}")?;
        }
        Ok(())
    }
}

/// Each module stands for all that is inside of it. Arrows to a parent are left out: what it
/// defines itself is its children's vocabulary.
pub(crate) fn among_siblings(arrows: &BTreeSet<Arrow>) -> BTreeSet<Circle> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut because: BTreeMap<(String, String), &Arrow> = BTreeMap::new();
    for arrow in arrows.iter().filter(|arrow| arrow.from.0 == arrow.to.0) {
        let Some((from, to)) = siblings(arrow) else {
            continue;
        };
        known.entry(from.clone()).or_default().insert(to.clone());
        because.entry((from, to)).or_insert(arrow);
    }
    let reaches: BTreeMap<&String, BTreeSet<&String>> = known
        .keys()
        .map(|from| (from, reachable(&known, from)))
        .collect();
    let mut circles = BTreeSet::new();
    for (from, reached) in &reaches {
        let back = |other: &&&String| reaches.get(**other).is_some_and(|them| them.contains(from));
        let members: BTreeSet<String> = reached
            .iter()
            .filter(back)
            .map(|&name| name.clone())
            .collect();
        if members.len() > 1 {
            let inside =
                |(from, to): &(String, String)| members.contains(from) && members.contains(to);
            let arrows = because.iter().filter(|(pair, _)| inside(pair));
            let arrows = arrows.map(|(_, arrow)| crate::shown(arrow)).collect();
            circles.insert(Circle { members, arrows });
        }
    }
    circles
}

/// The two children of one parent that an arrow leads from and to.
fn siblings(arrow: &Arrow) -> Option<(String, String)> {
    let (from, to) = (&arrow.from.1, &arrow.to.1);
    let common = from
        .iter()
        .zip(to)
        .take_while(|(one, other)| one == other)
        .count();
    let child = |path: &[String]| {
        let path = path.get(..=common)?.to_vec();
        Some(crate::spelt(&(arrow.from.0.clone(), path)))
    };
    Some((child(from)?, child(to)?))
}

fn reachable<'a>(
    known: &'a BTreeMap<String, BTreeSet<String>>,
    from: &str,
) -> BTreeSet<&'a String> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&String> = known[from].iter().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(known.get(module).into_iter().flatten());
        }
    }
    reached
}
