//! Our own convolutions answer as libtorch's.

use tch::{Device, Kind, Tensor};

use super::*;
use crate::kernel::activation::applied;

struct Case {
    channels: usize,
    outputs: usize,
    groups: usize,
    size: [usize; 2],
    window: Window,
}

fn window(kernel: [usize; 2], stride: usize, padding: [usize; 4], dilation: usize) -> Window {
    Window { kernel, stride: [stride; 2], padding, dilation: [dilation; 2] }
}

/// Whole and broken vectors and tiles, planes of few and many places, every kind of window.
fn cases() -> Vec<Case> {
    let single = || window([1, 1], 1, [0; 4], 1);
    let case = |channels, outputs, groups, size, window| Case { channels, outputs, groups, size, window };
    vec![
        case(8, 16, 1, [9, 7], window([3, 3], 1, [1; 4], 1)),
        case(3, 10, 1, [11, 6], window([3, 5], 2, [0, 2, 1, 1], 1)),
        case(5, 37, 1, [8, 8], window([3, 3], 1, [2; 4], 2)),
        case(40, 24, 1, [13, 13], single()),
        case(64, 130, 1, [1, 1], single()),
        case(24, 48, 3, [7, 5], window([3, 3], 1, [1; 4], 1)),
        case(12, 6, 6, [4, 4], window([2, 2], 2, [0; 4], 1)),
        case(58, 58, 58, [6, 9], window([3, 3], 2, [1; 4], 1)),
        case(16, 16, 16, [7, 7], window([5, 5], 1, [2; 4], 1)),
        case(100, 100, 100, [3, 3], window([7, 7], 1, [3; 4], 1)),
        case(300, 70, 1, [20, 20], window([3, 3], 1, [1; 4], 1)),
    ]
}

fn random(size: &[i64]) -> Tensor {
    Tensor::randn(size, (Kind::Float, Device::Cpu))
}

fn weights(tensor: &Tensor) -> Arc<Weights> {
    let mut data = vec![0.0; tensor.numel()];
    tensor.copy_data(&mut data, tensor.numel());
    let shape = tensor.size().iter().map(|&side| side as usize).collect();
    Arc::new(Weights { shape, data })
}

fn assert_close(found: &Tensor, expected: &Tensor) {
    assert_eq!(found.size(), expected.size());
    let off = (found - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]).max(1.0);
    assert!(off < 1e-5 * scale, "off by {off} of {scale}");
}

impl Case {
    fn input(&self) -> Tensor {
        random(&[1, self.channels as i64, self.size[0] as i64, self.size[1] as i64])
    }

    fn weight(&self) -> Tensor {
        let [height, width] = self.window.kernel.map(|side| side as i64);
        random(&[self.outputs as i64, (self.channels / self.groups) as i64, height, width])
    }

    fn direct(&self, weight: &Tensor, bias: &Tensor) -> Direct {
        let shape = Shape(vec![self.channels, self.size[0], self.size[1]]);
        Direct::conv(&weights(weight), &Some(weights(bias)), &self.window, self.groups, &shape).unwrap()
    }

    fn expected(&self, input: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let [top, left, bottom, right] = self.window.padding.map(|side| side as i64);
        let input = input.constant_pad_nd([left, right, top, bottom]);
        let long = |pair: [usize; 2]| pair.map(|side| side as i64);
        let (stride, dilation) = (long(self.window.stride), long(self.window.dilation));
        input.conv2d(weight, Some(bias), stride, [0, 0], dilation, self.groups as i64)
    }
}

#[test]
fn convolutions_answer_as_libtorchs() {
    for case in cases() {
        let (input, weight, bias) = (case.input(), case.weight(), random(&[case.outputs as i64]));
        let expected = case.expected(&input, &weight, &bias);
        let mut direct = case.direct(&weight, &bias);
        assert_close(&direct.run(&input, None).unwrap(), &expected);

        let summand = random(&expected.size());
        assert_eq!(direct.take_in(Some(Activation::Relu)), None);
        assert_close(&direct.run(&input, Some(&summand)).unwrap(), &(&expected + &summand).relu());
    }
}

#[test]
fn pools_answer_as_libtorchs() {
    let windows = [
        (window([3, 3], 1, [1; 4], 1), false),
        (window([3, 3], 2, [0; 4], 1), true),
        (window([2, 2], 2, [0, 1, 0, 1], 1), false),
        (window([5, 3], 1, [2, 1, 2, 1], 1), false),
        (window([3, 3], 1, [1; 4], 2), false),
        (window([3, 3], 1, [1; 4], 1), false),
        (window([1, 7], 1, [0, 3, 0, 3], 1), false),
    ];
    let sizes = [(3, 8), (8, 8), (40, 8), (64, 8), (70, 8), (5, 1), (9, 1)];
    for ((window, ceil), (channels, height)) in std::iter::zip(windows, sizes) {
        let input = random(&[1, channels, height, 7]);
        let shape = Shape(vec![channels as usize, height as usize, 7]);
        let direct = Direct::max_pool(&window, ceil, &shape).unwrap();
        let long = |pair: [usize; 2]| pair.map(|side| side as i64);
        let padding = [window.padding[0] as i64, window.padding[1] as i64];
        let (kernel, stride, dilation) = (long(window.kernel), long(window.stride), long(window.dilation));
        let expected = input.max_pool2d(kernel, stride, padding, dilation, ceil);
        assert_eq!(direct.run(&input, None).unwrap(), expected, "{window:?}");

        let mean = Direct::global_mean(&shape).unwrap();
        assert_close(&mean.run(&input, None).unwrap(), &input.mean_dim([2i64, 3].as_slice(), true, None));
    }
}

