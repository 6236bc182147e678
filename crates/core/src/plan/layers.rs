//! The trunk as a partial order: sets of layers, the downward-closed ones among them (cuts), and what crosses each.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

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

/// A set of trunk layers, one bit each.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LayerSet(Box<[u64]>);

impl LayerSet {
    fn empty(layers: usize) -> Self {
        Self(vec![0; layers.div_ceil(64)].into())
    }

    pub fn contains(&self, layer: usize) -> bool {
        self.0[layer / 64] >> (layer % 64) & 1 == 1
    }

    fn insert(&mut self, layer: usize) {
        self.0[layer / 64] |= 1 << (layer % 64);
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a | b).collect())
    }

    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| b & !a == 0)
    }

    /// Its layers in topological order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(word, &bits)| {
            std::iter::successors(Some(bits), |bits| Some(bits & bits.wrapping_sub(1)))
                .take_while(|bits| *bits != 0)
                .map(move |bits| word * 64 + bits.trailing_zeros() as usize)
        })
    }
}

/// A tensor of the trunk: a layer's output, or `None`, the network's input.
pub(super) type Tensor = Option<usize>;

/// Which layer reads what, in topological order.
#[derive(Clone, Debug)]
pub(super) struct Trunk {
    inputs: Vec<Vec<Tensor>>,
    readers: Vec<Vec<usize>>,
    reads_input: Vec<usize>,
    names: HashMap<String, usize>,
}

impl Trunk {
    /// Fails on names that are taken and on inputs that do not come before their reader.
    pub fn new(layers: &[TrunkLayer]) -> Result<Self, String> {
        let mut trunk = Self {
            inputs: Vec::with_capacity(layers.len()),
            readers: vec![Vec::new(); layers.len()],
            reads_input: Vec::new(),
            names: HashMap::new(),
        };
        for (index, layer) in layers.iter().enumerate() {
            let mut inputs = Vec::with_capacity(layer.inputs.len());
            for name in &layer.inputs {
                let source = match trunk.names.get(name) {
                    Some(&source) => Some(source),
                    None if name == "input" => None,
                    None => {
                        return Err(format!(
                            "layer '{}' reads '{name}', which does not come before it",
                            layer.name
                        ));
                    }
                };
                match source {
                    Some(source) => trunk.readers[source].push(index),
                    None => trunk.reads_input.push(index),
                }
                inputs.push(source);
            }
            if layer.name == "input" || trunk.names.insert(layer.name.clone(), index).is_some() {
                return Err(format!("layer name '{}' is taken", layer.name));
            }
            trunk.inputs.push(inputs);
        }
        Ok(trunk)
    }

    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub fn inputs(&self, layer: usize) -> &[Tensor] {
        &self.inputs[layer]
    }

    pub fn readers(&self, tensor: Tensor) -> &[usize] {
        tensor.map_or(&self.reads_input, |layer| &self.readers[layer])
    }

    pub fn empty(&self) -> LayerSet {
        LayerSet::empty(self.len())
    }

    pub fn whole(&self) -> LayerSet {
        self.prefix(self.len())
    }

    fn prefix(&self, end: usize) -> LayerSet {
        let mut set = self.empty();
        (0..end).for_each(|layer| set.insert(layer));
        set
    }

    /// The smallest cut that holds these layers.
    pub fn up_to(&self, tips: impl IntoIterator<Item = usize>) -> LayerSet {
        let mut set = self.empty();
        let mut open: Vec<usize> = tips.into_iter().collect();
        while let Some(layer) = open.pop() {
            if !set.contains(layer) {
                set.insert(layer);
                open.extend(self.inputs[layer].iter().flatten());
            }
        }
        set
    }

    /// The layers of a cut that no other layer in it reads: they name the cut.
    pub fn tips(&self, cut: &LayerSet) -> Vec<usize> {
        cut.iter().filter(|&layer| !self.readers[layer].iter().any(|&reader| cut.contains(reader))).collect()
    }

    /// The tensors that cross a cut, each once.
    pub fn frontier(&self, cut: &LayerSet) -> Vec<Tensor> {
        let crosses = |tensor: Tensor| self.readers(tensor).iter().any(|&reader| !cut.contains(reader));
        std::iter::once(None).chain(cut.iter().map(Some)).filter(|&tensor| crosses(tensor)).collect()
    }

    /// Every cut from the empty one to the whole trunk, and whether these are all: with more than `most`, only those
    /// along the topological order and the smallest ones around each layer are given.
    pub fn cuts(&self, most: usize) -> (Vec<LayerSet>, bool) {
        let mut seen = HashSet::from([self.empty()]);
        let mut cuts = vec![self.empty()];
        let mut next = 0;
        while next < cuts.len() {
            let cut = cuts[next].clone();
            next += 1;
            let ready = |layer: &usize| {
                !cut.contains(*layer)
                    && self.inputs[*layer].iter().flatten().all(|&input| cut.contains(input))
            };
            for layer in (0..self.len()).filter(ready) {
                let mut larger = cut.clone();
                larger.insert(layer);
                if seen.insert(larger.clone()) {
                    cuts.push(larger);
                }
            }
            if cuts.len() > most {
                let around = (0..self.len()).map(|layer| self.up_to([layer]));
                let few: HashSet<LayerSet> =
                    (0..=self.len()).map(|end| self.prefix(end)).chain(around).collect();
                return (few.into_iter().collect(), false);
            }
        }
        (cuts, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two branches of one and two layers between a stem and a join.
    fn diamond() -> Trunk {
        let layer = |(name, inputs): (&str, &[&str])| TrunkLayer {
            name: name.into(),
            inputs: inputs.iter().map(|&input| input.into()).collect(),
            output_bytes: 4,
            weight_bytes: 0,
        };
        let layers: [(&str, &[&str]); 5] = [
            ("stem", &["input"]),
            ("left", &["stem"]),
            ("right1", &["stem"]),
            ("right2", &["right1"]),
            ("join", &["left", "right2"]),
        ];
        Trunk::new(&layers.map(layer)).unwrap()
    }

    #[test]
    fn a_diamond_has_all_its_cuts() {
        let trunk = diamond();
        let (cuts, complete) = trunk.cuts(100);
        // Before the stem, (left or not) × (0 to 2 on the right), and the whole.
        assert_eq!((cuts.len(), complete), (1 + 2 * 3 + 1, true));
        let inside = trunk.up_to([1, 2]);
        assert_eq!(trunk.tips(&inside), [1, 2]);
        assert_eq!(trunk.frontier(&inside), [Some(1), Some(2)]);
        assert_eq!(trunk.frontier(&trunk.up_to([1])), [Some(0), Some(1)]);
        assert_eq!(trunk.frontier(&trunk.empty()), [None]);
        assert_eq!(trunk.frontier(&trunk.whole()), []);
    }

    #[test]
    fn too_many_cuts_leave_the_simple_ones() {
        let (cuts, complete) = diamond().cuts(4);
        assert!(!complete);
        // Six along the order, and after stem and right2, without left.
        assert_eq!(cuts.len(), 6 + 2);
    }
}
