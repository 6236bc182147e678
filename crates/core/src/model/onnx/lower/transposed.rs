//! Transposed convolutions, which spread each value over a window of a larger plane.

use super::super::node::Node;
use super::super::value::{Value, View};
use super::Lowering;
use super::cut::cut_out;
use super::linear::{spread, stored_bias, weights};
use super::window::{Field, MAX_ELEMENTS};
use crate::error::Result;
use crate::model::{Op, Window};

/// `ConvTranspose`.
pub fn conv_transpose<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let view = graph.tensor(node, 0)?;
    let field = Field::of(node, &view)?;
    let mut weight = weights(graph, node, 1)?;
    let groups = usize::try_from(node.int("group", 1)).unwrap_or(0);
    let misfit = node.error(format_args!(
        "its weight {:?} in {} groups does not fit an input of {} channels",
        weight.shape,
        node.int("group", 1),
        field.channels
    ));
    let kernel = field.kernel_shape(&weight.shape).filter(|_| field.channels.checked_rem(groups) == Some(0));
    let Some(shape @ [inputs, per_group, height, width]) = kernel else { return Err(misfit) };
    if inputs != field.channels {
        return Err(misfit);
    }
    let outputs = per_group * groups;
    let bias = stored_bias(graph, node, 2)?.map(|bias| spread(node, &bias, outputs)).transpose()?;
    let one = |name: &str| Ok(field.pair(node, name)?.unwrap_or([1; 2]));
    let (stride, dilation) = (one("strides")?, one("dilations")?);
    let extra = field.output_padding(node)?;
    let whole = Window { kernel: [height, width], stride, padding: [0; 4], dilation };
    let spread_over: [usize; 2] = std::array::from_fn(|axis| {
        let steps = stride[axis].saturating_mul(field.plane[axis] - 1);
        steps.saturating_add(whole.extent(axis)).saturating_add(extra[axis])
    });
    let padding = field.transposed_padding(node, &whole, spread_over)?;
    let count = spread_over[0].checked_mul(spread_over[1]).and_then(|places| places.checked_mul(outputs));
    let kept: [usize; 2] =
        std::array::from_fn(|axis| spread_over[axis].saturating_sub(padding[axis] + padding[axis + 2]));
    if count.is_none_or(|count| count > MAX_ELEMENTS)
        || kept.contains(&0)
        || extra[0] >= stride[0].max(dilation[0])
        || extra[1] >= stride[1].max(dilation[1])
    {
        return Err(node.error("its strides, pads and output_padding do not fit its input"));
    }
    std::sync::Arc::make_mut(&mut weight).shape = shape.to_vec();
    // libtorch takes as much off on both sides of an axis, or else nothing, and the rest is cut.
    let even = padding[..2] == padding[2..];
    let window = Window { padding: if even { padding } else { [0; 4] }, ..whole };
    let made = if even { kept } else { spread_over };
    let op = Op::ConvTranspose { weight, bias, window, output_padding: extra, groups };
    let source = graph.stored_as(&view, &field.stored()).map_err(|what| node.error(what))?;
    let mut made = graph.push(node, op, vec![source], vec![1, outputs, made[0], made[1]])?;
    if !even {
        for axis in 0..2 {
            made = cut_out(graph, node, made, axis + 2, padding[axis]..padding[axis] + kept[axis])?;
        }
    }
    let View { source, shape } = field.written(made);
    Ok(Value::Tensor(View { source, shape }))
}
