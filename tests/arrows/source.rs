//! The modules of the workspace's crates, and which of them names which.
//!
//! Read with a parser, from the crate's root on as the compiler does: `use` trees, paths in code
//! and in types, and what looks like a path among the tokens of macros. What is compiled for
//! tests only is left out. A name that a module takes over from another (`use`, with or without
//! `pub`) leads to where it is defined.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemUse, Meta, UseTree, Visibility};

/// How many names may lead on to others before a path is given up.
const HOPS_MAX: usize = 24;

/// A path, segment by segment.
type Segments = Vec<String>;

/// A module of a crate.
#[derive(Default)]
pub(crate) struct Module {
    /// From the crate's root, which has none: `route::table`.
    pub(crate) path: Segments,
    parent: usize,
    children: BTreeMap<String, usize>,
    /// Names that `use` brings in, and what they stand for.
    names: BTreeMap<String, Segments>,
    /// Modules all of whose names are brought in.
    globs: Vec<Segments>,
    /// Names of items that are defined here.
    items: BTreeSet<String>,
    /// Types that other modules may see.
    pub(crate) types: BTreeSet<String>,
    /// Every path that the code names.
    mentions: BTreeSet<Segments>,
}

impl Module {
    fn has(&self, name: &str) -> bool {
        self.children.contains_key(name)
            || self.names.contains_key(name)
            || self.items.contains(name)
    }
}

/// A crate, as its code names it, and its modules; the root is the first.
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) modules: Vec<Module>,
}

/// That one module names another, and by which path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Arrow {
    /// Crate and module.
    pub(crate) from: (String, Segments),
    pub(crate) to: (String, Segments),
    pub(crate) mention: String,
}

/// A crate whose root is the file at `root`.
pub(crate) fn read(name: &str, root: &Path) -> Crate {
    let mut modules = vec![Module::default()];
    let folder = root.parent().expect("a file is in a folder");
    let text = fs::read_to_string(root).unwrap_or_else(|error| panic!("{root:?}: {error}"));
    let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{root:?}: {error}"));
    fill(&mut modules, 0, file.items, folder);
    Crate {
        name: name.replace('-', "_"),
        modules,
    }
}

/// Put what `items` say into a module whose submodules are in `folder`.
fn fill(modules: &mut Vec<Module>, at: usize, items: Vec<Item>, folder: &Path) {
    for item in items {
        if is_for_tests(attributes(&item)) {
            continue;
        }
        if let Item::Mod(child) = item {
            let name = child.ident.to_string();
            let index = modules.len();
            let mut path = modules[at].path.clone();
            path.push(name.clone());
            modules.push(Module {
                path,
                parent: at,
                ..Module::default()
            });
            modules[at].children.insert(name.clone(), index);
            let items = match child.content {
                Some((_, items)) => items,
                None => contents(folder, &name),
            };
            fill(modules, index, items, &folder.join(&name));
            continue;
        }
        if let Some((name, visibility)) = type_name(&item)
            && !matches!(visibility, Visibility::Inherited)
        {
            modules[at].types.insert(name);
        }
        if let Some(name) = item_name(&item) {
            modules[at].items.insert(name);
        }
        Reader(&mut modules[at]).visit_item(&item);
    }
}

fn contents(folder: &Path, name: &str) -> Vec<Item> {
    let files: [PathBuf; 2] = [
        folder.join(format!("{name}.rs")),
        folder.join(name).join("mod.rs"),
    ];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
    let text = text.unwrap_or_else(|| panic!("no file for module {name} in {folder:?}"));
    let file = syn::parse_file(&text);
    file.unwrap_or_else(|error| panic!("{name} in {folder:?}: {error}"))
        .items
}

