//! Text in messages: what others wrote, what they may have meant, and lengths of time.

use std::time::Duration;

/// The name that `given` may be a slip of: the most like it, if at most a third of it differs
/// (case does not). A longer way is no slip, and a wrong hint is worse than none.
pub fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&given, &name.to_lowercase());
    let near = names.map(|name| (distance(name), name));
    let near = near.filter(|(distance, name)| 3 * distance <= name.len().max(given.len()));
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A length of time in its two largest units.
pub fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest}s"),
        (0, 0, _) => format!("{minutes}m{rest:02}s"),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// The longest value that is shown whole.
const VALUE_MAX: usize = 100;

/// The longest reason.
const REASON_MAX: usize = 400;

/// The longest line.
const LINE_MAX: usize = 4000;

/// A value as part of a message: on one line, and not endless.
pub fn shown(value: &str) -> String {
    fit(value, VALUE_MAX)
}

/// A reason with foreign text in it: on one line, and not endless.
pub(crate) fn one_line(reason: &str) -> String {
    fit(reason, REASON_MAX)
}

/// All of a text, on one line.
pub fn escaped(text: &str) -> String {
    fit(text, usize::MAX)
}

/// A line of the log or a complaint as it is printed, whatever is in it.
pub fn line(text: &str) -> String {
    fit(text, LINE_MAX)
}

/// The text with control characters and others that nobody sees escaped, cut after `max`
/// characters.
fn fit(text: &str, max: usize) -> String {
    let mut fitted = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == max => {
                fitted.push_str("...");
                break;
            }
            c if c.is_control() || is_unseen(c) => fitted.extend(c.escape_default()),
            c => fitted.push(c),
        }
    }
    fitted
}

/// Whether a character ends a line for some readers, turns the direction of what follows, or has
/// no width.
fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'
            | '\u{61c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_have_a_nearest_name_and_other_words_have_none() {
        let names = ["iface", "iface-regex", "etcd-endpoints", "v", "uso", "tso"];
        for (given, name) in [
            ("ifaces", Some("iface")),
            ("ifcae", Some("iface")),
            ("IFACE", Some("iface")),
            ("etcd-endpoint", Some("etcd-endpoints")),
            ("etcd_endpoints", Some("etcd-endpoints")),
            ("V", Some("v")),
            ("us", Some("uso")),
            ("bogus", None),
            ("x", None),
            ("", None),
            ("etcd", None),
        ] {
            assert_eq!(nearest(given, names.into_iter()), name, "{given}");
        }
    }

    #[test]
    fn foreign_text_fits_one_line() {
        assert_eq!(shown("10.5.0.0/16 \u{e9}"), "10.5.0.0/16 \u{e9}");
        assert_eq!(one_line("a\n\u{1b}[2J"), r"a\n\u{1b}[2J");
        assert_eq!(shown("a\u{202e}b\u{2028}c"), r"a\u{202e}b\u{2028}c");
        assert_eq!(line(&"x".repeat(5000)).len(), LINE_MAX + 3);
        assert_eq!(shown(&"x".repeat(5000)).len(), VALUE_MAX + 3);
        assert_eq!(one_line(&"x".repeat(5000)).len(), REASON_MAX + 3);
    }
}
