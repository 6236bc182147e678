//! The windows of convolutions and poolings: read, checked, and slid over a plane.

use super::super::node::{Node, shown};
use super::super::value::View;
use crate::error::Result;
use crate::model::Window;

/// The largest number of values in a tensor of one sample; beyond it lies no image network, only a broken file.
pub const MAX_ELEMENTS: usize = 1 << 28;

/// The largest kernel side, stride, padding and dilation: small enough that no product below overflows.
const MAX_SIDE: i64 = 1 << 20;

/// Channels, height and width of what a node slides its window over.
pub fn plane(node: &Node<'_>, view: &View) -> Result<[usize; 3]> {
    match *view.shape.as_slice() {
        [1, channels, height, width] => Ok([channels, height, width]),
        _ => Err(node.error(format_args!(
            "expected an input of [batch, channels, height, width], found {:?} for a batch of 1; only 2-D is supported",
            view.shape
        ))),
    }
}

/// The window that a node slides over a plane of `[height, width]`, its automatic padding worked out.
pub fn window(node: &Node<'_>, kernel: [usize; 2], plane: [usize; 2]) -> Result<Window> {
    let stride = pair(node, "strides")?.unwrap_or([1; 2]);
    let dilation = pair(node, "dilations")?.unwrap_or([1; 2]);
    let mut window = Window { kernel, stride, padding: [0; 4], dilation };
    match node.text("auto_pad", "NOTSET") {
        "NOTSET" | "" => window.padding = padding(node)?,
        "VALID" => {}
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            for axis in 0..2 {
                let places = plane[axis].div_ceil(stride[axis]);
                let needed = places.saturating_sub(1) * stride[axis] + window.extent(axis);
                let (less, more) = halves(needed.saturating_sub(plane[axis]));
                let (before, after) = if mode == "SAME_UPPER" { (less, more) } else { (more, less) };
                (window.padding[axis], window.padding[axis + 2]) = (before, after);
            }
        }
        other => {
            return Err(node.error(format_args!("auto_pad '{}' does not exist", shown(other))));
        }
    }
    Ok(window)
}

/// How many places the window takes over a plane of `[height, width]`; `ceil` rounds up.
pub fn places(node: &Node<'_>, window: &Window, plane: [usize; 2], ceil: bool) -> Result<[usize; 2]> {
    window.places(plane, ceil).ok_or_else(|| {
        node.error(format_args!(
            "its window of {}×{} does not fit its input of {}×{}, padding included",
            window.kernel[0], window.kernel[1], plane[0], plane[1]
        ))
    })
}

/// Errors unless the padded input stays within what a runtime can hold.
pub fn check_padded(node: &Node<'_>, window: &Window, [channels, height, width]: [usize; 3]) -> Result<()> {
    let [top, left, bottom, right] = window.padding;
    let padded = (height + top + bottom).checked_mul(width + left + right);
    match padded.and_then(|plane| plane.checked_mul(channels)) {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(()),
        _ => Err(node.error(format_args!("its padded input would hold over {MAX_ELEMENTS} values"))),
    }
}

/// The kernel that a pooling names.
pub fn pool_kernel(node: &Node<'_>) -> Result<[usize; 2]> {
    pair(node, "kernel_shape")?.ok_or_else(|| node.error("it gives no kernel_shape"))
}

fn halves(total: usize) -> (usize, usize) {
    (total / 2, total - total / 2)
}

/// Two positive numbers, if the attribute is given.
pub fn pair(node: &Node<'_>, name: &str) -> Result<Option<[usize; 2]>> {
    match node.ints(name) {
        None => Ok(None),
        Some(&[vertical, horizontal])
            if [vertical, horizontal].iter().all(|side| (1..=MAX_SIDE).contains(side)) =>
        {
            Ok(Some([vertical as usize, horizontal as usize]))
        }
        Some(found) => Err(node.error(format_args!(
            "expected {name} to be two numbers from 1 to {MAX_SIDE} (only 2-D is supported), found {}",
            few(found)
        ))),
    }
}

fn padding(node: &Node<'_>) -> Result<[usize; 4]> {
    match node.ints("pads") {
        None => Ok([0; 4]),
        Some(&[top, left, bottom, right])
            if [top, left, bottom, right].iter().all(|pad| (0..=MAX_SIDE).contains(pad)) =>
        {
            Ok([top, left, bottom, right].map(|pad| pad as usize))
        }
        Some(found) => Err(node.error(format_args!(
            "expected pads to be four numbers from 0 to {MAX_SIDE} (only 2-D is supported), found {}",
            few(found)
        ))),
    }
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
        let window = window(&node, pool_kernel(&node)?, plane)?;
        let places = places(&node, &window, plane, ceil)?;
        Ok((window.padding, places))
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