#[test]
fn large_tables_are_not_made() {
    let shape = Shape(vec![1, 2048, 2048]);
    assert!(Direct::max_pool(&window([2, 2], 1, [0; 4], 1), false, &shape).is_none());
    assert!(Direct::max_pool(&window([9, 9], 1, [0; 4], 1), false, &Shape(vec![1, 8, 8])).is_none());
}

#[test]
fn inputs_may_lie_in_any_order_and_with_gaps() {
    let case = &cases()[0];
    let (weight, bias) = (case.weight(), random(&[case.outputs as i64]));
    let direct = case.direct(&weight, &bias);
    let wide = random(&[1, 9, 7, 20]).permute([0, 3, 1, 2]);
    let tall = random(&[1, 12, 7, 8]).permute([0, 3, 1, 2]);
    let reversed = random(&[1, 8, 7, 9]).permute([0, 1, 3, 2]);
    for input in [wide.narrow(1, 5, 8), tall.narrow(2, 2, 9), reversed] {
        assert_close(&direct.run(&input, None).unwrap(), &case.expected(&input, &weight, &bias));
    }
}

#[test]
fn functions_answer_as_libtorchs_and_others_are_left() {
    let case = &cases()[0];
    let (input, weight, bias) = (case.input(), case.weight(), random(&[case.outputs as i64]));
    let plain = case.expected(&input, &weight, &bias);
    let functions = [
        Activation::Relu,
        Activation::Clip { least: -0.5, most: 1.0 },
        Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 },
        Activation::HardSwish,
        Activation::Sigmoid,
        Activation::Silu,
    ];
    for function in functions {
        let mut direct = case.direct(&weight, &bias);
        assert_eq!(direct.take_in(Some(function)), None, "{function:?} is fused");
        assert_close(&direct.run(&input, None).unwrap(), &applied(function, &plain).unwrap());
    }
    let mut direct = case.direct(&weight, &bias);
    assert_eq!(direct.take_in(Some(Activation::Tanh)), Some(Activation::Tanh));
    assert_eq!(direct.take_in(None), None);
}

#[test]
fn sigmoids_are_exact_to_the_last_places() {
    let values: Vec<f32> = (-20_000..=20_000).map(|step| step as f32 / 100.0).collect();
    let input = Tensor::from_slice(&values).view([1, -1, 1, 1]);
    let one = Arc::new(Weights { shape: vec![values.len(), 1, 1, 1], data: vec![1.0; values.len()] });
    let shape = Shape(vec![values.len(), 1, 1]);
    let single = window([1, 1], 1, [0; 4], 1);
    let mut direct = Direct::conv(&one, &None, &single, values.len(), &shape).unwrap();
    assert_eq!(direct.take_in(Some(Activation::Sigmoid)), None);
    let found = weights(&direct.run(&input, None).unwrap());
    for (&value, &found) in std::iter::zip(&values, &found.data) {
        let exact = 1.0 / (1.0 + f64::from(-value).exp());
        let off = (f64::from(found) - exact).abs();
        assert!(off <= 3e-7 * exact + 1e-37, "{value}: {found} for {exact}");
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let case = &cases()[0];
    for function in [Activation::Relu, Activation::HardSwish, Activation::Silu] {
        let mut direct = case.direct(&case.weight(), &random(&[case.outputs as i64]));
        direct.take_in(Some(function));
        let output = direct.run(&case.input().fill(f64::NAN), None).unwrap();
        assert!(bool::try_from(output.isnan().all()).unwrap(), "{function:?}");
    }
}

#[test]
fn fully_connected_layers_answer_as_libtorchs() {
    for (rows, inputs, outputs) in [(1, 448, 10), (1, 70, 33), (197, 24, 100)] {
        let (input, weight, bias) = (random(&[rows, inputs]), random(&[outputs, inputs]), random(&[outputs]));
        let direct = Direct::linear(&weights(&weight), &Some(weights(&bias)), rows as usize).unwrap();
        let expected = input.linear(&weight, Some(&bias));
        assert_close(&direct.run_rows(&input).unwrap(), &expected);
        let turned = input.transpose(0, 1).contiguous().transpose(0, 1);
        assert_close(&direct.run_rows(&turned).unwrap(), &expected);
    }
}

#[test]
fn inputs_of_another_size_are_refused() {
    let case = &cases()[0];
    let direct = case.direct(&case.weight(), &random(&[case.outputs as i64]));
    for size in [[1, 8, 9, 8], [1, 9, 9, 7], [2, 8, 9, 7]] {
        assert!(direct.run(&random(&size), None).is_err());
    }
    assert!(direct.run(&case.input(), Some(&random(&[1, 16, 9, 6]))).is_err());
    assert!(direct.run(&case.input().to_kind(Kind::Double), None).is_err());
    assert!(direct.run(&random(&[8, 9, 7]), None).is_err());
}
