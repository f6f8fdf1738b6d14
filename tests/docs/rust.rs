//! The code as the tests read it: sources, texts, log lines and constants of what ships.

use crate::markdown::root;
use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, Item, Lit, LitStr, Meta};

/// Names and texts of all source files under these folders that are not of tests alone.
pub(crate) fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in folders {
        walk(&root().join(folder), &mut found);
    }
    found.sort();
    assert!(!found.is_empty(), "no sources in {folders:?}");
    found
}

fn walk(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" {
            walk(&path, found);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let file = path
                .strip_prefix(root())
                .unwrap()
                .to_string_lossy()
                .into_owned();
            found.push((file, fs::read_to_string(&path).unwrap()));
        }
    }
}

/// What of a file is not for tests alone.
pub(crate) fn parse(file: &str, text: &str) -> syn::File {
    let mut parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
    parsed.items.retain(|item| !is_for_tests(attributes(item)));
    parsed
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// The texts of a program.
#[derive(Default)]
pub(crate) struct Texts {
    /// Every string literal.
    pub(crate) all: Vec<String>,
    /// Each line that is logged.
    pub(crate) logged: Vec<Logged>,
    file: String,
}

/// A line that is logged.
pub(crate) struct Logged {
    pub(crate) file: String,
    /// `error`, `warn` or `info`.
    pub(crate) level: String,
    /// Its format string.
    pub(crate) text: String,
    /// What its field `code` is; empty if that is no literal.
    pub(crate) code: Option<String>,
}

/// Where the words are that codes are explained by: they are a page, and no line is made of them.
const CODES: &str = "control/src/codes";

impl Texts {
    /// Those of the files under these folders.
    pub(crate) fn of(folders: &[&str]) -> Texts {
        let mut texts = Texts::default();
        let sources = sources(folders).into_iter();
        for (file, text) in sources.filter(|(file, _)| !file.starts_with(CODES)) {
            let parsed = parse(&file, &text);
            texts.file = file;
            texts.visit_file(&parsed);
        }
        texts
    }

    fn tokens(&mut self, stream: TokenStream) {
        for token in stream {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                token => self.all.extend(literal(&token)),
            }
        }
    }
}

impl<'ast> Visit<'ast> for Texts {
    fn visit_lit_str(&mut self, text: &'ast LitStr) {
        self.all.push(text.value());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        // `#[error("...")]`, and not what documents something.
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    fn visit_macro(&mut self, called: &'ast syn::Macro) {
        let name = called.path.segments.last();
        let level = name.map_or(String::new(), |segment| segment.ident.to_string());
        if ["error", "warn", "info"].contains(&level.as_str()) {
            let tokens: Vec<TokenTree> = called.tokens.clone().into_iter().collect();
            let arguments = tokens.split(|token| token.to_string() == ",");
            let (codes, others): (Vec<_>, Vec<_>) = arguments.partition(|argument| {
                let first = argument.first();
                first.is_some_and(|token| token.to_string() == "code")
            });
            let text = |arguments: &[&[TokenTree]]| {
                let tokens = arguments.iter().flat_map(|argument| argument.iter());
                tokens.filter_map(literal).next().unwrap_or_default()
            };
            self.logged.push(Logged {
                file: self.file.clone(),
                level,
                text: text(&others),
                code: (!codes.is_empty()).then(|| text(&codes)),
            });
        }
        self.tokens(called.tokens.clone());
        visit::visit_macro(self, called);
    }
}

fn literal(token: &TokenTree) -> Option<String> {
    match token {
        TokenTree::Literal(literal) => match Lit::new(literal.clone()) {
            Lit::Str(text) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// The constants of a file whose values are numbers, by name. `known` are those of others.
pub(crate) fn constants(file: &str, known: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let text =
        fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut values = known.clone();
    let items = parse(file, &text).items;
    // One may be used before it is defined.
    for _ in 0..3 {
        for item in &items {
            if let Item::Const(item) = item
                && let Some(value) = evaluate(&item.expr, &values)
            {
                values.insert(item.ident.to_string(), value);
            }
        }
    }
    values
}

fn evaluate(expression: &Expr, known: &BTreeMap<String, u64>) -> Option<u64> {
    match expression {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(number) => number.base10_parse().ok(),
            _ => None,
        },
        Expr::Paren(inner) => evaluate(&inner.expr, known),
        Expr::Cast(cast) => evaluate(&cast.expr, known),
        Expr::Path(path) => known
            .get(&path.path.segments.last()?.ident.to_string())
            .copied(),
        Expr::Binary(binary) => {
            let (left, right) = (
                evaluate(&binary.left, known)?,
                evaluate(&binary.right, known)?,
            );
            match binary.op {
                syn::BinOp::Add(_) => Some(left + right),
                syn::BinOp::Sub(_) => left.checked_sub(right),
                syn::BinOp::Mul(_) => Some(left * right),
                syn::BinOp::Shl(_) => Some(left << right),
                _ => None,
            }
        }
        Expr::Call(call) => {
            let name = quote_of(&call.func)?;
            match name.as_str() {
                "size_of::usize" => Some(size_of::<usize>() as u64),
                // Family, port, flow label, address, scope.
                "size_of::sockaddr_in6" => Some(28),
                _ => None,
            }
        }
        _ => None,
    }
}

/// `size_of::<libc::sockaddr_in6>` as `size_of::sockaddr_in6`.
fn quote_of(function: &Expr) -> Option<String> {
    let Expr::Path(path) = function else {
        return None;
    };
    let last = path.path.segments.last()?;
    let syn::PathArguments::AngleBracketed(arguments) = &last.arguments else {
        return None;
    };
    let syn::GenericArgument::Type(syn::Type::Path(of)) = arguments.args.first()? else {
        return None;
    };
    Some(format!(
        "{}::{}",
        last.ident,
        of.path.segments.last()?.ident
    ))
}
