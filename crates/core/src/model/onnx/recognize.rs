//! Functions that exporters write in several nodes, found among the drafts and made the one layer that they are: the error
//! function form of GELU, hard swish, SiLU and Mish as products, and layer normalisation in single steps.
//!
//! What such a function was made of stays behind unread, and `fuse` leaves it out.

use std::f32::consts::FRAC_1_SQRT_2;

use super::lower::Draft;
use super::node::Node;
use crate::model::{Activation, Arithmetic, LayerId, Op, Reduction, Source, Weights};

/// A draft in other words: what it computes, of what, and the further nodes that it now stands for.
struct Found<'a> {
    op: Op,
    input: Source,
    nodes: Vec<Node<'a>>,
}

/// Rewrites what is found.
pub fn recognize(drafts: &mut [Draft<'_>]) {
    for id in 0..drafts.len() {
        let found = hard_sigmoid(drafts, id)
            .or_else(|| hard_swish(drafts, id))
            .or_else(|| self_gated(drafts, id))
            .or_else(|| gelu(drafts, id))
            .or_else(|| layer_norm(drafts, id));
        if let Some(Found { op, input, nodes }) = found {
            let draft = &mut drafts[id];
            (draft.op, draft.inputs) = (op, vec![input]);
            draft.nodes.extend(nodes);
        }
    }
}

/// The draft behind a source, and its only input.
fn behind<'d, 'a>(drafts: &'d [Draft<'a>], source: Source) -> Option<(&'d Draft<'a>, Source)> {
    let Source::Layer(LayerId(id)) = source else { return None };
    let draft = &drafts[id];
    match draft.inputs.as_slice() {
        &[input] => Some((draft, input)),
        _ => None,
    }
}

/// `scale * x + shift` with a single value each.
fn line(op: &Op) -> Option<(f32, f32)> {
    let single = |weights: &Weights| match weights.data.as_slice() {
        &[value] => Some(value),
        _ => None,
    };
    match op {
        Op::Affine { scale, shift, activation: None } => Some((single(scale)?, single(shift)?)),
        _ => None,
    }
}

/// Up to four lines behind a source as one: `scale * x + shift`, `x`, and the drafts on the way.
fn lines<'d, 'a>(drafts: &'d [Draft<'a>], mut source: Source) -> (f32, f32, Source, Vec<&'d Draft<'a>>) {
    let (mut scale, mut shift, mut parts) = (1.0, 0.0, Vec::new());
    while parts.len() < 4
        && let Some((draft, input)) = behind(drafts, source)
        && let Some((inner, offset)) = line(&draft.op)
    {
        (scale, shift, source) = (scale * inner, scale * offset + shift, input);
        parts.push(draft);
    }
    (scale, shift, source, parts)
}

/// The two factors of a product, both ways round.
fn factors(draft: &Draft<'_>) -> Option<[(Source, Source); 2]> {
    match (&draft.op, draft.inputs.as_slice()) {
        (Op::Combine { how: Arithmetic::Product, activation: None }, &[a, b]) => Some([(a, b), (b, a)]),
        _ => None,
    }
}

fn near(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= 1e-3 * expected.abs()
}

fn activation<'a>(function: Activation, input: Source, parts: &[&Draft<'a>]) -> Option<Found<'a>> {
    let nodes = parts.iter().flat_map(|draft| draft.nodes.iter().copied()).collect();
    Some(Found { op: Op::Activation(function), input, nodes })
}

const HARD_SIGMOID: Activation = Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 };

/// `clip(x + 3, 0, 6)`.
fn clipped_sum<'d, 'a>(drafts: &'d [Draft<'a>], source: Source) -> Option<([&'d Draft<'a>; 2], Source)> {
    let (clip, sum) = behind(drafts, source)?;
    let (plus, input) = behind(drafts, sum)?;
    let Op::Activation(Activation::Clip { least: 0.0, most: 6.0 }) = clip.op else { return None };
    (line(&plus.op) == Some((1.0, 3.0))).then_some(([clip, plus], input))
}

/// `clip(x + 3, 0, 6) / 6`.
fn hard_sigmoid<'a>(drafts: &[Draft<'a>], id: usize) -> Option<Found<'a>> {
    let (scale, shift) = line(&drafts[id].op)?;
    let ([clip, plus], input) = clipped_sum(drafts, *drafts[id].inputs.first()?)?;
    let fits = near(scale, 1.0 / 6.0) && shift == 0.0;
    if fits { activation(HARD_SIGMOID, input, &[plus, clip]) } else { None }
}

/// `x * clip(x + 3, 0, 6) / 6`.
fn hard_swish<'a>(drafts: &[Draft<'a>], id: usize) -> Option<Found<'a>> {
    let (scale, shift) = line(&drafts[id].op)?;
    let Source::Layer(LayerId(product)) = *drafts[id].inputs.first()? else { return None };
    let product = &drafts[product];
    factors(product)?.into_iter().find_map(|(x, gate)| {
        let ([clip, plus], input) = clipped_sum(drafts, gate)?;
        let fits = near(scale, 1.0 / 6.0) && shift == 0.0 && input == x;
        if fits { activation(Activation::HardSwish, x, &[product, plus, clip]) } else { None }
    })
}

