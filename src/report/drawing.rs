//! A graph as text: a line for each layer, a rail for each tensor that a later layer still reads.

use std::collections::BTreeMap;

use coprof_core::model::{Graph, LayerId, Source};

/// The rails beside each layer, in topological order; the first line is the input's. A layer stands where its output goes; `╯`,
/// `╰` and `┴` end the rails of tensors that it is the last to read, `├` and `┤` branch off those that others still read.
pub fn rails(graph: &Graph) -> Vec<String> {
    let mut readers: BTreeMap<Source, usize> = BTreeMap::new();
    for input in graph.layers.iter().flat_map(|layer| &layer.inputs) {
        *readers.entry(*input).or_default() += 1;
    }
    let mut columns = vec![readers.contains_key(&Source::Input).then_some(Source::Input)];
    let mut lines = vec!["○".to_owned()];
    for id in graph.layer_ids() {
        let inputs = &graph.layer(id).inputs;
        for input in inputs {
            readers.entry(*input).and_modify(|left| *left -= 1);
        }
        let is_last = |source: &Source| inputs.contains(source) && readers.get(source) == Some(&0);
        let ends: Vec<bool> = columns.iter().map(|column| column.as_ref().is_some_and(is_last)).collect();
        let at = place(&ends, &mut columns);
        lines.push(line(at, &ends, &columns, inputs));
        for (column, ends) in columns.iter_mut().zip(&ends) {
            column.take_if(|_| *ends);
        }
        let output = Source::Layer(id);
        columns[at] = readers.get(&output).is_some_and(|left| *left > 0).then_some(output);
    }
    lines
}

/// Where a layer stands: in the place of a tensor that it is the last to read, or where there is room.
fn place(ends: &[bool], columns: &mut Vec<Option<Source>>) -> usize {
    let free = |columns: &[Option<Source>]| columns.iter().position(Option::is_none);
    ends.iter().position(|ends| *ends).or_else(|| free(columns)).unwrap_or_else(|| {
        columns.push(None);
        columns.len() - 1
    })
}

fn line(at: usize, ends: &[bool], columns: &[Option<Source>], inputs: &[Source]) -> String {
    let is_read = |column: usize| columns[column].is_some_and(|source| inputs.contains(&source));
    let joined = (0..columns.len()).filter(|&column| column == at || is_read(column));
    let (first, last) = joined.fold((at, at), |(first, last), column| (first.min(column), last.max(column)));
    let mut line = String::new();
    for (column, rail) in columns.iter().enumerate() {
        let between = first < column && column < last;
        let ended = ends.get(column).is_some_and(|ends| *ends);
        line.push(match rail {
            _ if column == at => '●',
            Some(_) if ended && between => '┴',
            Some(_) if ended && column > at => '╯',
            Some(_) if ended => '╰',
            Some(_) if is_read(column) && column > at => '┤',
            Some(_) if is_read(column) => '├',
            Some(_) if between => '┼',
            Some(_) => '│',
            None if between => '─',
            None => ' ',
        });
        line.push(if first <= column && column < last { '─' } else { ' ' });
    }
    line.trim_end().to_owned()
}

/// The exits that answer with a layer's output.
pub fn exits_at(graph: &Graph, id: LayerId) -> String {
    let names: Vec<&str> =
        graph.exits.iter().filter(|exit| exit.logits == id).map(|exit| exit.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!("→ {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coprof_core::model::samples;

    #[test]
    fn a_chain_with_a_side_exit_branches_once() {
        // conv1, pool1, exit1.fc, conv2, pool2, fc
        assert_eq!(rails(&samples::chain()), ["○", "●", "●", "├─●", "●", "●", "●"]);
        assert_eq!(exits_at(&samples::chain(), LayerId(2)), "→ exit1");
        assert_eq!(exits_at(&samples::chain(), LayerId(0)), "");
    }

    #[test]
    fn branches_run_side_by_side_and_join() {
        // stem, left, right1, right2, join, fc
        assert_eq!(rails(&samples::forked()), ["○", "●", "├─●", "● │", "● │", "●─╯", "●"]);
        let columns = [0, 1, 2].map(|id| Some(Source::Layer(LayerId(id))));
        let inputs = columns.map(|column| column.unwrap());
        assert_eq!(line(0, &[true; 3], &columns, &inputs), "●─┴─╯");
        assert_eq!(line(0, &[true, false, true], &columns, &[inputs[0], inputs[2]]), "●─┼─╯");
        assert_eq!(line(2, &[false, true, false], &columns, &inputs[..2]), "├─┴─●");
    }

    #[test]
    fn a_skip_has_a_rail_of_its_own() {
        // conv1, conv2a, conv2b, add, fc
        assert_eq!(rails(&samples::residual()), ["○", "●", "├─●", "│ ●", "●─╯", "●"]);
    }
}
