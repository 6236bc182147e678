//! The committed schemas of every document.

use std::fs;

use jsonschema::Registry;
use serde_json::Value;

use crate::program::repository;

const NAMES: [&str; 11] = [
    "demo",
    "encodings",
    "exits",
    "layers",
    "link",
    "model",
    "models",
    "optimize",
    "plan",
    "replay",
    "scenario",
];

fn uri(name: &str) -> String {
    format!("coprof:///{name}.schema.json")
}

fn schema(name: &str) -> Value {
    let path = repository(&format!("docs/schemas/{name}.schema.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What the schema called `name` finds wrong with a document.
pub fn faults(name: &str, document: &Value) -> Vec<String> {
    let mut registry = Registry::new();
    for name in NAMES {
        registry = registry.add(uri(name), schema(name)).unwrap();
    }
    let registry = registry.prepare().unwrap();
    let options = jsonschema::options().with_registry(&registry).with_base_uri(uri(name));
    let validator = options.build(&schema(name)).unwrap();
    validator.iter_errors(document).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The document follows its schema, and would not without one of its keys.
pub fn check(name: &str, document: &Value) {
    let found = faults(name, document);
    assert!(found.is_empty(), "{name}: {found:#?}");
    for key in document.as_object().unwrap().keys() {
        let mut without = document.clone();
        without.as_object_mut().unwrap().remove(key);
        assert!(!faults(name, &without).is_empty(), "{name}: the schema does not miss '{key}'");
    }
}

/// Every key of `keys` is in the document; `a[].b` asks for `b` in every item of a list that is not empty.
pub fn has_keys(document: &Value, keys: &[&str]) {
    for key in keys {
        assert!(has(document, key), "no {key} in the document");
    }
}

fn has(value: &Value, key: &str) -> bool {
    let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let inner = |value: &Value| rest.is_none_or(|rest| has(value, rest));
    match first.strip_suffix("[]") {
        None => value.get(first).is_some_and(inner),
        Some(list) => match value.get(list).and_then(Value::as_array) {
            Some(items) => !items.is_empty() && items.iter().all(inner),
            None => false,
        },
    }
}

#[test]
fn schemas_are_valid_and_refuse_what_is_not_a_document() {
    for name in NAMES {
        assert!(jsonschema::meta::is_valid(&schema(name)), "{name}");
        assert!(!faults(name, &serde_json::json!({})).is_empty(), "{name}");
    }
}

/// The schemas and the program know the same names of encodings.
#[test]
fn encodings_have_a_schema() {
    let right = [
        "pixels+deflate",
        "pixels+png",
        "f32",
        "bf16+lz4",
        "q8",
        "q3ck+zstd19",
        "jalad4",
        "jpeg100",
        "prune50",
        "prune50+zero",
        "prune7-q4k+deflate9",
        "prune99-jpeg75",
    ];
    let wrong = [
        "",
        "q5",
        "q4kc",
        "q8+png",
        "jalad4+zstd",
        "jpeg0",
        "jpeg101",
        "q8+zstd23",
        "prune0-q8",
        "prune50-pixels",
    ];
    for document in ["encodings", "optimize", "plan", "replay", "scenario"] {
        let encoding = jsonschema::validator_for(&schema(document)["$defs"]["encoding"]).unwrap();
        for (names, known) in [(&right[..], true), (&wrong[..], false)] {
            for name in names {
                assert_eq!(encoding.is_valid(&Value::from(*name)), known, "{document}: {name}");
                assert_eq!(name.parse::<coprof_core::codec::Encoding>().is_ok(), known, "{name}");
            }
        }
    }
}
