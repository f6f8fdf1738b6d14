//! Programs that are none of ours.

use aya::programs::{SchedClassifier, TcAttachType};
use std::io;

/// What the names of our own programs begin with.
const OURS: &str = "weft_";

/// The names of tcx programs on `device` that are none of ours, in both directions. A kernel
/// without tcx links is an error.
pub fn others(device: &str) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for direction in [TcAttachType::Ingress, TcAttachType::Egress] {
        let programs = SchedClassifier::query_tcx(device, direction);
        let (_, programs) = programs.map_err(io::Error::other)?;
        let names = programs.iter().map(|program| program.name_as_str());
        let names = names.map(|name| name.unwrap_or("a program without a name"));
        found.extend(
            names
                .filter(|name| !name.starts_with(OURS))
                .map(str::to_owned),
        );
    }
    Ok(found)
}
