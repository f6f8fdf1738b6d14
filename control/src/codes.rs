//! The codes of messages that a person can act on: what is seen, why, and what to do.
//!
//! An event names its code as the field `code`. A code means the same for ever: one that nothing
//! says any more moves to its topic's [`Topic::retired`], and its number is not used again.

mod etcd;
mod fast_path;
mod files;
mod firewall;
mod hand_over;
mod kube;
mod leases;
mod start;
mod tunnel;
mod underlay;

/// A message with a code.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Its name, such as `W0201`.
    pub id: &'static str,
    /// What the lines look like: `...` and `<something>` stand for what differs.
    pub lines: &'static [&'static str],
    /// Why it is said, in sentences of Markdown; links are from `docs/` on.
    pub cause: &'static str,
    /// What to do, as the cause.
    pub remedy: &'static str,
}

/// Codes with the same first two digits.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// What they are about.
    pub title: &'static str,
    /// Those that are said, in the order of their numbers.
    pub codes: &'static [Code],
    /// Those that no version says any more.
    pub retired: &'static [Code],
}

/// All codes. The first topic's are `W01..`, and so on.
pub static TOPICS: [Topic; 10] = [
    start::TOPIC,
    etcd::TOPIC,
    leases::TOPIC,
    underlay::TOPIC,
    tunnel::TOPIC,
    fast_path::TOPIC,
    firewall::TOPIC,
    files::TOPIC,
    hand_over::TOPIC,
    kube::TOPIC,
];

/// Those that are said, in the order of their numbers.
pub fn all() -> impl Iterator<Item = &'static Code> {
    TOPICS.iter().flat_map(|topic| topic.codes)
}

/// The code called `id`, in whatever case; also one that is retired.
pub fn find(id: &str) -> Option<&'static Code> {
    let retired = TOPICS.iter().flat_map(|topic| topic.retired);
    all()
        .chain(retired)
        .find(|code| code.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_in_order_without_gaps_so_that_none_is_lost_or_given_twice() {
        for (index, topic) in TOPICS.iter().enumerate() {
            let both = topic.codes.iter().chain(topic.retired);
            let mut ids: Vec<&str> = both.map(|code| code.id).collect();
            ids.sort();
            let wanted = (1..=ids.len()).map(|number| format!("W{:02}{number:02}", index + 1));
            assert_eq!(ids, wanted.collect::<Vec<_>>(), "{}", topic.title);
            assert!(topic.codes.is_sorted_by_key(|code| code.id));
        }
    }

    #[test]
    fn every_code_has_lines_a_cause_and_a_remedy_in_sentences() {
        for code in all() {
            assert!(!code.lines.is_empty(), "{}", code.id);
            for line in code.lines {
                assert!(!line.contains(['`', '|', '\n']), "{}: {line}", code.id);
            }
            for text in [code.cause, code.remedy] {
                assert!(
                    text.ends_with('.') && !text.contains(['|', '\n']),
                    "{}: {text}",
                    code.id
                );
            }
        }
    }

    #[test]
    fn codes_are_found_in_any_case() {
        let first = &TOPICS[0].codes[0];
        assert_eq!(find("W0101"), Some(first));
        assert_eq!(find("w0101"), Some(first));
        assert_eq!(find("W0100"), None);
        assert_eq!(find(""), None);
    }
}
