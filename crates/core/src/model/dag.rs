//! Layers and what they read, as a partial order: sets of layers, the downward-closed ones among them (cuts), what crosses
//! each, and what can run behind it. Made from a network, or from the layers of a scenario.

use std::collections::HashSet;

/// A set of layers, one bit each; no words without bits stand at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct LayerSet(Vec<u64>);

impl LayerSet {
    pub fn contains(&self, layer: usize) -> bool {
        self.0.get(layer / 64).is_some_and(|word| word >> (layer % 64) & 1 == 1)
    }

    fn insert(&mut self, layer: usize) {
        let words = self.0.len().max(layer / 64 + 1);
        self.0.resize(words, 0);
        self.0[layer / 64] |= 1 << (layer % 64);
    }

    #[must_use]
    fn with(&self, layer: usize) -> Self {
        let mut larger = self.clone();
        larger.insert(layer);
        larger
    }

    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (long, short) = if self.0.len() < other.0.len() { (other, self) } else { (self, other) };
        let mut union = long.clone();
        union.0.iter_mut().zip(&short.0).for_each(|(word, more)| *word |= more);
        union
    }

    /// Its layers that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.word_by_word(other, |word, less| word & !less)
    }

    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.word_by_word(other, |word, other| word & other)
    }

    fn word_by_word(&self, other: &Self, of: impl Fn(u64, u64) -> u64) -> Self {
        let others = other.0.iter().copied().chain(std::iter::repeat(0));
        let mut words: Vec<u64> = self.0.iter().zip(others).map(|(&word, other)| of(word, other)).collect();
        let used = words.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
        words.truncate(used);
        Self(words)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether all of `other` lies in it.
    pub fn covers(&self, other: &Self) -> bool {
        other.0.len() <= self.0.len() && self.0.iter().zip(&other.0).all(|(a, b)| b & !a == 0)
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

impl FromIterator<usize> for LayerSet {
    fn from_iter<T: IntoIterator<Item = usize>>(layers: T) -> Self {
        let mut set = Self::default();
        layers.into_iter().for_each(|layer| set.insert(layer));
        set
    }
}

/// A layer's output, or `None`, the network's input.
pub(crate) type Tensor = Option<usize>;

/// Which layer reads what, in topological order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dag {
    inputs: Vec<Vec<Tensor>>,
    /// The layers that the final answer needs; cuts are made of these.
    trunk: LayerSet,
    /// Per layer those of the trunk that read its output.
    readers: Vec<Vec<usize>>,
    reads_input: Vec<usize>,
}

impl Dag {
    /// Adds a layer of the trunk behind those that it reads.
    pub fn push(&mut self, inputs: Vec<Tensor>) {
        let layer = self.len();
        for &input in &inputs {
            match input {
                Some(source) => self.readers[source].push(layer),
                None => self.reads_input.push(layer),
            }
        }
        self.inputs.push(inputs);
        self.readers.push(Vec::new());
        self.trunk.insert(layer);
    }

    /// The same layers, with only those that `last` needs for a trunk.
    pub fn with_trunk_to(mut self, last: usize) -> Self {
        self.trunk = self.up_to([last]);
        for readers in self.readers.iter_mut().chain([&mut self.reads_input]) {
            readers.retain(|&reader| self.trunk.contains(reader));
        }
        self
    }

    /// How many layers there are, of the trunk or not.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    pub fn inputs(&self, layer: usize) -> &[Tensor] {
        &self.inputs[layer]
    }

    /// The layers of the trunk that read a tensor.
    pub fn readers(&self, tensor: Tensor) -> &[usize] {
        tensor.map_or(&self.reads_input, |layer| &self.readers[layer])
    }

    /// Whether a tensor is an end of the trunk: a layer's output that no layer of it reads.
    pub fn is_result(&self, tensor: Tensor) -> bool {
        tensor.is_some() && self.readers(tensor).is_empty()
    }

    /// The trunk: the largest cut.
    pub fn trunk(&self) -> &LayerSet {
        &self.trunk
    }

    /// The smallest downward-closed set that holds these layers.
    pub fn up_to(&self, tips: impl IntoIterator<Item = usize>) -> LayerSet {
        let mut set = LayerSet::default();
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

    /// Whether a tensor is there inside a cut: computed in it, or the input.
    pub fn is_inside(cut: &LayerSet, tensor: Tensor) -> bool {
        tensor.is_none_or(|layer| cut.contains(layer))
    }

    /// The tensors that cross a cut, each once: those from inside that the trunk outside reads.
    pub fn frontier(&self, cut: &LayerSet) -> Vec<Tensor> {
        let crosses = |tensor: Tensor| self.readers(tensor).iter().any(|&reader| !cut.contains(reader));
        std::iter::once(None).chain(cut.iter().map(Some)).filter(|&tensor| crosses(tensor)).collect()
    }

    /// Whether what reads these tensors can run behind a cut at which the `frontier` crosses: each tensor crosses, or is made
    /// behind the cut.
    pub fn can_run(cut: &LayerSet, frontier: &[Tensor], reads: impl IntoIterator<Item = Tensor>) -> bool {
        let is_there = |tensor| !Self::is_inside(cut, tensor) || frontier.contains(&tensor);
        reads.into_iter().all(is_there)
    }

    /// Every cut from the empty one to the whole trunk, by size; `None` where there are more than `most`.
    pub fn cuts(&self, most: usize) -> Option<Vec<LayerSet>> {
        let mut seen = HashSet::from([LayerSet::default()]);
        let mut cuts = vec![LayerSet::default()];
        let mut next = 0;
        while next < cuts.len() {
            let cut = cuts[next].clone();
            next += 1;
            let ready = |layer: &usize| {
                !cut.contains(*layer) && self.inputs[*layer].iter().all(|&input| Self::is_inside(&cut, input))
            };
            for layer in self.trunk.iter().filter(ready) {
                let larger = cut.with(layer);
                if seen.insert(larger.clone()) {
                    cuts.push(larger);
                }
            }
            if cuts.len() > most {
                return None;
            }
        }
        Some(cuts)
    }

    /// The cuts along the topological order, from the empty one to the whole trunk. In a chain: every cut.
    pub fn cuts_along(&self) -> Vec<LayerSet> {
        let grown = self.trunk.iter().scan(LayerSet::default(), |cut, layer| {
            cut.insert(layer);
            Some(cut.clone())
        });
        std::iter::once(LayerSet::default()).chain(grown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two branches of one and two layers between a stem and a join; a head hangs on the left one.
    fn diamond() -> Dag {
        let mut dag = Dag::default();
        let (stem, left, right) = (vec![None], vec![Some(0)], [vec![Some(0)], vec![Some(2)]]);
        let (head, join) = (vec![Some(1)], vec![Some(1), Some(3)]);
        [stem, left].into_iter().chain(right).chain([head, join]).for_each(|inputs| dag.push(inputs));
        dag.with_trunk_to(5)
    }

    #[test]
    fn a_diamond_has_all_its_cuts() {
        let dag = diamond();
        let cuts = dag.cuts(100).unwrap();
        // Before the stem, (left or not) × (0 to 2 on the right), and the whole.
        assert_eq!(cuts.len(), 1 + 2 * 3 + 1);
        assert!(cuts.is_sorted_by_key(LayerSet::len));
        assert_eq!(cuts.last(), Some(dag.trunk()));
        let inside = dag.up_to([1, 2]);
        assert_eq!(dag.tips(&inside), [1, 2]);
        assert_eq!(dag.frontier(&inside), [Some(1), Some(2)]);
        assert_eq!(dag.frontier(&dag.up_to([1])), [Some(0), Some(1)]);
        assert_eq!(dag.frontier(&LayerSet::default()), [None]);
        assert_eq!(dag.frontier(dag.trunk()), []);
    }

    #[test]
    fn too_many_cuts_are_not_listed_but_for_those_along_the_order() {
        assert_eq!(diamond().cuts(4), None);
        let along = diamond().cuts_along();
        assert_eq!(along.len(), 6);
        assert!(along.windows(2).all(|pair| pair[1].covers(&pair[0]) && !pair[0].covers(&pair[1])));
    }

    #[test]
    fn heads_are_no_part_of_the_trunk() {
        let dag = diamond();
        assert_eq!(dag.trunk().iter().collect::<Vec<_>>(), [0, 1, 2, 3, 5]);
        assert_eq!(dag.readers(Some(1)), [5]);
        assert_eq!(dag.up_to([4]).without(dag.trunk()).iter().collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn what_is_made_behind_a_cut_or_crosses_it_can_be_read_there() {
        let dag = diamond();
        for (tips, tensor, expected) in [
            (vec![0], Some(1), true),
            (vec![1], Some(1), true),
            (vec![5], Some(1), false),
            (vec![], None, true),
            (vec![0], None, false),
        ] {
            let cut = dag.up_to(tips);
            assert_eq!(Dag::can_run(&cut, &dag.frontier(&cut), [tensor]), expected, "{cut:?} {tensor:?}");
        }
    }

    #[test]
    fn sets_are_equal_whatever_lay_in_them_before() {
        let far: LayerSet = [3, 200].into_iter().collect();
        let near: LayerSet = [3].into_iter().collect();
        assert_eq!(far.without(&[200].into_iter().collect()), near);
        assert_eq!(far.intersection(&near), near);
        assert_eq!(near.union(&far), far);
        assert!(far.covers(&near) && !near.covers(&far));
        assert_eq!((far.len(), far.is_empty(), LayerSet::default().is_empty()), (2, false, true));
        assert_eq!(far.iter().collect::<Vec<_>>(), [3, 200]);
        assert!(far.contains(200) && !near.contains(200));
    }
}
