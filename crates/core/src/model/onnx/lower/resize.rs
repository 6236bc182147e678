//! Resizing by interpolation, axis by axis: what each new place is made of is worked out here, for every mode alike.

use super::super::constant::Constant;
use super::super::node::{Node, shown};
use super::super::value::{Value, View};
use super::Lowering;
use super::window::MAX_ELEMENTS;
use crate::error::Result;
use crate::model::{Op, Tap};

/// A new place is made of so many old ones at most.
const MOST_TAPS: usize = 4;

/// How an axis is read.
struct Axis {
    from: usize,
    to: usize,
    /// New places per old one, in the precision in which ONNX Runtime counts.
    scale: f32,
}

/// `Resize` and the older `Upsample`.
pub fn resize<'a>(graph: &mut Lowering<'a>, node: &Node<'a>) -> Result<Value> {
    let mut view = graph.tensor(node, 0)?;
    if node.int("antialias", 0) != 0 {
        return Err(node.error("antialias is not supported"));
    }
    let axes = axes(graph, node, &view)?;
    for (place, axis) in axes.iter().enumerate().filter(|(_, axis)| axis.from != axis.to || axis.scale != 1.0)
    {
        graph.budget.take(axis.to.saturating_mul(MOST_TAPS)).map_err(|error| node.error(error))?;
        let taps = taps(node, axis)?;
        let mut shape = view.shape.clone();
        shape[place] = axis.to;
        let (source, skipped) = graph.along_axes(node, &view, place == 0)?;
        view = graph.push(node, Op::Resample { axis: place - skipped, taps }, vec![source], shape)?;
    }
    Ok(Value::Tensor(view))
}

/// Every axis of a tensor, as its new sides or its scales say.
fn axes(graph: &Lowering<'_>, node: &Node<'_>, view: &View) -> Result<Vec<Axis>> {
    let rank = view.shape.len();
    let named = match node.ints("axes") {
        Some(named) => named.iter().map(|&axis| node.axis(axis, rank)).collect::<Result<Vec<_>>>()?,
        None => (0..rank).collect(),
    };
    // Upsample up to opset 8 has an attribute, Resize from opset 11 on a region in front of the scales.
    let at = if node.op() == "Resize" && node.opset >= 11 { 2 } else { 1 };
    let given = |index: usize| Ok(graph.constant(node, index)?.filter(|held| held.len() > 0));
    let attribute = node.attribute("scales").map(|held| held.floats.clone());
    let scales = match (attribute, given(at)?) {
        (Some(scales), _) => Some(scales),
        (None, Some(Constant::Float(scales))) => Some(scales.data.clone()),
        _ => None,
    };
    let sizes = if at == 2 { given(3)? } else { None };
    let mut axes: Vec<Axis> =
        view.shape.iter().map(|&side| Axis { from: side, to: side, scale: 1.0 }).collect();
    let misfit = || node.error(format_args!("its scales or sizes do not fit an input of {:?}", view.shape));
    match (sizes, scales) {
        (Some(Constant::Int(sizes)), _) if sizes.data.len() == named.len() => {
            if node.text("keep_aspect_ratio_policy", "stretch") != "stretch" {
                return Err(
                    node.error("keep_aspect_ratio_policy is not supported; give the sides themselves")
                );
            }
            for (&place, &size) in std::iter::zip(&named, &sizes.data) {
                let axis = &mut axes[place];
                axis.to = usize::try_from(size)
                    .ok()
                    .filter(|size| (1..=MAX_ELEMENTS).contains(size))
                    .ok_or_else(misfit)?;
                axis.scale = axis.to as f32 / axis.from as f32;
            }
        }
        (None, Some(scales)) if scales.len() == named.len() => {
            for (&place, &scale) in std::iter::zip(&named, &scales) {
                let axis = &mut axes[place];
                let to = (axis.from as f32 * scale).floor();
                if !(1.0..=MAX_ELEMENTS as f32).contains(&to) {
                    return Err(misfit());
                }
                (axis.to, axis.scale) = (to as usize, scale);
            }
        }
        _ => return Err(misfit()),
    }
    Ok(axes)
}

/// What each new place of an axis is made of.
fn taps(node: &Node<'_>, axis: &Axis) -> Result<Vec<Tap>> {
    let old = node.op() == "Upsample" || node.opset < 11;
    let coordinates =
        if old { "asymmetric" } else { node.text("coordinate_transformation_mode", "half_pixel") };
    let places = (0..axis.to).map(|place| coordinate(coordinates, axis, place)).collect::<Option<Vec<f32>>>();
    let places = places.ok_or_else(|| {
        node.error(format_args!("coordinate_transformation_mode '{}' is not supported", shown(coordinates)))
    })?;
    match node.text("mode", "nearest") {
        "nearest" => {
            let rounding = match (old, axis.scale < 1.0) {
                (true, true) => "ceil",
                (true, false) => "floor",
                _ => node.text("nearest_mode", "round_prefer_floor"),
            };
            nearest(rounding, axis, &places)
                .ok_or_else(|| node.error(format_args!("nearest_mode '{}' does not exist", shown(rounding))))
        }
        "linear" | "bilinear" => Ok(linear(axis, &places)),
        "cubic" => {
            Ok(cubic(axis, &places, node.float("cubic_coeff_a", -0.75), node.int("exclude_outside", 0) != 0))
        }
        other => Err(node.error(format_args!("mode '{}' is not supported", shown(other)))),
    }
}

