//! Foreign text in messages.

/// The longest value that is shown whole.
const VALUE_MAX: usize = 100;

/// The longest reason.
const REASON_MAX: usize = 400;

/// A value as part of a message: on one line, and not endless.
pub(crate) fn shown(value: &str) -> String {
    fit(value, VALUE_MAX)
}

/// A reason with foreign text in it: on one line, and not endless.
pub(crate) fn one_line(reason: &str) -> String {
    fit(reason, REASON_MAX)
}

/// Text that people typed, on one line.
pub(crate) fn escaped(text: &str) -> String {
    fit(text, usize::MAX)
}

/// The text with control characters escaped, cut after `max` characters.
fn fit(text: &str, max: usize) -> String {
    let mut fitted = String::new();
    for (i, c) in text.chars().enumerate() {
        match c {
            _ if i == max => {
                fitted.push_str("...");
                break;
            }
            c if c.is_control() => fitted.extend(c.escape_default()),
            c => fitted.push(c),
        }
    }
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_fits_one_line() {
        assert_eq!(shown("10.5.0.0/16 \u{e9}"), "10.5.0.0/16 \u{e9}");
        assert_eq!(one_line("a\n\u{1b}[2J"), r"a\n\u{1b}[2J");
        assert_eq!(shown(&"x".repeat(5000)).len(), VALUE_MAX + 3);
        assert_eq!(one_line(&"x".repeat(5000)).len(), REASON_MAX + 3);
    }
}
