//! Replays the fuzz corpora, so that what fuzzing once reached stays checked everywhere.

use std::fs;
use std::path::{Path, PathBuf};
use weft_fuzz::TARGETS;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let list = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect();
    let listing: std::io::Result<Vec<PathBuf>> = list();
    let mut paths = listing.unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    paths.sort();
    paths
}

#[test]
fn u27_every_corpus_file_passes_its_target() {
    for (name, target) in TARGETS {
        let dir = corpus().join(name);
        let files = entries(&dir);
        assert!(!files.is_empty(), "{} is empty", dir.display());
        for file in files {
            let data = fs::read(&file).unwrap();
            let outcome = std::panic::catch_unwind(|| target(&data));
            assert!(outcome.is_ok(), "{} fails", file.display());
        }
    }
}

#[test]
fn u27_every_corpus_and_every_fuzz_target_is_listed() {
    let mut listed: Vec<_> = TARGETS.iter().map(|(name, _)| name.to_string()).collect();
    listed.sort();
    let stems = |dir: &Path| -> Vec<String> {
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        entries(dir).into_iter().map(stem).collect()
    };
    assert_eq!(stems(&corpus()), listed);
    assert_eq!(stems(&corpus().with_file_name("fuzz_targets")), listed);
}