/// Where a new place lies among the old ones; `None` in a way that is not supported.
fn coordinate(mode: &str, axis: &Axis, place: usize) -> Option<f32> {
    let (from, to, place) = (axis.from as f32, axis.to as f32, place as f32);
    let half_pixel = (place + 0.5) / axis.scale - 0.5;
    Some(match mode {
        "half_pixel" => half_pixel,
        "half_pixel_symmetric" => from / 2.0 * (1.0 - to / (axis.scale * from)) + half_pixel,
        "pytorch_half_pixel" => {
            if axis.to > 1 {
                half_pixel
            } else {
                0.0
            }
        }
        "align_corners" => {
            if axis.to > 1 {
                place * (from - 1.0) / (to - 1.0)
            } else {
                0.0
            }
        }
        "asymmetric" => place / axis.scale,
        _ => return None,
    })
}

fn kept(place: f32, axis: &Axis) -> usize {
    place.clamp(0.0, (axis.from - 1) as f32) as usize
}

fn nearest(rounding: &str, axis: &Axis, places: &[f32]) -> Option<Vec<Tap>> {
    let round = |place: f32| {
        Some(match rounding {
            "round_prefer_floor" => (place - 0.5).ceil(),
            "round_prefer_ceil" => (place + 0.5).floor(),
            "floor" => place.floor(),
            "ceil" => place.ceil(),
            _ => return None,
        })
    };
    let places =
        places.iter().map(|&place| round(place).map(|place| kept(place, axis))).collect::<Option<_>>()?;
    Some(vec![Tap { places, weights: None }])
}

fn linear(axis: &Axis, places: &[f32]) -> Vec<Tap> {
    let inside: Vec<f32> = places.iter().map(|place| place.clamp(0.0, (axis.from - 1) as f32)).collect();
    let share = |place: &f32| place - place.floor();
    vec![
        Tap {
            places: inside.iter().map(|place| kept(place.floor(), axis)).collect(),
            weights: Some(inside.iter().map(|place| 1.0 - share(place)).collect()),
        },
        Tap {
            places: inside.iter().map(|place| kept(place.floor() + 1.0, axis)).collect(),
            weights: Some(inside.iter().map(share).collect()),
        },
    ]
}

/// Keys' cubic convolution with this coefficient, over four places.
fn cubic(axis: &Axis, places: &[f32], a: f32, exclude_outside: bool) -> Vec<Tap> {
    let weight = |distance: f32| {
        let d = distance.abs();
        if d <= 1.0 {
            ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
        } else {
            ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
        }
    };
    let offsets: [f32; MOST_TAPS] = [-1.0, 0.0, 1.0, 2.0];
    let weights_of = |place: f32| {
        let mut weights = offsets.map(|offset| weight(place - (place.floor() + offset)));
        if exclude_outside {
            let is_outside = |offset: f32| !(0.0..axis.from as f32).contains(&(place.floor() + offset));
            for (weight, offset) in std::iter::zip(&mut weights, offsets) {
                *weight = if is_outside(offset) { 0.0 } else { *weight };
            }
            let total: f32 = weights.iter().sum();
            weights = weights.map(|weight| weight / total);
        }
        weights
    };
    let all: Vec<[f32; MOST_TAPS]> = places.iter().map(|&place| weights_of(place)).collect();
    let tap = |at: usize| Tap {
        places: places.iter().map(|place| kept(place.floor() + offsets[at], axis)).collect(),
        weights: Some(all.iter().map(|weights| weights[at]).collect()),
    };
    (0..MOST_TAPS).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_of(taps: &[Tap], place: usize) -> Vec<(usize, f32)> {
        let part =
            |tap: &Tap| (tap.places[place], tap.weights.as_ref().map_or(1.0, |weights| weights[place]));
        taps.iter().map(part).filter(|&(_, weight)| weight != 0.0).collect()
    }

    #[test]
    fn twice_as_many_places_lie_a_quarter_beside_the_old_ones() {
        let axis = Axis { from: 3, to: 6, scale: 2.0 };
        let places: Vec<f32> = (0..6).map(|place| coordinate("half_pixel", &axis, place).unwrap()).collect();
        assert_eq!(places, [-0.25, 0.25, 0.75, 1.25, 1.75, 2.25]);
        let near = nearest("round_prefer_floor", &axis, &places).unwrap();
        assert_eq!(near[0].places, [0, 0, 1, 1, 2, 2]);
        let line = linear(&axis, &places);
        assert_eq!(made_of(&line, 0), [(0, 1.0)]);
        assert_eq!(made_of(&line, 2), [(0, 0.25), (1, 0.75)]);
        assert_eq!(made_of(&line, 5), [(2, 1.0)]);
        for exclude in [false, true] {
            for place in 0..6 {
                let total: f32 =
                    made_of(&cubic(&axis, &places, -0.75, exclude), place).iter().map(|part| part.1).sum();
                assert!((total - 1.0).abs() < 1e-6, "{place}: {total}");
            }
        }
    }

    #[test]
    fn corners_stay_where_they_are_to_be_aligned() {
        let axis = Axis { from: 3, to: 5, scale: 5.0 / 3.0 };
        let ends = [0, 4].map(|place| coordinate("align_corners", &axis, place).unwrap());
        assert_eq!(ends, [0.0, 2.0]);
        assert_eq!(coordinate("tf_crop_and_resize", &axis, 0), None);
    }
}
