//! Holds the sources to the tables of ARCHITECTURE.md: which room may use which, and where names from outside may stand. What one
//! crate must not know of another is not looked at here: the compiler holds it.
//! Tests are exempt: what stands behind `#[cfg(test)]` is not looked at.

mod circles;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use sources::{CRATES, Source, first_name, lies_in, sources, split_tests};

/// What the tables say.
#[derive(Default)]
struct Rules {
    /// In the order of the table.
    rooms: Vec<String>,
    may_use: BTreeMap<String, BTreeSet<String>>,
    must_not_know: BTreeMap<String, BTreeSet<String>>,
    /// A name from outside, and the rooms and files that may have it.
    outside: Vec<(String, Vec<String>)>,
}

impl Rules {
    fn parse(text: &str) -> Self {
        let mut rules = Self::default();
        for row in table(text, "room") {
            for room in quoted(&row[0]) {
                rules.may_use.insert(room.clone(), quoted(&row[2]).into_iter().collect());
                rules.must_not_know.insert(room.clone(), quoted(&row[3]).into_iter().collect());
                rules.rooms.push(room);
            }
        }
        for row in table(text, "outside name") {
            rules.outside.extend(quoted(&row[0]).into_iter().map(|name| (name, quoted(&row[1]))));
        }
        rules
    }

    fn violations(&self, source: &Source) -> Vec<String> {
        let (place, room) = (&source.place, source.room());
        let Some(allowed) = self.may_use.get(room) else {
            return vec![format!("{place}: room '{room}' is not in the table")];
        };
        let mut found = Vec::new();
        let mut used = BTreeSet::new();
        // Inside of a room that is a crate, what follows `crate::` is no room.
        if !CRATES.iter().any(|(.., all_of_it)| *all_of_it == room) {
            used.extend(heads(&source.code, "crate"));
        }
        for name in ["coprof", "coprof_core", "coprof_run"] {
            used.extend(heads(&source.code, name));
        }
        used.retain(|other| other != room && !allowed.contains(other));
        found.extend(used.into_iter().map(|other| format!("{place}: '{room}' may not use '{other}'")));
        if supers(&source.code) >= source.depth() {
            found.push(format!("{place}: 'super::' leads out of the room; write 'crate::'"));
        }
        for (name, places) in &self.outside {
            if names(&source.code, name) && !places.iter().any(|granted| lies_in(place, granted)) {
                found.push(format!("{place}: '{name}' may stand only in {}", places.join(", ")));
            }
        }
        found
    }
}

/// The rows, as cells, of the table whose first heading is `heading`.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with('|') || cells(line)[0] != heading);
    lines.by_ref().take(2).for_each(drop);
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What follows each whole word `word`.
fn after<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    code.match_indices(word)
        .filter(|(at, _)| !code[..*at].ends_with(is_name))
        .map(move |(at, _)| &code[at + word.len()..])
        .filter(|rest| !rest.starts_with(is_name))
}

/// The first names behind `root::`; all of them where it is `root::{a, b::c}`.
fn heads(code: &str, root: &str) -> BTreeSet<String> {
    let head = |path: &str| path.trim_start().chars().take_while(|&c| is_name(c)).collect::<String>();
    let mut found = BTreeSet::new();
    for path in after(code, root).filter_map(|rest| rest.strip_prefix("::")) {
        match path.strip_prefix('{') {
            None => _ = found.insert(head(path)),
            Some(group) => found.extend(group_items(group).into_iter().map(head)),
        }
    }
    found
}

/// The items of a `use` group behind its opening brace.
fn group_items(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => {}
        }
    }
    items.retain(|item| !item.trim().is_empty());
    items
}

/// The longest chain of `super::`.
fn supers(code: &str) -> usize {
    let chain = |mut rest: &str| {
        let mut length = 0;
        while let Some(next) = rest.strip_prefix("super::") {
            (rest, length) = (next, length + 1);
        }
        length
    };
    code.match_indices("super::").map(|(at, _)| chain(&code[at..])).max().unwrap_or(0)
}

/// Whether code has a name from outside: a word, or `std::` and a module of it.
fn names(code: &str, name: &str) -> bool {
    match name.split_once("::") {
        Some((root, module)) => heads(code, root).contains(module),
        None => after(code, name).next().is_some(),
    }
}

fn rules() -> Rules {
    Rules::parse(include_str!("../../ARCHITECTURE.md"))
}

