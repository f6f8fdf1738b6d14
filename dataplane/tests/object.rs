//! The committed objects are what the sources give, wherever they lie.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

/// What `build.sh` calls, each with the Debian package that has it.
const TOOLS: [(&str, &str); 3] = [
    ("clang-14", "clang-14"),
    ("llvm-strip-14", "llvm-14"),
    ("/usr/include/bpf/bpf_helpers.h", "libbpf-dev"),
];

/// The objects in `folder`, by their names.
fn objects(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let objects = entries.filter(|entry| entry.path().extension().is_some_and(|end| end == "o"));
    objects
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Build the programs whose sources are in `folder`.
fn build(folder: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let out = tempfile::tempdir().unwrap();
    let script = folder.join("build.sh");
    let status = Command::new(&script).arg(out.path()).status().unwrap();
    assert!(status.success(), "{} fails", script.display());
    objects(out.path())
}

#[test]
fn the_committed_objects_are_built_from_these_sources_in_any_folder() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf");
    let there = |file: &str| Path::new(file).exists() || weft_lab::tools::in_path(file);
    if let Some((file, package)) = TOOLS.iter().find(|(file, _)| !there(file)) {
        weft_lab::skip(&format!(
            "there is no {file}; try `apt-get install {package}`"
        ));
        return;
    }
    let elsewhere = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&sources).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, elsewhere.path().join(path.file_name().unwrap())).unwrap();
    }
    let built = build(&sources);
    assert!(
        built == build(elsewhere.path()),
        "an object depends on the folder that it is built in"
    );
    assert!(
        built == objects(&sources),
        "the objects are not what the sources give: run dataplane/bpf/build.sh dataplane/bpf"
    );
}
