//! Values in Go's syntax.

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// What a switch is set to: `Some(None)` if that is left to weft.
pub(super) fn parse_switch(text: &str) -> Option<Option<bool>> {
    match text {
        "auto" => Some(None),
        "on" => Some(Some(true)),
        "off" => Some(Some(false)),
        _ => parse_bool(text).map(Some),
    }
}

/// Go's `strconv.ParseInt` with base 0, but for underscores.
pub(super) fn parse_int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let radix = |prefixes: [&str; 2]| prefixes.iter().find_map(|p| digits.strip_prefix(p));
    let (digits, radix) = match () {
        () if let Some(rest) = radix(["0x", "0X"]) => (rest, 16),
        () if let Some(rest) = radix(["0b", "0B"]) => (rest, 2),
        () if let Some(rest) = radix(["0o", "0O"]) => (rest, 8),
        () if digits.len() > 1 && digits.starts_with('0') => (digits, 8),
        () => (digits, 10),
    };
    match digits.starts_with(['+', '-']) {
        true => None,
        false => i64::from_str_radix(&format!("{sign}{digits}"), radix).ok(),
    }
}