#[test]
fn rooms_use_only_what_the_tables_allow() {
    let (rules, sources) = (rules(), sources());
    let found: Vec<String> = sources.iter().flat_map(|source| rules.violations(source)).collect();
    assert!(found.is_empty(), "against ARCHITECTURE.md:\n{}", found.join("\n"));
}

#[test]
fn the_tables_are_whole() {
    let (rules, sources) = (rules(), sources());
    let there: BTreeSet<&str> = sources.iter().map(Source::room).collect();
    let listed: BTreeSet<&str> = rules.rooms.iter().map(String::as_str).collect();
    assert_eq!(there, listed, "rooms in the sources and rows of the table");
    assert_eq!(listed.len(), rules.rooms.len(), "a room has one row");
    for (name, places) in &rules.outside {
        for place in places {
            let used =
                sources.iter().any(|source| lies_in(&source.place, place) && names(&source.code, name));
            assert!(used, "'{name}' may stand in {place}, but does not");
        }
    }
}

#[test]
fn the_tables_agree_with_themselves() {
    let rules = rules();
    for (at, room) in rules.rooms.iter().enumerate() {
        let allowed = &rules.may_use[room];
        for used in allowed {
            assert!(rules.rooms[..at].contains(used), "{room} uses {used}, which is not above it");
        }
        for shunned in &rules.must_not_know[room] {
            let is_room = rules.rooms.contains(shunned);
            let granted = rules.outside.iter().find(|(name, _)| name == shunned).map(|(_, places)| places);
            assert!(
                is_room || granted.is_some(),
                "{room} must not know {shunned}, which is in neither table"
            );
            let may = granted.is_some_and(|places| places.iter().any(|place| first_name(place) == room));
            assert!(!may && !allowed.contains(shunned), "{room} both may and must not have {shunned}");
        }
    }
}

/// A small house for the tests of the checker.
const HOUSE: &str = "
| room | holds | may use | must not know |
| --- | --- | --- | --- |
| `units` | | | |
| `plan` | pure | `units` | `tch` |

| outside name | only in |
| --- | --- |
| `tch` | `runtime` |
| `std::net` | `pipeline`, `cli/args` |
";

fn found_in(place: &str, text: &str) -> Vec<String> {
    Rules::parse(HOUSE).violations(&Source {
        place: place.into(),
        of_crate: "coprof",
        code: split_tests(text).0,
    })
}

#[test]
fn made_up_violations_are_caught() {
    for (place, text, expected) in [
        ("plan/search", "use crate::measure::Samples;", "'plan' may not use 'measure'"),
        (
            "plan/search",
            "use crate::{\n    units::Micros,\n    data::{A, B},\n};",
            "'plan' may not use 'data'",
        ),
        ("plan/search", "fn f() -> crate::report::Store {}", "'plan' may not use 'report'"),
        ("plan/search", "use super::super::measure::Samples;", "'super::' leads out of the room"),
        ("plan/mod", "use super::measure::Samples;", "'super::' leads out of the room"),
        ("plan/search", "let t = tch::Tensor::new();", "'tch' may stand only in runtime"),
        ("plan/search", "use std::{fmt, net::TcpStream};", "'std::net' may stand only in pipeline, cli/args"),
        ("attic/mod", "", "room 'attic' is not in the table"),
        ("plan/a", "#[cfg(test)]\nmod tests {\n}\nuse crate::data::A;", "'plan' may not use 'data'"),
    ] {
        let found = found_in(place, text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
    }
}

#[test]
fn what_is_allowed_passes() {
    for text in [
        "use crate::units::Micros;\nuse crate::plan::Plan;\npub(crate) use super::plan::Plan;",
        "// use crate::measure::Samples;\n/// See [`x`](crate::data::x).",
        "#[cfg(test)]\nmod tests {\n    use crate::data::A;\n}\nfn f() {}",
        "#[cfg(test)]\npub(crate) use crate::data::A;",
        "#[cfg(test)]\nmod tests {\n    const A: B = B {\n    };\n    use crate::data::A;\n}",
        "use std::{fmt, collections::BTreeMap};\nfn f(watch: watched) {}",
    ] {
        assert_eq!(found_in("plan/search", text), Vec::<String>::new(), "{text}");
    }
    assert_eq!(split_tests("#[cfg(test)]\npub(crate) mod samples;\nmod a;").1, ["samples"]);
}
