//! The windows of convolutions and poolings: read, checked, and slid over a plane.

use super::super::node::{Node, shown};
use super::super::value::View;
use crate::error::Result;
use crate::model::Window;

/// The largest number of values in a tensor of one sample; beyond it lies no image network, only a broken file.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// The largest kernel side, stride, padding and dilation: small enough that no product below overflows.
const MAX_SIDE: i64 = 1 << 20;

/// What a node slides its window over: a plane of each channel, or a line, which counts as a plane of height 1.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// How many channels there are.
    pub channels: usize,
    /// Height and width.
    pub plane: [usize; 2],
    /// Whether the file has no height.
    is_line: bool,
}

impl Field {
    /// That of a tensor, `[batch, channels, height, width]` or `[batch, channels, length]`.
    pub fn of(node: &Node<'_>, view: &View) -> Result<Self> {
        match *view.shape.as_slice() {
            [1, channels, height, width] => Ok(Self { channels, plane: [height, width], is_line: false }),
            [1, channels, length] => Ok(Self { channels, plane: [1, length], is_line: true }),
            [1, _, depth, height, width] => Err(node.error(format_args!(
                "a {} over 3 dimensions ({depth}×{height}×{width}) is not supported; only 1-D and 2-D ones are",
                shown(node.op())
            ))),
            _ => Err(node.error(format_args!(
                "expected an input of [batch, channels, height, width] or [batch, channels, length], found {:?} for a batch \
                 of 1",
                view.shape
            ))),
        }
    }

    /// Its values, all channels together; `None` if they cannot be counted.
    fn elements(&self, window: &Window) -> Option<usize> {
        let [top, left, bottom, right] = window.padding;
        let [height, width] = self.plane;
        (height + top + bottom).checked_mul(width + left + right)?.checked_mul(self.channels)
    }

    /// The shape that it lies in, without the batch.
    pub fn stored(&self) -> [usize; 3] {
        [self.channels, self.plane[0], self.plane[1]]
    }

    /// The tensor that a node makes of it, `channels` planes of so many places, under the shape that the file gives it.
    pub fn written(&self, view: View) -> View {
        match view.shape.as_slice() {
            &[1, channels, 1, length] if self.is_line => {
                View { source: view.source, shape: vec![1, channels, length] }
            }
            _ => view,
        }
    }

    /// The shape of a weight with its kernel's height; `None` for a weight of another rank.
    pub fn kernel_shape(&self, weight: &[usize]) -> Option<[usize; 4]> {
        match *weight {
            [outputs, depth, length] if self.is_line => Some([outputs, depth, 1, length]),
            [outputs, depth, height, width] if !self.is_line => Some([outputs, depth, height, width]),
            _ => None,
        }
    }

