//! What a first page must not outgrow.

use crate::markdown::Page;

#[test]
fn the_readme_is_short() {
    let lines = Page::read("README.md").text.lines().count();
    assert!(
        lines <= 150,
        "README.md has {lines} lines, and at most 150 are read"
    );
}