/// Collects the paths of one module.
struct Reader<'a>(&'a mut Module);

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.take_in(Vec::new(), &item.tree);
    }

    /// `pub(super)` names no module.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter();
        self.mention(segments.map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

impl Reader<'_> {
    /// A name by itself is an item of this module, a local one, or one that a `use` has told of.
    fn mention(&mut self, path: Segments) {
        if path.len() > 1 {
            self.0.mentions.insert(path);
        }
    }

    fn take_in(&mut self, mut prefix: Segments, tree: &UseTree) {
        match tree {
            UseTree::Path(path) => {
                prefix.push(path.ident.to_string());
                self.take_in(prefix, &path.tree);
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.take_in(prefix.clone(), tree);
                }
            }
            UseTree::Glob(_) => {
                self.0.mentions.insert(prefix.clone());
                self.0.globs.push(prefix);
            }
            UseTree::Name(name) => self.name(prefix, name.ident.to_string(), None),
            UseTree::Rename(rename) => {
                let known_as = rename.rename.to_string();
                self.name(prefix, rename.ident.to_string(), Some(known_as));
            }
        }
    }

    fn name(&mut self, mut path: Segments, name: String, known_as: Option<String>) {
        let own = match name.as_str() {
            "self" => path.last().cloned().unwrap_or_default(),
            _ => {
                path.push(name.clone());
                name
            }
        };
        self.0.mentions.insert(path.clone());
        self.0.names.insert(known_as.unwrap_or(own), path);
    }

    fn tokens(&mut self, stream: TokenStream) {
        let mut path: Segments = Vec::new();
        let mut colons = 0;
        for token in stream {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.mention(std::mem::take(&mut path));
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && !path.is_empty() => {
                    colons += 1;
                }
                other => {
                    self.mention(std::mem::take(&mut path));
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.mention(path);
    }
}

/// All arrows between modules, also of different crates; none from a module to itself.
pub(crate) fn arrows(crates: &[Crate]) -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    for (number, own) in crates.iter().enumerate() {
        for (index, module) in own.modules.iter().enumerate() {
            for mention in &module.mentions {
                let place = (number, index);
                let Some(target) = resolve(crates, place, mention, 0) else {
                    continue;
                };
                if target != place {
                    let of = |(number, index): (usize, usize)| {
                        let of: &Crate = &crates[number];
                        (of.name.clone(), of.modules[index].path.clone())
                    };
                    arrows.insert(Arrow {
                        from: of(place),
                        to: of(target),
                        mention: mention.join("::"),
                    });
                }
            }
        }
    }
    arrows
}

/// The module that defines what `path` names, seen from `place`; `None` if it is of no crate of
/// the workspace.
fn resolve(
    crates: &[Crate],
    place: (usize, usize),
    path: &[String],
    hops: usize,
) -> Option<(usize, usize)> {
    let (krate, module) = place;
    let (first, rest) = path.split_first()?;
    if hops > HOPS_MAX {
        return None;
    }
    let here = &crates[krate].modules[module];
    match first.as_str() {
        "crate" => walk(crates, (krate, 0), rest, hops),
        "self" => walk(crates, place, rest, hops),
        "super" => match rest.first().map(String::as_str) {
            Some("super") => resolve(crates, (krate, here.parent), rest, hops),
            _ => walk(crates, (krate, here.parent), rest, hops),
        },
        name => {
            if here.has(name) {
                return walk(crates, place, path, hops);
            }
            if let Some(other) = crates.iter().position(|other| other.name == name) {
                return walk(crates, (other, 0), rest, hops);
            }
            let source = glob_source(crates, place, name, hops)?;
            walk(crates, source, path, hops)
        }
    }
}

/// Follow `path` from a module on.
fn walk(
    crates: &[Crate],
    place: (usize, usize),
    path: &[String],
    hops: usize,
) -> Option<(usize, usize)> {
    let Some((first, rest)) = path.split_first() else {
        return Some(place);
    };
    let (krate, module) = place;
    let here = &crates[krate].modules[module];
    if let Some(&child) = here.children.get(first) {
        return walk(crates, (krate, child), rest, hops);
    }
    if let Some(stands_for) = here.names.get(first) {
        // `use name::name` is about a crate of that name.
        let foreign = stands_for.first() == Some(first);
        let full: Segments = stands_for.iter().chain(rest).cloned().collect();
        let target = match foreign {
            true => None,
            false => resolve(crates, place, &full, hops + 1),
        };
        // Whoever takes another crate's name from here knows this module, not that crate.
        return target.map(|target| match target.0 == krate {
            true => target,
            false => place,
        });
    }
    if here.items.contains(first) {
        return Some(place);
    }
    match glob_source(crates, place, first, hops) {
        Some(source) => walk(crates, source, path, hops + 1),
        None => Some(place),
    }
}

/// The module whose names are all brought into this one, and which has `name`.
fn glob_source(
    crates: &[Crate],
    (krate, module): (usize, usize),
    name: &str,
    hops: usize,
) -> Option<(usize, usize)> {
    let globs = &crates[krate].modules[module].globs;
    globs.iter().find_map(|glob| {
        let source = resolve(crates, (krate, module), glob, hops + 1)?;
        let has = crates[source.0].modules[source.1].has(name);
        (has && source != (krate, module)).then_some(source)
    })
}

/// Whether something is compiled for tests only.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else {
            return false;
        };
        let condition = list.tokens.to_string();
        list.path.is_ident("cfg") && condition.contains("test") && !condition.contains("not")
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn type_name(item: &Item) -> Option<(String, &Visibility)> {
    let (name, visibility) = match item {
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        Item::Union(item) => (&item.ident, &item.vis),
        _ => return None,
    };
    Some((name.to_string(), visibility))
}

fn item_name(item: &Item) -> Option<String> {
    match item {
        Item::Const(item) => Some(item.ident.to_string()),
        Item::Fn(item) => Some(item.sig.ident.to_string()),
        Item::Macro(item) => item.ident.as_ref().map(|name| name.to_string()),
        Item::Static(item) => Some(item.ident.to_string()),
        _ => type_name(item).map(|(name, _)| name),
    }
}

#[cfg(test)]
mod tests;
