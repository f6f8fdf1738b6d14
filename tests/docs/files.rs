//! Files that weft writes against the pages that list them.

use crate::markdown::{Page, hold, rows, spans};
use crate::rust;

/// What shows that a file writes to the disk.
const SIGNS: [&str; 8] = [
    "fs::write(",
    "File::create(",
    ".create(true)",
    "create_dir(",
    "create_dir_all(",
    "tempfile_in(",
    "atomic_file::write(",
    "symlink(",
];

/// Programs that are installed. The lab and the benches write to folders of their own.
const CODE: [&str; 5] = [
    "control/src",
    "dataplane/src",
    "deploy/cni/src",
    "src",
    "tuning/src",
];

/// Sources that write, and where a page says what: page and a span of a table there.
const WRITERS: &[(&str, &str, &str)] = &[
    (
        "control/src/host/atomic_file.rs",
        "docs/running.md",
        "/run/flannel/subnet.env",
    ),
    (
        "control/src/host/subnet_env/content.rs",
        "docs/running.md",
        "/run/flannel/subnet.env",
    ),
    (
        "control/src/host/mac_store.rs",
        "docs/running.md",
        "/var/lib/weft/<device>.mac",
    ),
    (
        "control/src/host/state_file.rs",
        "docs/running.md",
        "/var/lib/weft/net-<network>.state",
    ),
    (
        "control/src/host/sysctl.rs",
        "docs/running.md",
        "accept_ra=0",
    ),
    (
        "dataplane/src/fastpath/pins.rs",
        "docs/running.md",
        "/sys/fs/bpf/weft/<namespace>/<device>/",
    ),
    (
        "deploy/cni/src/state.rs",
        "docs/containers.md",
        "/var/lib/cni/flannel",
    ),
    ("src/bench/folder.rs", "docs/bench.md", "bench.json"),
    (
        "src/install_conf.rs",
        "docs/containers.md",
        "weft install-conf",
    ),
    (
        "src/mk_docker_opts.rs",
        "docs/containers.md",
        "/run/docker_opts.env",
    ),
    (
        "tuning/src/journal.rs",
        "docs/tuning.md",
        "/var/lib/weft/tune.json",
    ),
];

#[test]
fn every_source_that_writes_is_named_with_the_page_that_says_what() {
    let mut wrong = Vec::new();
    let mut writers = Vec::new();
    for (file, text) in rust::sources(&CODE) {
        let shipped = text.split("#[cfg(test)]").next().unwrap_or_default();
        if SIGNS.iter().any(|sign| shipped.contains(sign)) {
            writers.push(file);
        }
    }
    for file in &writers {
        if !WRITERS.iter().any(|(name, _, _)| name == file) {
            wrong.push(format!("{file} writes, and is not in WRITERS"));
        }
    }
    for (file, page, span) in WRITERS {
        if !writers.iter().any(|name| name == file) {
            wrong.push(format!("{file} writes nothing"));
        }
        let rows = rows(&Page::read(page).text);
        if !rows
            .iter()
            .flatten()
            .any(|cell| spans(cell).any(|found| found == *span))
        {
            wrong.push(format!("{page}: `{span}` ({file}) is in no table"));
        }
    }
    hold(wrong, "files that weft writes");
}
