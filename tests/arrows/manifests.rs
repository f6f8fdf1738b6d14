//! What the packages of the workspace say that they need of each other.

use std::fs;
use std::path::Path;
use toml::Table;

/// A package.
pub(crate) struct Manifest {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<String>,
    pub(crate) for_tests: Vec<String>,
}

/// All packages of the repository, members of the workspace or not.
pub(crate) fn read(root: &Path) -> Vec<Manifest> {
    let files = crate::files(root, "toml").into_iter();
    let manifests = files.filter(|file| file.ends_with("Cargo.toml"));
    manifests
        .filter_map(|file| {
            let text = fs::read_to_string(root.join(&file)).unwrap();
            let table: Table =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let name = table.get("package")?.get("name")?.as_str()?.to_owned();
            Some(Manifest {
                name,
                dependencies: names(&table, &["dependencies", "build-dependencies"]),
                for_tests: names(&table, &["dev-dependencies"]),
            })
        })
        .collect()
}

fn names(table: &Table, sections: &[&str]) -> Vec<String> {
    let tables = sections
        .iter()
        .filter_map(|section| table.get(*section)?.as_table());
    tables.flat_map(|table| table.keys()).cloned().collect()
}
