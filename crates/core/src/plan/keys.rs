//! Reads a scenario whose every key means something. A key that nobody reads is a slip of the pen: what was meant by it, a limit
//! say, would not be in force.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::layers::TrunkLayer;
use super::link::{Link, LoneMessage};
use super::outcomes::Outcomes;
use super::scenario::{
    Constraints, EncodedFrontier, ExitSite, LossyOutcomes, Marginal, MarginalStep, ModelId, Node, Range,
    ScenarioFile,
};

/// What coprof writes beside a scenario: where and when it was measured.
const ENVELOPE: [&str; 7] =
    ["coprof_version", "created", "host", "host_id", "threads", "pinned_core", "emulated"];

/// A scenario as it stands in a document; says what is wrong with it, a key that means nothing included.
pub(super) fn read(text: &str) -> Result<ScenarioFile, String> {
    let mut unknown = Vec::new();
    let mut json = serde_json::Deserializer::from_str(text);
    let file = serde_ignored::deserialize(&mut json, |path| {
        // What may be left out has a mark of its own.
        unknown.push(path.to_string().replace(".?", ""));
    });
    let file = file.and_then(|file| json.end().map(|()| file)).map_err(|error| error.to_string())?;
    match unknown.iter().find(|key| !ENVELOPE.contains(&key.as_str())) {
        Some(key) => Err(format!("there is no key `{key}`; did you mean `{}`?", nearest(key))),
        None => Ok(file),
    }
}

/// The key with the most alike name, as docs/formats.md writes it; of equals the one in the most alike place.
fn nearest(path: &str) -> String {
    let name = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |key: &str| strsim::jaro_winkler(&name(path), &name(key));
    let distance = |key: &str| strsim::damerau_levenshtein(path, key);
    let order = |a: &String, b: &String| {
        likeness(b).total_cmp(&likeness(a)).then_with(|| distance(a).cmp(&distance(b)))
    };
    known().into_iter().min_by(order).unwrap_or_default()
}

/// Every key of a scenario that people write.
fn known() -> Vec<String> {
    let of = |place: &'static str, keys: &'static [&'static str]| {
        keys.iter().map(move |key| format!("{place}{key}"))
    };
    of("", keys::<ScenarioFile>())
        .chain(of("model.", keys::<ModelId>()))
        .chain(of("layers[].", keys::<TrunkLayer>()))
        .chain(of("exits[].", keys::<ExitSite>()))
        .chain(of("exits[].marginal.", keys::<Marginal>()))
        .chain(of("exits[].marginal.steps[].", keys::<MarginalStep>()))
        .chain(of("nodes[].", keys::<Node>()))
        .chain(of("nodes[].ranges[].", keys::<Range>()))
        .chain(of("links[].", keys::<Link>()))
        .chain(of("links[].lone[].", keys::<LoneMessage>()))
        .chain(of("encodings[].", keys::<EncodedFrontier>()))
        .chain(of("outcomes[].", keys::<Outcomes>()))
        .chain(of("lossy_outcomes[].", keys::<LossyOutcomes>()))
        .chain(of("constraints.", keys::<Constraints>()))
        .collect()
}

/// The keys that a type is read from.
fn keys<T: DeserializeOwned>() -> &'static [&'static str] {
    T::deserialize(Asked).map_or_else(|Keys(keys)| keys, |_| &[])
}

/// A deserializer that has nothing to give but tells what it was asked for.
struct Asked;

#[derive(Debug)]
struct Keys(&'static [&'static str]);

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Keys {}

impl serde::de::Error for Keys {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl<'de> Deserializer<'de> for Asked {
    type Error = Keys;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Keys> {
        Err(Keys(fields))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Keys> {
        Err(Keys(&[]))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Problem;
    use super::super::brute_force::random_scenario;
    use super::*;

    fn with(place: &str, key: &str) -> serde_json::Value {
        let mut document = json!({
            "schema": "coprof.scenario/2",
            "model": {"name": "m", "sha256": "0".repeat(64)},
            "layers": [{"name": "a", "output_bytes": 4}, {"name": "b", "output_bytes": 4}],
            "exits": [{"name": "final", "marginal": {"accuracy": 1, "steps": [{"entropy": 0.1, "share": 0.1, "accuracy": 1}]}}],
            "nodes": [{"name": "n0", "layers_us": [1, 1]}, {"name": "n1", "layers_us": [1, 1]}],
            "links": [{"bits_per_second": 1e6, "lone": [{"bytes": 1, "time_us": 1}]}],
            "encodings": [{"cut": ["a"], "encoding": "f32", "bytes": 4}],
            "constraints": {}
        });
        document.pointer_mut(place).unwrap()[key] = json!(1);
        document
    }

    #[test]
    fn a_key_that_means_nothing_is_refused_with_the_nearest_one() {
        for (place, key, expected) in [
            ("/nodes/1", "memory_byte", "`nodes.1.memory_byte`; did you mean `nodes[].memory_bytes`?"),
            ("", "thresholds_steps", "`threshold_steps`?"),
            ("", "min_accuracy", "`constraints.min_accuracy`?"),
            ("/constraints", "max_latency", "`constraints.max_latency_us`?"),
            ("/layers/0", "weights_bytes", "`layers[].weight_bytes`?"),
            ("/exits/0", "weights_bytes", "`exits[].weight_bytes`?"),
            ("/exits/0/marginal", "step", "`exits[].marginal.steps`?"),
            ("/exits/0/marginal/steps/0", "acuracy", "`exits[].marginal.steps[].accuracy`?"),
            ("/links/0", "delay", "`links[].delay_us`?"),
            ("/links/0/lone/0", "time", "`links[].lone[].time_us`?"),
            ("/encodings/0", "encode", "`encodings[].encode_us`?"),
            ("/model", "sha265", "`model.sha256`?"),
        ] {
            let error = Problem::from_json(&with(place, key).to_string()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn what_coprof_writes_beside_a_scenario_is_read_over() {
        let scenario = random_scenario(3, 2);
        let mut document = serde_json::to_value(&scenario).unwrap();
        for key in ENVELOPE {
            document[key] = json!(null);
        }
        assert_eq!(Problem::from_json(&document.to_string()).unwrap(), scenario);
    }

    #[test]
    fn every_type_tells_its_keys() {
        for key in ["schema", "nodes[].memory_bytes", "outcomes[].entropy", "exits[].marginal.steps[].share"]
        {
            assert!(known().iter().any(|known| known == key), "{key}");
        }
    }
}
