//! What layers compute, and the constants that they compute with.

use std::borrow::Cow;
use std::sync::Arc;

use super::activation::Activation;

/// A constant tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its values; as many as the product of `shape`.
    pub data: Vec<f32>,
}

/// The sliding window of a convolution or pooling, `[vertical, horizontal]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Step between places.
    pub stride: [usize; 2],
    /// Padding `[top, left, bottom, right]`.
    pub padding: [usize; 4],
    /// Spacing of the kernel's taps.
    pub dilation: [usize; 2],
}

impl Window {
    /// How far it reaches along an axis, gaps between its taps included.
    pub fn extent(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// How many places it takes over a plane of `[height, width]`; `ceil` rounds up. `None` where it does not fit the padded
    /// plane.
    pub fn places(&self, plane: [usize; 2], ceil: bool) -> Option<[usize; 2]> {
        let mut places = [0; 2];
        for axis in 0..2 {
            let [before, after] = [self.padding[axis], self.padding[axis + 2]];
            let room = (plane[axis] + before + after).checked_sub(self.extent(axis))?;
            let stride = self.stride[axis];
            places[axis] = room / stride + 1;
            // A place that would lie wholly in the padding behind the plane is left out, as PyTorch does.
            if ceil && room % stride != 0 && places[axis] * stride < plane[axis] + before {
                places[axis] += 1;
            }
        }
        Some(places)
    }

    /// The share of what it sees, over so many places, that lies in the plane and not in its padding.
    pub fn share_inside(&self, plane: [usize; 2], places: [usize; 2]) -> f64 {
        let along = |axis: usize| {
            let seen = (0..places[axis]).flat_map(|place| {
                let start = place * self.stride[axis];
                (0..self.kernel[axis]).map(move |tap| start + tap * self.dilation[axis])
            });
            let (before, all) = (self.padding[axis], places[axis] * self.kernel[axis]);
            let inside = seen.filter(|at| (before..before + plane[axis]).contains(at)).count();
            inside as f64 / all.max(1) as f64
        };
        along(0) * along(1)
    }
}

/// How tensors are combined, value by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `a + b + …`
    Sum,
    /// `a - b`
    Difference,
    /// `a * b * …`
    Product,
    /// `a / b`
    Quotient,
    /// The larger one.
    Largest,
    /// The smaller one.
    Smallest,
}

/// How the values along some axes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
    /// The largest one.
    Largest,
    /// The smallest one.
    Smallest,
    /// Where the largest one stands, the first of several; along one axis.
    PlaceOfLargest,
    /// Where the smallest one stands.
    PlaceOfSmallest,
}

/// A part of what each new place of an axis is made of when it is resampled.
#[derive(Clone, Debug, PartialEq)]
pub struct Tap {
    /// For each new place, the old one.
    pub places: Vec<usize>,
    /// For each new place, how much of that one; all of it where there are none.
    pub weights: Option<Vec<f32>>,
}

