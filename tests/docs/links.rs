//! Links lead somewhere.

use crate::markdown::{Page, hold, root};
use std::path::Path;

#[test]
fn every_relative_link_leads_to_a_file_and_a_heading() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in Page::all() {
        for link in page.links().iter().filter(|link| !link.contains("://")) {
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let folder = Path::new(&page.name).parent().unwrap();
            let name = match file {
                "" => page.name.clone(),
                file => folder.join(file).to_string_lossy().into_owned(),
            };
            if !root().join(&name).exists() {
                wrong.push(format!("{}: {link}: no such file", page.name));
            } else if !anchor.is_empty() && !Page::read(&name).anchors().contains(anchor) {
                wrong.push(format!("{}: {link}: no such heading", page.name));
            }
        }
    }
    hold(wrong, "links");
    assert!(seen > 100, "{seen}");
}

#[test]
fn every_page_can_be_reached() {
    let listed: Vec<String> = ["docs/README.md", "docs/decisions/README.md"]
        .iter()
        .flat_map(|&index| {
            let folder = Path::new(index).parent().unwrap().to_path_buf();
            let links = Page::read(index).links();
            links
                .into_iter()
                .map(move |link| folder.join(link).to_string_lossy().into_owned())
        })
        .collect();
    let pages = Page::all().into_iter().map(|page| page.name);
    let indices = ["README.md", "docs/README.md", "docs/decisions/README.md"];
    let unlisted = pages.filter(|name| !indices.contains(&name.as_str()) && !listed.contains(name));
    hold(unlisted, "pages that no index lists");
}
