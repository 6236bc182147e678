//! Einstein sums of two tensors, as products of matrices.

use super::super::constant::elements;
use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use super::linear::multiplied;
use super::shape::turned;
use crate::error::Result;

/// `Einsum` of two tensors, each axis named by one letter: those in both and in the result count the matrices, those in
/// both alone are summed over, and each of the others is in one tensor and in the result.
pub fn einsum<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let views = [graph.tensor(node, 0)?, graph.tensor(node, 1)?];
    let unsupported = || node.error("only products of two tensors with a letter for each axis are supported");
    let [left, right, result] = equation(node).ok_or_else(unsupported)?;
    let named = |names: &[char], wanted: fn(bool, bool) -> bool, other: &[char]| -> Vec<char> {
        let fits = |name: &&char| wanted(other.contains(name), result.contains(name));
        names.iter().filter(fits).copied().collect()
    };
    let counted = named(&left, |shared, kept| shared && kept, &right);
    let summed = named(&left, |shared, kept| shared && !kept, &right);
    let rows = named(&left, |shared, kept| !shared && kept, &right);
    let columns = named(&right, |shared, kept| !shared && kept, &left);
    let made = [counted.as_slice(), &rows, &columns].concat();
    let ranks = [&views[0].shape, &views[1].shape].map(Vec::len);
    let whole = ranks == [left.len(), right.len()]
        && left.len() == counted.len() + rows.len() + summed.len()
        && right.len() == counted.len() + summed.len() + columns.len()
        && result.len() == made.len();
    if !whole {
        return Err(unsupported());
    }
    let sides =
        made.iter().map(|name| side(name, &left, &views[0]).or_else(|| side(name, &right, &views[1])));
    let sides: Vec<usize> = sides.collect::<Option<_>>().ok_or_else(unsupported)?;
    let [first, second] = views;
    let first = matrices(graph, node, first, &left, [&counted, &rows, &summed])?;
    let second = matrices(graph, node, second, &right, [&counted, &summed, &columns])?;
    let View { source, .. } = multiplied(graph, node, &[first, second])?;
    let order = order(&made, &result).ok_or_else(unsupported)?;
    turned(graph, node, View { source, shape: sides }, &order).map(Value::Tensor)
}

/// The letters of both tensors and of the result, each there once.
fn equation(node: &Node<'_>) -> Option<[Vec<char>; 3]> {
    let text: String = node.text("equation", "").chars().filter(|letter| *letter != ' ').collect();
    let (inputs, result) = text.split_once("->")?;
    let (left, right) = inputs.split_once(',')?;
    let once = |names: &str| names.char_indices().all(|(at, name)| !names[at + 1..].contains(name));
    let sound = |names: &str| names.bytes().all(|name| name.is_ascii_alphabetic()) && once(names);
    let all = [left, right, result];
    all.iter().all(|names| sound(names)).then(|| all.map(|names| names.chars().collect()))
}

fn side(name: &char, names: &[char], view: &View) -> Option<usize> {
    view.shape.get(names.iter().position(|own| own == name)?).copied()
}

/// Where each of the wanted letters stands.
fn order(names: &[char], wanted: &[char]) -> Option<Vec<usize>> {
    wanted.iter().map(|name| names.iter().position(|own| own == name)).collect()
}

/// The tensor as one axis for each group of letters.
fn matrices<'a>(
    graph: &mut Lowering<'a>,
    node: &Node<'a>,
    view: View,
    names: &[char],
    groups: [&[char]; 3],
) -> Result<View> {
    let unknown = || node.error("its letters do not fit its tensors");
    let order = order(names, &groups.concat()).ok_or_else(unknown)?;
    let View { source, shape } = turned(graph, node, view, &order)?;
    let mut rest = shape.as_slice();
    let sides = groups.map(|group| {
        let (own, behind) = rest.split_at(group.len());
        rest = behind;
        // A tensor's shape is checked when its layer is made, so that its products exist.
        elements(own).unwrap_or(0)
    });
    Ok(View { source, shape: sides.to_vec() })
}
