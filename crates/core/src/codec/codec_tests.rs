//! What holds for every encoding, tested through the codec.

use proptest::prelude::*;

use super::name::tests::all;
use super::*;
use crate::model::Shape;

/// Frontiers of small tensors of any rank with values from a strategy.
fn frontiers(
    value: impl Strategy<Value = f32> + 'static,
) -> impl Strategy<Value = (Vec<TensorSpec>, Vec<Vec<f32>>)> {
    let value = value.boxed();
    let shape = prop_oneof![
        (0..40_usize).prop_map(|n| vec![n]),
        (0..12_usize, 0..5_usize, 0..9_usize).prop_map(|(c, h, w)| vec![c, h, w]),
        (0..3_usize).prop_map(|c| vec![c, 8, 8]),
    ];
    let tensor = shape.prop_flat_map(move |sides| {
        let spec = TensorSpec::of(&Shape(sides)).unwrap();
        (Just(spec), prop::collection::vec(value.clone(), spec.values()))
    });
    prop::collection::vec(tensor, 0..4).prop_map(|tensors| tensors.into_iter().unzip())
}

fn any_value() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => Just(0.0),
        4 => -10.0_f32..10.0,
        1 => any::<u32>().prop_map(f32::from_bits),
    ]
}

fn encodings() -> impl Strategy<Value = Encoding> {
    prop::sample::select(all())
}

fn refs(tensors: &[Vec<f32>]) -> Vec<&[f32]> {
    tensors.iter().map(Vec::as_slice).collect()
}

/// A calibration on this frontier alone.
fn calibrated(encoding: Encoding, specs: &[TensorSpec], tensors: &[Vec<f32>]) -> Calibration {
    let mut calibrator = Calibrator::new(specs);
    calibrator.feed(&refs(tensors));
    calibrator.finish(&[encoding])
}

fn codec(encoding: Encoding, specs: &[TensorSpec], tensors: &[Vec<f32>]) -> Codec {
    Codec::new(encoding, specs, Some(&calibrated(encoding, specs, tensors))).unwrap()
}

fn round_trip(encoding: Encoding, specs: &[TensorSpec], tensors: &[Vec<f32>]) -> Vec<Vec<f32>> {
    let (mut sender, mut receiver) = (codec(encoding, specs, tensors), codec(encoding, specs, tensors));
    let mut payload = vec![1, 2, 3];
    sender.encode(&refs(tensors), &mut payload).unwrap();
    assert!(payload.len() <= receiver.max_payload_bytes(), "{encoding}");
    let mut out = vec![Vec::new(); specs.len()];
    receiver.decode(&payload, &mut out).unwrap();
    out
}

fn bits_of(tensors: &[Vec<f32>]) -> Vec<Vec<u32>> {
    tensors.iter().map(|tensor| tensor.iter().map(|value| value.to_bits()).collect()).collect()
}

/// Half of the span between neighbouring codes, and what rounding may add at the greatest magnitude.
fn tolerance(values: &[f32], bits: u8, coarse: bool) -> f32 {
    let min = values.iter().copied().fold(f32::INFINITY, f32::min);
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let magnitude = min.abs().max(max.abs());
    let width = if coarse { (max - min + magnitude / 128.0) * 1.01 } else { max - min };
    let step = width / f32::from((1_u16 << bits) - 1);
    step / 2.0 * 1.0001 + magnitude * 2.0 * f32::EPSILON + 256.0 * f32::MIN_POSITIVE
}