/// What a layer computes, per sample: axes count those of the shapes here, which have no batch. `activation` is fused
/// behind it. Values are read row-major where the shape that an op wants differs from the one that its input was written
/// in, and written in the shape of the layer's output: changes of shape cost nothing.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields are the op's parameters under their usual names")]
pub enum Op {
    /// Convolution, `weight` `[out, in / groups, kh, kw]`, batch norm folded in. Where it `adds`, its second input, of the
    /// output's shape, is added in front of the activation.
    Conv {
        weight: Arc<Weights>,
        bias: Option<Arc<Weights>>,
        window: Window,
        groups: usize,
        adds: bool,
        activation: Option<Activation>,
    },
    /// Fully connected, `weight` `[out, in]`; its input is read as rows of `in` values.
    Linear { weight: Arc<Weights>, bias: Option<Arc<Weights>>, activation: Option<Activation> },
    /// `scale * x + shift` with constants that are broadcast: batch norm alone, input normalisation, embeddings of places.
    Affine { scale: Arc<Weights>, shift: Arc<Weights>, activation: Option<Activation> },
    /// Largest value under the window; `ceil` rounds the output size up.
    MaxPool { window: Window, ceil: bool },
    /// Mean under the window.
    AveragePool { window: Window, ceil: bool, count_padding: bool },
    /// Mean of each channel's plane.
    GlobalAveragePool,
    /// A function of each value alone.
    Activation(Activation),
    /// Inputs, broadcast to each other's shape, combined from left to right.
    Combine { how: Arithmetic, activation: Option<Activation> },
    /// Product of two matrices, or of as many pairs as there are in front of the last two axes.
    MatMul,
    /// Shares that add up to one along an axis, or their logarithms.
    Softmax { axis: usize, log: bool },
    /// Mean 0 and variance 1 over the axes that `shape` names from the end, then `weight` and `bias`.
    LayerNorm { shape: Vec<usize>, weight: Option<Arc<Weights>>, bias: Option<Arc<Weights>>, epsilon: f32 },
    /// Some axes made one value each.
    Reduce { how: Reduction, axes: Vec<usize> },
    /// Inputs joined along an axis; each of `constants` is put in where its number says.
    Concat { axis: usize, constants: Vec<(usize, Arc<Weights>)> },
    /// An axis of another length, each place of it the sum of its `taps`.
    Resample { axis: usize, taps: Vec<Tap> },
    /// The `count` largest or smallest numbers along an axis in their order, or their `places`.
    TopK { axis: usize, count: usize, largest: bool, places: bool },
    /// Transposed convolution, `weight` `[in, out / groups, kh, kw]`. The window's padding is taken off the output, as much on
    /// both sides of an axis; `output_padding` `[vertical, horizontal]` is added at its ends.
    ConvTranspose {
        weight: Arc<Weights>,
        bias: Option<Arc<Weights>>,
        window: Window,
        output_padding: [usize; 2],
        groups: usize,
    },
    /// Every `step`-th place of an axis, from `start` on and before `end`.
    Slice { axis: usize, start: usize, end: usize, step: usize },
    /// Axes put into another order.
    Transpose { order: Vec<usize> },
    /// `value` put `before` and `after` each axis.
    Pad { before: Vec<usize>, after: Vec<usize>, value: f32 },
    /// The same values under another shape.
    Reshape,
}

impl Op {
    /// How many learned values it holds, folded ones counted once.
    pub fn learned_values(&self) -> usize {
        let of = |weights: &Arc<Weights>| weights.data.len();
        match self {
            Self::Conv { weight, bias, .. }
            | Self::ConvTranspose { weight, bias, .. }
            | Self::Linear { weight, bias, .. } => of(weight) + bias.as_ref().map_or(0, of),
            Self::Affine { scale, shift, .. } => of(scale) + of(shift),
            Self::LayerNorm { weight, bias, .. } => [weight, bias].into_iter().flatten().map(of).sum(),
            Self::Concat { constants, .. } => constants.iter().map(|(_, constant)| of(constant)).sum(),
            _ => 0,
        }
    }

    /// What is fused behind it, where it is an op that can have something there.
    pub fn activation_mut(&mut self) -> Option<&mut Option<Activation>> {
        match self {
            Self::Conv { activation, .. }
            | Self::Linear { activation, .. }
            | Self::Affine { activation, .. }
            | Self::Combine { activation, .. } => Some(activation),
            _ => None,
        }
    }

    /// What is fused behind it.
    pub fn activation(&self) -> Option<Activation> {
        match self {
            Self::Conv { activation, .. }
            | Self::Linear { activation, .. }
            | Self::Affine { activation, .. }
            | Self::Combine { activation, .. } => *activation,
            _ => None,
        }
    }

    /// Whether it adds its second input to what it computes of the first.
    pub fn adds(&self) -> bool {
        matches!(self, Self::Conv { adds: true, .. })
    }