/// `x` times a function of `x`.
fn self_gated<'a>(drafts: &[Draft<'a>], id: usize) -> Option<Found<'a>> {
    factors(&drafts[id])?.into_iter().find_map(|(x, gate)| {
        let (gate, input) = behind(drafts, gate)?;
        match gate.op {
            Op::Activation(Activation::Sigmoid) if input == x => activation(Activation::Silu, x, &[gate]),
            Op::Activation(Activation::HardSigmoid { slope, offset: 0.5 })
                if input == x && near(slope, 1.0 / 6.0) =>
            {
                activation(Activation::HardSwish, x, &[gate])
            }
            Op::Activation(Activation::Tanh) => match behind(drafts, input)? {
                (soft, input) if input == x && matches!(soft.op, Op::Activation(Activation::Softplus)) => {
                    activation(Activation::Mish, x, &[gate, soft])
                }
                _ => None,
            },
            _ => None,
        }
    })
}

/// `0.5 * x * (1 + erf(x / sqrt(2)))`, the half standing at either factor or behind the product.
fn gelu<'a>(drafts: &[Draft<'a>], id: usize) -> Option<Found<'a>> {
    let halves = |factor: f32, x: Source, parts: Vec<&Draft<'a>>| {
        if near(factor, 0.5) { activation(Activation::Gelu { tanh: false }, x, &parts) } else { None }
    };
    if let Some((scale, 0.0)) = line(&drafts[id].op) {
        let Source::Layer(LayerId(product)) = *drafts[id].inputs.first()? else { return None };
        let (factor, x, mut parts) = gelu_product(drafts, product)?;
        parts.push(&drafts[product]);
        return halves(factor * scale, x, parts);
    }
    let (factor, x, parts) = gelu_product(drafts, id)?;
    halves(factor, x, parts)
}

/// The factor in front of `x * (1 + erf(x / sqrt(2)))`, `x`, and the drafts behind the product.
fn gelu_product<'d, 'a>(drafts: &'d [Draft<'a>], id: usize) -> Option<(f32, Source, Vec<&'d Draft<'a>>)> {
    factors(&drafts[id])?.into_iter().find_map(|(plain, gate)| {
        let (one, shift, erf, mut parts) = lines(drafts, gate);
        let (erf, scaled) = behind(drafts, erf)?;
        let (scaled, x) = behind(drafts, scaled)?;
        let (inner, zero) = line(&scaled.op)?;
        let is_erf = matches!(erf.op, Op::Activation(Activation::Erf));
        if !is_erf || one != shift || zero != 0.0 || !near(inner, FRAC_1_SQRT_2) {
            return None;
        }
        parts.extend([erf, scaled]);
        if plain == x {
            return Some((one, x, parts));
        }
        let (half, input) = behind(drafts, plain)?;
        let (scale, 0.0) = line(&half.op)? else { return None };
        parts.push(half);
        (input == x).then_some((one * scale, x, parts))
    })
}

/// `(x - mean) / sqrt(mean((x - mean)²) + epsilon)`, the means over the last axes.
fn layer_norm<'a>(drafts: &[Draft<'a>], id: usize) -> Option<Found<'a>> {
    let (Op::Combine { how: Arithmetic::Quotient, activation: None }, &[deviation, root]) =
        (&drafts[id].op, drafts[id].inputs.as_slice())
    else {
        return None;
    };
    let Source::Layer(LayerId(minus)) = deviation else { return None };
    let (x, mean) = difference(&drafts[minus])?;
    let (mean, mean_of) = behind(drafts, mean)?;
    let (root, plus) = behind(drafts, root)?;
    let (plus, variance) = behind(drafts, plus)?;
    let (variance, squares) = behind(drafts, variance)?;
    let (squares, squared) = behind(drafts, squares)?;
    let (1.0, epsilon) = line(&plus.op)? else { return None };
    let shape = normal_shape(&mean.op, &drafts[minus])?;
    let fits = mean_of == x
        && squared == deviation
        && matches!(root.op, Op::Activation(Activation::Power { exponent: 0.5 }))
        && matches!(squares.op, Op::Activation(Activation::Power { exponent: 2.0 }))
        && normal_shape(&variance.op, &drafts[minus])? == shape;
    let nodes = [mean, &drafts[minus], squares, variance, plus, root];
    let nodes = nodes.iter().flat_map(|draft| draft.nodes.iter().copied()).collect();
    let op = Op::LayerNorm { shape, weight: None, bias: None, epsilon };
    fits.then_some(Found { op, input: x, nodes })
}

fn difference(draft: &Draft<'_>) -> Option<(Source, Source)> {
    match (&draft.op, draft.inputs.as_slice()) {
        (Op::Combine { how: Arithmetic::Difference, activation: None }, &[a, b]) => Some((a, b)),
        _ => None,
    }
}

/// The last sides of a draft's output, if a mean is over just those.
fn normal_shape(mean: &Op, draft: &Draft<'_>) -> Option<Vec<usize>> {
    let sides = &draft.output.0;
    let Op::Reduce { how: Reduction::Mean, axes } = mean else { return None };
    let first = *axes.first()?;
    axes.iter().copied().eq(first..sides.len()).then(|| sides[first..].to_vec())
}