proptest! {
    // Every case builds compressors anew, which takes most of its time.
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_is_called_lossless_keeps_every_bit(
        (specs, tensors) in frontiers(any::<u32>().prop_map(f32::from_bits)),
        pixels in frontiers(any::<u8>().prop_map(f32::from)),
        encoding in prop::sample::select(all().into_iter().filter(Encoding::is_lossless).collect::<Vec<_>>()),
    ) {
        let (specs, tensors) = if encoding.element == Element::Pixels { pixels } else { (specs, tensors) };
        prop_assert_eq!(bits_of(&round_trip(encoding, &specs, &tensors)), bits_of(&tensors));
    }

    #[test]
    fn a_coder_changes_no_answer((specs, tensors) in frontiers(any_value()), encoding in encodings()) {
        let plain = round_trip(encoding.without_coder(), &specs, &tensors);
        prop_assert_eq!(bits_of(&round_trip(encoding, &specs, &tensors)), bits_of(&plain));
    }

    #[test]
    fn quantized_values_are_at_most_half_a_step_off(
        (specs, tensors) in frontiers(prop_oneof![Just(0.0), -10.0_f32..10.0, -1e30_f32..1e30, 1e6_f32..1.001e6]),
        bits in prop::sample::select(Quantization::BITS.to_vec()),
        per_channel in any::<bool>(),
    ) {
        let element = Element::Quantized(Quantization { bits, per_channel, clipped: false });
        let back = round_trip(Encoding::plain(element), &specs, &tensors);
        for ((spec, tensor), back) in specs.iter().zip(&tensors).zip(&back) {
            let by_channel = per_channel && spec.channel_values() > 1;
            let group = if by_channel { spec.channel_values() } else { tensor.len() }.max(1);
            let coarse = by_channel && spec.channels() > 1;
            for (values, read) in tensor.chunks(group).zip(back.chunks(group)) {
                let tolerance = tolerance(values, bits, coarse);
                for (value, read) in values.iter().zip(read) {
                    prop_assert!((value - read).abs() <= tolerance, "{} {} {}", value, read, tolerance);
                }
            }
        }
    }

    #[test]
    fn quantized_values_of_any_state_come_back_finite(
        (specs, tensors) in frontiers(any::<u32>().prop_map(f32::from_bits)),
        encoding in encodings(),
    ) {
        let back = round_trip(encoding, &specs, &tensors);
        let bounded = matches!(encoding.element, Element::Quantized(_) | Element::Jpeg(_) | Element::Pixels);
        prop_assert!(!bounded || back.iter().flatten().all(|value| value.is_finite()));
    }

    #[test]
    fn clipped_values_stay_within_the_calibrated_range(
        (specs, seen) in frontiers(-10.0_f32..10.0),
        bits in prop::sample::select(Quantization::BITS.to_vec()),
        per_channel in any::<bool>(),
    ) {
        let encoding = Encoding::plain(Element::Quantized(Quantization { bits, per_channel, clipped: true }));
        let calibration = calibrated(encoding, &specs, &seen);
        let mut codec = Codec::new(encoding, &specs, Some(&calibration)).unwrap();
        let wild: Vec<Vec<f32>> = seen.iter().map(|values| values.iter().map(|value| value * 100.0).collect()).collect();
        let (mut payload, mut out) = (Vec::new(), vec![Vec::new(); specs.len()]);
        codec.encode(&refs(&wild), &mut payload).unwrap();
        codec.decode(&payload, &mut out).unwrap();
        for ((back, spec), known) in out.iter().zip(&specs).zip(&calibration.tensors) {
            for (channel, values) in back.chunks(spec.channel_values().max(1)).enumerate() {
                let ranges = known.ranges_for(bits, per_channel).unwrap();
                let [min, max] = ranges[if per_channel { channel } else { 0 }];
                prop_assert!(values.iter().all(|v| (min..=max + (max - min) * 1e-5).contains(v)));
            }
        }
    }

    #[test]
    fn pruned_channels_come_back_as_their_means((specs, tensors) in frontiers(-10.0_f32..10.0), percent in 1_u8..100) {
        let encoding = Encoding { kept_percent: Some(percent), ..Encoding::plain(Element::F32) };
        let known = calibrated(encoding, &specs, &tensors);
        let back = round_trip(encoding, &specs, &tensors);
        for (i, (spec, known)) in specs.iter().zip(&known.tensors).enumerate() {
            let kept = (spec.channels() * usize::from(percent)).div_ceil(100);
            for (rank, &channel) in known.channels_by_importance.iter().enumerate() {
                let place = channel as usize * spec.channel_values()..(channel as usize + 1) * spec.channel_values();
                let mean = known.channel_means[channel as usize];
                let expected = if rank < kept { tensors[i][place.clone()].to_vec() } else { vec![mean; place.len()] };
                prop_assert_eq!(&back[i][place], &expected[..]);
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_are_refused(
        payload in prop::collection::vec(any::<u8>(), 0..200),
        (specs, tensors) in frontiers(any_value()),
        encoding in encodings(),
    ) {
        let mut out = vec![Vec::new(); specs.len()];
        let _ = codec(encoding, &specs, &tensors).decode(&payload, &mut out);
        prop_assert!(out.iter().zip(&specs).all(|(tensor, spec)| tensor.len() <= spec.values()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn damaged_payloads_decode_or_are_refused(
        (specs, tensors) in frontiers(any_value()),
        damages in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..4),
    ) {
        for encoding in all() {
            let mut codec = codec(encoding, &specs, &tensors);
            let mut payload = Vec::new();
            codec.encode(&refs(&tensors), &mut payload).unwrap();
            for (at, byte, how) in &damages {
                let at = at.index(payload.len() + 1);
                match how {
                    0 => payload.truncate(at),
                    1 => payload.insert(at, *byte),
                    _ => payload.iter_mut().skip(at).take(1).for_each(|old| *old = *byte),
                }
            }
            let mut out = vec![Vec::new(); specs.len()];
            let read = codec.decode(&payload, &mut out);
            prop_assert!(read.is_err() || out.iter().zip(&specs).all(|(o, spec)| o.len() == spec.values()));
            prop_assert!(out.iter().zip(&specs).all(|(o, spec)| o.capacity() <= 2 * spec.values().max(4)));
        }
    }
}

/// Half zeros, like what a rectifier leaves, different in every frame.
fn rectified(spec: TensorSpec, frame: u32) -> Vec<f32> {
    let mut state = frame + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..spec.values()).map(|_| ((0..4).map(|_| next()).sum::<f32>() - 2.0).max(0.0)).collect()
}

fn shapes() -> [TensorSpec; 3] {
    [vec![16, 8, 8], vec![6, 7, 7], vec![100]].map(|sides| TensorSpec::of(&Shape(sides)).unwrap())
}

#[test]
fn payloads_have_the_documented_size() {
    let specs = [vec![5], vec![0], vec![2, 3, 3]].map(|sides| TensorSpec::of(&Shape(sides)).unwrap());
    let tensors: Vec<Vec<f32>> = specs.iter().map(|spec| rectified(*spec, 0)).collect();
    let sizes = [
        ("f32", 92),
        ("f16", 46),
        ("bf16", 46),
        ("pixels", 23),
        ("q8", 47),
        ("q6", 42),
        ("q4", 36),
        ("q3", 33),
        ("q2", 31),
        ("q4c", 36),
        ("q4k", 12),
        ("q4ck", 12),
        ("prune50", 48),
        ("prune50-q4k", 7),
    ];
    for (name, size) in sizes {
        let mut payload = vec![9; 100];
        let mut codec = codec(name.parse().unwrap(), &specs, &tensors);
        codec.encode(&refs(&tensors), &mut payload).unwrap();
        assert_eq!((payload.len(), codec.max_payload_bytes()), (size, size), "{name}");
    }
}

#[test]
fn corner_cases_are_as_documented() {
    let q8 = |values: &[f32]| {
        let specs = [TensorSpec::flat(values.len() as u32)];
        round_trip("q8".parse().unwrap(), &specs, &[values.to_vec()]).remove(0)
    };
    let limit = f32::from_bits((126 + 127) << 23);
    assert!(q8(&[]).is_empty());
    assert_eq!(q8(&[-1.5]), [-1.5]);
    assert_eq!(q8(&[2.5; 20]), [2.5; 20]);
    let mixed = [f32::NAN, -1.0, f32::INFINITY, 254.0, f32::NEG_INFINITY];
    assert_eq!(q8(&mixed), [-1.0, -1.0, 254.0, 254.0, -1.0]);
    assert_eq!(q8(&mixed.repeat(20)), [-1.0, -1.0, 254.0, 254.0, -1.0].repeat(20));
    assert_eq!(q8(&[f32::NAN, f32::INFINITY]), [0.0, 0.0]);
    assert_eq!(q8(&[f32::NAN; 33]), [0.0; 33]);
    assert_eq!(q8(&[f32::MIN, f32::MAX].repeat(40)), [-limit, limit].repeat(40));
    assert_eq!(q8(&[0.0, f32::from_bits(300)]), [0.0, 0.0]);
    // In every lane and behind the last full group.
    for at in 0..100 {
        let mut values = vec![0.0; 100];
        values[at] = -255.0;
        assert_eq!(q8(&values), values);
        values[at] = 255.0;
        assert_eq!(q8(&values), values);
    }
}

#[test]
fn pixels_and_halves_round_as_documented() {
    let of = |name: &str, values: &[f32]| {
        let specs = [TensorSpec::flat(values.len() as u32)];
        round_trip(name.parse().unwrap(), &specs, &[values.to_vec()]).remove(0)
    };
    let odd = [-3.0, 300.0, 1.4, 1.6, f32::NAN, f32::INFINITY, f32::NEG_INFINITY].repeat(9);
    assert_eq!(of("pixels", &odd), [0.0, 255.0, 1.0, 2.0, 0.0, 255.0, 0.0].repeat(9));
    let values = [1.0, -0.0, 2049.0, 2051.0, 65_519.0, 65_520.0, f32::NEG_INFINITY];
    let expected = [1.0, -0.0, 2048.0, 2052.0, 65_504.0, f32::INFINITY, f32::NEG_INFINITY];
    assert_eq!(of("f16", &values), expected);
    assert_eq!(of("bf16", &[1.0, 257.0, 259.0, f32::MAX]), [1.0, 256.0, 260.0, f32::INFINITY]);
    assert!(of("f16", &[f32::NAN])[0].is_nan() && of("bf16", &[f32::NAN])[0].is_nan());
}

#[test]
fn payloads_of_another_length_are_refused() {
    let specs = shapes();
    let tensors: Vec<Vec<f32>> = specs.iter().map(|spec| rectified(*spec, 0)).collect();
    for encoding in all() {
        let mut codec = codec(encoding, &specs, &tensors);
        let mut payload = Vec::new();
        codec.encode(&refs(&tensors), &mut payload).unwrap();
        let mut out = vec![Vec::new(); specs.len()];
        assert!(codec.decode(&payload[..payload.len() - 1], &mut out).is_err(), "{encoding}");
        assert!(codec.decode(&[&payload[..], &[0]].concat(), &mut out).is_err(), "{encoding}");
        assert!(codec.decode(&[], &mut out).is_err(), "{encoding}");
        assert!(codec.decode(&vec![0; codec.max_payload_bytes() + 1], &mut out).is_err(), "{encoding}");
        assert!(codec.decode(&payload, &mut out).is_ok(), "{encoding}");
    }
}

#[test]
fn steady_frames_allocate_nothing() {
    let specs = shapes();
    let frames: Vec<Vec<Vec<f32>>> =
        (0..4).map(|frame| specs.iter().map(|spec| rectified(*spec, frame)).collect()).collect();
    let frames: Vec<Vec<&[f32]>> = frames.iter().map(|frame| refs(frame)).collect();
    // The libraries for pictures take memory for each.
    let is_picture =
        |encoding: &Encoding| matches!(encoding.element, Element::Jpeg(_)) || encoding.coder == Coder::Png;
    for encoding in all().into_iter().filter(|encoding| !is_picture(encoding)) {
        let calibration = {
            let mut calibrator = Calibrator::new(&specs);
            calibrator.feed(&frames[0]);
            calibrator.finish(&[encoding])
        };
        let mut codec = Codec::new(encoding, &specs, Some(&calibration)).unwrap();
        let (mut payload, mut out) = (Vec::new(), vec![Vec::new(); specs.len()]);
        let mut run = |frame: &[&[f32]]| {
            codec.encode(frame, &mut payload).unwrap();
            codec.decode(&payload, &mut out).unwrap();
        };
        run(&frames[0]);
        let steady = allocation_counter::measure(|| frames.iter().for_each(|frame| run(frame)));
        assert_eq!(steady.count_total, 0, "{encoding}");
    }
}

#[test]
fn a_calibration_is_asked_for_only_where_it_is_needed() {
    for encoding in all() {
        let without = Codec::new(encoding, &shapes(), None);
        assert_eq!(without.is_err(), encoding.needs_calibration(), "{encoding}");
        if let Err(error) = without {
            assert!(error.to_string().contains("needs a calibration"), "{error}");
        }
    }
    let nameless = Encoding { coder: Coder::Huffman, ..Encoding::plain(Element::F32) };
    assert!(Codec::new(nameless, &shapes(), None).is_err());
}
