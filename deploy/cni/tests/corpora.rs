//! Replays the fuzz corpus, so that what fuzzing once reached stays checked everywhere.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn u27_netconf_corpus_never_panics() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/netconf");
    let mut replayed = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let file = entry.unwrap().path();
        let data = fs::read(&file).unwrap();
        let outcome = std::panic::catch_unwind(|| weft_cni::fuzzing::netconf(&data));
        assert!(outcome.is_ok(), "{} fails", file.display());
        replayed += 1;
    }
    assert!(replayed >= 10, "only {replayed} files in {}", dir.display());
}
