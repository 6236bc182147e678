//! No two files import each other, directly or round about: what `use` and paths in the code name is followed to the file that
//! defines it, through what modules pass on.

use std::collections::{BTreeMap, BTreeSet};

use super::group_items;
use super::sources::{CRATES, Source, sources};

/// A crate and a module in it, which is one file.
type Module = (String, Vec<String>);

struct Tree<'s>(BTreeMap<Module, &'s str>);

impl<'s> Tree<'s> {
    fn of(sources: &'s [Source]) -> Self {
        let module = |source: &Source| {
            let inside =
                CRATES.iter().find(|(name, ..)| *name == source.of_crate).map_or("", |(.., room)| *room);
            let path = source.place.strip_prefix(inside).unwrap_or(&source.place).trim_start_matches('/');
            let parts = path.split('/').filter(|part| !["mod", "lib", "main"].contains(part));
            (source.of_crate.to_owned(), parts.map(str::to_owned).collect())
        };
        Self(sources.iter().map(|source| (module(source), source.code.as_str())).collect())
    }

    /// The file that defines what `path`, written in `from`, names; `None` for what is from outside.
    fn defining(&self, from: &Module, path: &[String], depth: usize) -> Option<Module> {
        let (mut crate_name, mut module, mut rest) = (from.0.clone(), from.1.clone(), path);
        match rest.first()?.as_str() {
            "crate" => (module, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while let [first, behind @ ..] = rest
                    && first == "super"
                {
                    module.pop();
                    rest = behind;
                }
            }
            other if CRATES.iter().any(|(name, ..)| *name == other) => {
                (crate_name, module, rest) = (other.to_owned(), Vec::new(), &rest[1..]);
            }
            other => {
                let inner = [module.as_slice(), &[other.to_owned()]].concat();
                if !self.0.contains_key(&(crate_name.clone(), inner)) {
                    return None;
                }
            }
        }
        while let [first, behind @ ..] = rest {
            let inner = [module.as_slice(), std::slice::from_ref(first)].concat();
            if !self.0.contains_key(&(crate_name.clone(), inner.clone())) {
                break;
            }
            (module, rest) = (inner, behind);
        }
        let found = (crate_name, module);
        let passed_on = rest.first().filter(|_| depth < 5).and_then(|name| {
            let uses = uses(self.0.get(&found)?);
            let named =
                uses.into_iter().find(|(is_passed_on, path)| *is_passed_on && path.last() == Some(name));
            self.defining(&found, &named?.1, depth + 1)
        });
        passed_on.or(Some(found)).filter(|module| self.0.contains_key(module))
    }

    /// The files that a file imports from.
    fn imports(&self, module: &Module) -> BTreeSet<Module> {
        let code = self.0[module];
        let imported = uses(code).into_iter().filter(|(is_passed_on, _)| !is_passed_on).map(|(_, path)| path);
        let mut found: BTreeSet<Module> =
            imported.chain(paths(code)).filter_map(|path| self.defining(module, &path, 0)).collect();
        found.remove(module);
        found
    }

    /// A way from `start` back to itself.
    fn circle(&self, start: &Module) -> Option<Vec<Module>> {
        let (mut seen, mut ways) = (BTreeSet::new(), vec![vec![start.clone()]]);
        while let Some(way) = ways.pop() {
            for next in self.imports(way.last()?) {
                if next == *start {
                    return Some(way);
                }
                if seen.insert(next.clone()) {
                    ways.push([way.as_slice(), &[next]].concat());
                }
            }
        }
        None
    }
}

/// What the `use` items of a file name, each with whether the file passes it on.
fn uses(code: &str) -> Vec<(bool, Vec<String>)> {
    let items = code.split(';').filter_map(|item| {
        let at = item.rfind("use ")?;
        let before = item[..at].rsplit('\n').next()?.trim();
        let is_use = before.is_empty() || before == "pub" || before.starts_with("pub(");
        is_use.then(|| (before.starts_with("pub"), item[at + 4..].to_owned()))
    });
    items
        .flat_map(|(is_passed_on, tree)| {
            expanded(&tree).into_iter().map(move |path| (is_passed_on, segments(&path)))
        })
        .collect()
}

fn segments(path: &str) -> Vec<String> {
    let path = path.split(" as ").next().unwrap_or(path);
    path.split("::").map(|part| part.trim().to_owned()).collect()
}

/// The single paths of a `use` tree.
fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, group)) = tree.split_once('{') else { return vec![tree.to_owned()] };
    group_items(group).into_iter().flat_map(|item| expanded(&format!("{before}{}", item.trim()))).collect()
}

/// Paths of our own that stand in the code itself.
fn paths(code: &str) -> Vec<Vec<String>> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let words = code.split(|c: char| !is_part(c)).filter(|word| word.contains("::"));
    let ours =
        |first: &str| ["crate", "super"].contains(&first) || CRATES.iter().any(|(name, ..)| *name == first);
    words.map(segments).filter(|path| path.first().is_some_and(|first| ours(first))).collect()
}

#[test]
fn no_two_files_import_each_other() {
    let sources = sources();
    let tree = Tree::of(&sources);
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for module in tree.0.keys() {
        let Some(circle) = tree.circle(module).filter(|_| !told.contains(module)) else { continue };
        let names = circle.iter().map(|(name, path)| format!("{name}::{}", path.join("::")));
        circles.push(names.collect::<Vec<_>>().join(" → "));
        told.extend(circle);
    }
    assert!(circles.is_empty(), "circles of files:\n{}", circles.join("\n"));
}

#[test]
fn a_circle_is_found_through_what_a_module_passes_on() {
    let source =
        |place: &str, code: &str| Source { place: place.into(), of_crate: "coprof", code: code.into() };
    let of = |last: &str| {
        vec![
            source("plan/mod", "mod a;\npub use a::A;"),
            source("plan/a", "use super::b::{self, B};\n"),
            source("plan/b", last),
        ]
    };
    let b = ("coprof".to_owned(), vec!["plan".to_owned(), "b".to_owned()]);
    let round_about = of("use crate::plan::A;");
    assert_eq!(Tree::of(&round_about).circle(&b).map(|circle| circle.len()), Some(2));
    let in_the_code = of("fn f(a: super::a::A) {}");
    assert_eq!(Tree::of(&in_the_code).circle(&b).map(|circle| circle.len()), Some(2));
    let none = of("use std::fmt;\nuse coprof_core::units::Micros;");
    assert_eq!(Tree::of(&none).circle(&b), None);
}
