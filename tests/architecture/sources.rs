//! The sources of the program, without comments and tests.

use std::fs;
use std::path::Path;

/// The crates with their sources; what lies outside of rooms in one is a room of this name.
pub const CRATES: [(&str, &str, &str); 4] = [
    ("coprof_core", "crates/core/src", ""),
    ("coprof_run", "crates/run/src", ""),
    ("coprof_torch", "crates/torch/src", "torch"),
    ("coprof", "src", ""),
];

/// A file under the `src/` of a crate.
pub struct Source {
    /// `plan/search` for `src/plan/search.rs`, `plan/mod` for `src/plan/mod.rs`.
    pub place: String,
    /// The crate that it belongs to.
    pub of_crate: &'static str,
    /// Without comments and tests.
    pub code: String,
}

impl Source {
    pub fn room(&self) -> &str {
        first_name(&self.place)
    }

    /// How many `super::` lead out of the room.
    pub fn depth(&self) -> usize {
        self.place.split('/').filter(|part| *part != "mod").count()
    }
}

/// The code of a file without comments and without what `#[cfg(test)]` stands before, and the modules that this declares.
pub fn split_tests(text: &str) -> (String, Vec<String>) {
    let (mut code, mut test_modules) = (String::new(), Vec::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "#[cfg(test)]" {
            code.push_str(line.split("//").next().unwrap_or(line));
            code.push('\n');
            continue;
        }
        // rustfmt puts the end of an item at the indent of its start.
        let end = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
        let item = lines.by_ref().find(|line| !line.trim_start().starts_with("#[")).unwrap_or_default();
        if let Some(declared) = item.strip_suffix(';').and_then(|item| item.rsplit_once("mod ")) {
            test_modules.push(declared.1.to_owned());
        } else if !item.ends_with(';') && !item.ends_with('}') {
            lines.by_ref().find(|line| line.trim_end_matches(';') == end);
        }
    }
    (code, test_modules)
}

/// All files of all crates that are part of the program.
pub fn sources() -> Vec<Source> {
    CRATES.iter().flat_map(|&(name, folder, room)| sources_in(name, folder, room)).collect()
}

fn sources_in(of_crate: &'static str, folder: &str, room: &str) -> Vec<Source> {
    let (mut all, mut tests) = (Vec::new(), Vec::new());
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let root = folders[0].clone();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("src/ can be read") {
            let path = entry.expect("src/ can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).expect("the file lies in src/").with_extension("");
                let place = Path::new(room).join(relative);
                let place = place.to_str().expect("names are ASCII").replace('\\', "/");
                let (code, declared) = split_tests(&fs::read_to_string(&path).expect("sources can be read"));
                let head = ["mod", "lib"].iter().find_map(|end| place.strip_suffix(end));
                let base = head.unwrap_or(&place).trim_end_matches('/');
                let declared = declared.into_iter().map(|module| format!("{base}/{module}"));
                tests.extend(declared.map(|module| module.trim_start_matches('/').to_owned()));
                all.push(Source { place, of_crate, code });
            }
        }
    }
    all.retain(|source| !tests.iter().any(|module| lies_in(&source.place, module)));
    all
}

pub fn first_name(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

pub fn lies_in(place: &str, granted: &str) -> bool {
    place.strip_prefix(granted).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