    /// Its name for tables, fused parts included.
    pub fn label(&self) -> Cow<'static, str> {
        let name = if self.adds() { "conv+add" } else { self.kind() };
        self.activation().map_or(name.into(), |activation| format!("{name}+{}", activation.label()).into())
    }

    /// Its name for tables, without what is fused behind it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Conv { .. } => "conv",
            Self::Linear { .. } => "linear",
            Self::Affine { .. } => "affine",
            Self::MaxPool { .. } => "maxpool",
            Self::AveragePool { .. } => "avgpool",
            Self::GlobalAveragePool => "global avgpool",
            Self::Activation(activation) => activation.label(),
            Self::Combine { how: Arithmetic::Sum, .. } => "add",
            Self::Combine { how: Arithmetic::Difference, .. } => "sub",
            Self::Combine { how: Arithmetic::Product, .. } => "mul",
            Self::Combine { how: Arithmetic::Quotient, .. } => "div",
            Self::Combine { how: Arithmetic::Largest, .. } => "max",
            Self::Combine { how: Arithmetic::Smallest, .. } => "min",
            Self::MatMul => "matmul",
            Self::Softmax { log: false, .. } => "softmax",
            Self::Softmax { log: true, .. } => "log softmax",
            Self::LayerNorm { .. } => "layernorm",
            Self::Reduce { how: Reduction::Mean, .. } => "mean",
            Self::Reduce { how: Reduction::Sum, .. } => "sum",
            Self::Reduce { how: Reduction::Largest, .. } => "maximum",
            Self::Reduce { how: Reduction::Smallest, .. } => "minimum",
            Self::Reduce { how: Reduction::PlaceOfLargest, .. } => "argmax",
            Self::Reduce { how: Reduction::PlaceOfSmallest, .. } => "argmin",
            Self::Resample { .. } => "resize",
            Self::TopK { .. } => "topk",
            Self::ConvTranspose { .. } => "transposed conv",
            Self::Concat { .. } => "concat",
            Self::Slice { .. } => "slice",
            Self::Transpose { .. } => "transpose",
            Self::Pad { .. } => "pad",
            Self::Reshape => "reshape",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn learned_values_count_weights_and_biases() {
        let weights = |len| Arc::new(Weights { shape: vec![len], data: vec![0.0; len] });
        let linear = Op::Linear { weight: weights(12), bias: Some(weights(3)), activation: None };
        assert_eq!(linear.learned_values(), 15);
        assert_eq!(Op::Affine { scale: weights(3), shift: weights(3), activation: None }.learned_values(), 6);
        let constants = vec![(0, weights(5))];
        assert_eq!(Op::Concat { axis: 0, constants }.learned_values(), 5);
        assert_eq!(Op::Reshape.learned_values(), 0);
    }

    #[test]
    fn padding_is_what_a_window_sees_outside() {
        let window = |stride, padding, dilation| Window {
            kernel: [3, 3],
            stride: [stride; 2],
            padding: [padding; 4],
            dilation: [dilation; 2],
        };
        let share = |window: Window| {
            let places = window.places([2, 9], false).unwrap();
            window.share_inside([2, 9], places)
        };
        assert_eq!(share(window(1, 1, 1)), 4.0 / 6.0 * 25.0 / 27.0);
        // One place along the short side, of which one tap lies outside; five along the other, the outer two with one each.
        assert_eq!(share(window(2, 1, 1)), 2.0 / 3.0 * 13.0 / 15.0);
        assert_eq!(share(window(1, 2, 2)), 2.0 / 6.0 * 23.0 / 27.0);
    }

    #[test]
    fn labels_name_what_is_fused() {
        let how = Arithmetic::Sum;
        assert_eq!(Op::Combine { how, activation: None }.label(), "add");
        assert_eq!(Op::Combine { how, activation: Some(Activation::Relu) }.label(), "add+relu");
        let relu6 = Activation::Clip { least: 0.0, most: 6.0 };
        assert_eq!(Op::Activation(relu6).label(), "relu6");
    }
}
