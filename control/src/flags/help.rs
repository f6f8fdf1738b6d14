//! The text of `-help`.

use super::flag::{Kind, Status};
use super::table::TABLE;
use std::fmt::Write;

/// What `-help` prints.
pub(super) fn text() -> String {
    let mut text = String::from("Usage: weft agent [flags]\n\n");
    for flag in TABLE.iter().filter(|flag| flag.does_something()) {
        let value = match flag.kind {
            Kind::Bool => "",
            Kind::Int => " int",
            Kind::Switch | Kind::Text | Kind::Repeated => " string",
        };
        let default = match (flag.kind, flag.default) {
            (Kind::Bool, "false") | (_, "") => String::new(),
            (_, default) => format!(" (default {default})"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "  -{}{value}\n        {}{default}",
            flag.name, flag.help
        );
    }
    let names = |wanted: fn(&Status) -> bool| {
        let flags = TABLE.iter().filter(|flag| wanted(&flag.status));
        flags.map(|flag| flag.name).collect::<Vec<_>>().join(", ")
    };
    let _ = writeln!(
        text,
        "\nflanneld's flags that are accepted and have no effect: {}",
        names(|status| matches!(status, Status::NoEffect(_)))
    );
    text.push_str("\nA flag that is not given is taken from FLANNELD_<NAME>, such as FLANNELD_ETCD_ENDPOINTS.\n");
    text
}
