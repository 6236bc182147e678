//! The layers of a scenario, by name.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::model::Dag;

/// A layer of the trunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrunkLayer {
    /// Unique in the scenario.
    pub name: String,
    /// The layers that it reads; `input` is the network's input. Left out: the layer before, the first one the input.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Its output as 32-bit floats.
    pub output_bytes: u64,
    /// Its weights in memory. Left out: 0.
    #[serde(default)]
    pub weight_bytes: u64,
}

/// The layers of a scenario: which reads what, and what they are called.
#[derive(Clone, Debug)]
pub(super) struct Trunk {
    pub dag: Dag,
    names: HashMap<String, usize>,
}

impl Trunk {
    /// Fails on names that are taken and on inputs that do not come before their reader.
    pub fn new(layers: &[TrunkLayer]) -> Result<Self, String> {
        let mut trunk = Self { dag: Dag::default(), names: HashMap::new() };
        for (index, layer) in layers.iter().enumerate() {
            let tensor = |name: &String| match trunk.find(name) {
                Some(source) => Ok(Some(source)),
                None if name == "input" => Ok(None),
                None => Err(format!("layer '{}' reads '{name}', which does not come before it", layer.name)),
            };
            let inputs = layer.inputs.iter().map(tensor).collect::<Result<_, _>>()?;
            if layer.name == "input" || trunk.names.insert(layer.name.clone(), index).is_some() {
                return Err(format!("layer name '{}' is taken", layer.name));
            }
            trunk.dag.push(inputs);
        }
        Ok(trunk)
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }
}