    /// A positive number for each dimension, if the attribute is given; 1 along the height of a line.
    pub fn pair(&self, node: &Node<'_>, name: &str) -> Result<Option<[usize; 2]>> {
        let found = match (node.ints(name), self.is_line) {
            (None, _) => return Ok(None),
            (Some(&[length]), true) => [1, length],
            (Some(&[vertical, horizontal]), false) => [vertical, horizontal],
            (Some(_), _) => [0; 2],
        };
        if found.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
            return Ok(Some(found.map(|side| side as usize)));
        }
        Err(node.error(format_args!(
            "expected {name} to be {} from 1 to {MAX_SIDE}, found {}",
            if self.is_line { "a number" } else { "two numbers" },
            few(node.ints(name).unwrap_or_default())
        )))
    }

    fn padding(&self, node: &Node<'_>) -> Result<[usize; 4]> {
        let found = match (node.ints("pads"), self.is_line) {
            (None, _) => [0; 4],
            (Some(&[left, right]), true) => [0, left, 0, right],
            (Some(&[top, left, bottom, right]), false) => [top, left, bottom, right],
            (Some(_), _) => [-1; 4],
        };
        if found.iter().all(|pad| (0..=MAX_SIDE).contains(pad)) {
            return Ok(found.map(|pad| pad as usize));
        }
        Err(node.error(format_args!(
            "expected pads to be {} numbers from 0 to {MAX_SIDE}, found {}",
            if self.is_line { "two" } else { "four" },
            few(node.ints("pads").unwrap_or_default())
        )))
    }

    /// The window that a node slides over it, its automatic padding worked out.
    pub fn window(&self, node: &Node<'_>, kernel: [usize; 2]) -> Result<Window> {
        let stride = self.pair(node, "strides")?.unwrap_or([1; 2]);
        let dilation = self.pair(node, "dilations")?.unwrap_or([1; 2]);
        let mut window = Window { kernel, stride, padding: [0; 4], dilation };
        match node.text("auto_pad", "NOTSET") {
            "NOTSET" | "" => window.padding = self.padding(node)?,
            "VALID" => {}
            mode @ ("SAME_UPPER" | "SAME_LOWER") => {
                for axis in 0..2 {
                    let places = self.plane[axis].div_ceil(window.stride[axis]);
                    let needed = places.saturating_sub(1) * window.stride[axis] + window.extent(axis);
                    let (less, more) = halves(needed.saturating_sub(self.plane[axis]));
                    let (before, after) = if mode == "SAME_UPPER" { (less, more) } else { (more, less) };
                    (window.padding[axis], window.padding[axis + 2]) = (before, after);
                }
            }
            other => {
                return Err(node.error(format_args!("auto_pad '{}' does not exist", shown(other))));
            }
        }
        match self.elements(&window) {
            Some(elements) if elements <= MAX_ELEMENTS => Ok(window),
            _ => Err(node.error(format_args!("its padded input would hold over {MAX_ELEMENTS} values"))),
        }
    }

    /// What a transposed convolution adds at the ends of its axes, smaller than its steps.
    pub fn output_padding(&self, node: &Node<'_>) -> Result<[usize; 2]> {
        let found = match (node.ints("output_padding"), self.is_line) {
            (None, _) => [0; 2],
            (Some(&[length]), true) => [0, length],
            (Some(&[vertical, horizontal]), false) => [vertical, horizontal],
            (Some(_), _) => [-1; 2],
        };
        if found.iter().all(|pad| (0..=MAX_SIDE).contains(pad)) {
            return Ok(found.map(|pad| pad as usize));
        }
        Err(node.error("its output_padding does not fit its input"))
    }

    /// What a transposed convolution, whose window spreads the field over so many places, takes off their ends.
    pub fn transposed_padding(
        &self,
        node: &Node<'_>,
        window: &Window,
        over: [usize; 2],
    ) -> Result<[usize; 4]> {
        let mode = node.text("auto_pad", "NOTSET");
        let sides = match (self.pair(node, "output_shape")?, mode) {
            (Some(sides), _) => sides,
            (None, "NOTSET" | "") => return self.padding(node),
            (None, "VALID") => return Ok([0; 4]),
            (None, "SAME_UPPER" | "SAME_LOWER") => {
                std::array::from_fn(|axis| self.plane[axis].saturating_mul(window.stride[axis]))
            }
            (None, other) => {
                return Err(node.error(format_args!("auto_pad '{}' does not exist", shown(other))));
            }
        };
        let mut padding = [0; 4];
        for axis in 0..2 {
            let (less, more) = halves(
                over[axis]
                    .checked_sub(sides[axis])
                    .ok_or_else(|| node.error("its output is to be larger than its window can make it"))?,
            );
            let (before, after) = if mode == "SAME_UPPER" { (less, more) } else { (more, less) };
            (padding[axis], padding[axis + 2]) = (before, after);
        }
        Ok(padding)
    }

    /// How many places the window takes over it; `ceil` rounds up.
    pub fn places(&self, node: &Node<'_>, window: &Window, ceil: bool) -> Result<[usize; 2]> {
        window.places(self.plane, ceil).ok_or_else(|| {
            node.error(format_args!(
                "its window of {}×{} does not fit its input of {}×{}, padding included",
                window.kernel[0], window.kernel[1], self.plane[0], self.plane[1]
            ))
        })
    }

    /// The kernel that a pooling names.
    pub fn pool_kernel(&self, node: &Node<'_>) -> Result<[usize; 2]> {
        self.pair(node, "kernel_shape")?.ok_or_else(|| node.error("it gives no kernel_shape"))
    }
}

fn halves(total: usize) -> (usize, usize) {
    (total / 2, total - total / 2)
}

fn few(numbers: &[i64]) -> String {
    let dots = if numbers.len() > 8 { ", …" } else { "" };
    let first: Vec<String> = numbers.iter().take(8).map(i64::to_string).collect();
    format!("[{}{dots}]", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::{AttributeProto, NodeProto};
    use super::*;

    fn pool(attributes: &[(&str, &[i64])], auto_pad: &str) -> NodeProto {
        let ints = attributes.iter().map(|&(name, ints)| AttributeProto {
            name: name.into(),
            ints: ints.to_vec(),
            ..AttributeProto::default()
        });
        let pad = AttributeProto { name: "auto_pad".into(), s: auto_pad.into(), ..AttributeProto::default() };
        NodeProto {
            op_type: "MaxPool".into(),
            attribute: ints.chain([pad]).collect(),
            ..NodeProto::default()
        }
    }

    fn slide(proto: &NodeProto, plane: [usize; 2], ceil: bool) -> Result<([usize; 4], [usize; 2])> {
        let node = Node { proto, opset: 17 };
        let field = Field { channels: 1, plane, is_line: false };
        let window = field.window(&node, field.pool_kernel(&node)?)?;
        Ok((window.padding, field.places(&node, &window, ceil)?))
    }

    #[test]
    fn automatic_padding_follows_the_standard() {
        let even = |mode| pool(&[("kernel_shape", &[3, 2]), ("strides", &[2, 1])], mode);
        assert_eq!(slide(&even("SAME_UPPER"), [8, 8], false).unwrap(), ([0, 0, 1, 1], [4, 8]));
        assert_eq!(slide(&even("SAME_LOWER"), [8, 8], false).unwrap(), ([1, 1, 0, 0], [4, 8]));
        assert_eq!(slide(&even("VALID"), [8, 8], false).unwrap(), ([0; 4], [3, 7]));
    }

    #[test]
    fn ceil_leaves_out_a_place_that_lies_wholly_in_the_padding() {
        let plain = pool(&[("kernel_shape", &[2, 2]), ("strides", &[2, 2])], "");
        assert_eq!(slide(&plain, [5, 4], true).unwrap().1, [3, 2]);
        let padded = pool(&[("kernel_shape", &[2, 2]), ("strides", &[2, 2]), ("pads", &[1, 1, 1, 1])], "");
        assert_eq!(slide(&padded, [5, 5], true).unwrap().1, [3, 3]);
    }

    #[test]
    fn a_line_is_a_plane_of_height_one() {
        let node = pool(&[("kernel_shape", &[3]), ("strides", &[2]), ("pads", &[1, 0])], "");
        let node = Node { proto: &node, opset: 17 };
        let view = View { source: crate::model::Source::Input, shape: vec![1, 2, 8] };
        let field = Field::of(&node, &view).unwrap();
        assert_eq!(field.stored(), [2, 1, 8]);
        let window = field.window(&node, field.pool_kernel(&node).unwrap()).unwrap();
        assert_eq!((window.kernel, window.stride, window.padding), ([1, 3], [1, 2], [0, 1, 0, 0]));
        assert_eq!(field.places(&node, &window, false).unwrap(), [1, 4]);
        let cube = View { shape: vec![1, 2, 8, 8, 8], ..view };
        let refused = Field::of(&node, &cube).unwrap_err().to_string();
        assert!(refused.contains("a MaxPool over 3 dimensions"), "{refused}");
    }

    #[test]
    fn senseless_windows_are_errors() {
        let cases: &[&[(&str, &[i64])]] = &[
            &[],
            &[("kernel_shape", &[0, 2])],
            &[("kernel_shape", &[2])],
            &[("kernel_shape", &[9, 9])],
            &[("kernel_shape", &[2, 2]), ("strides", &[0, 1])],
            &[("kernel_shape", &[2, 2]), ("strides", &[i64::MAX, 1])],
            &[("kernel_shape", &[2, 2]), ("dilations", &[-1, 1])],
            &[("kernel_shape", &[2, 2]), ("pads", &[0, 0, 0, -1])],
            &[("kernel_shape", &[2, 2]), ("pads", &[0, 0])],
        ];
        for attributes in cases {
            assert!(slide(&pool(attributes, ""), [8, 8], false).is_err(), "{attributes:?}");
        }
    }
}
