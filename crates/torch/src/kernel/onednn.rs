//! oneDNN's convolutions with what is fused behind them. libtorch has them for its compiler, and `tch` does not wrap them.
//!
//! They are part of the C interface that libtorch keeps stable for compiled models (`aoti_torch/c/shim_cpu.h`). A libtorch
//! that was built without oneDNN has no such symbols, so they are looked up when they are first needed.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::LazyLock;

use tch::{TchError, Tensor};

use super::activation::is_usual;
use super::window::Sides;
use coprof_core::model::Activation;

type Handle = *mut c_void;

/// `aoti_torch_cpu_mkldnn__convolution_pointwise`: input, weight, bias, padding, stride and dilation each with its
/// length, groups, function, its parameters and their number, its variant, output.
type Pointwise = unsafe extern "C" fn(
    Handle,
    Handle,
    *const Handle,
    *const i64,
    i64,
    *const i64,
    i64,
    *const i64,
    i64,
    i64,
    *const c_char,
    *const *const f64,
    i64,
    *const *const c_char,
    *mut Handle,
) -> i32;

/// `aoti_torch_cpu_mkldnn__convolution_pointwise_binary`: the same with a second input behind the first, how it is taken
/// in and its factor in front of the function.
type Binary = unsafe extern "C" fn(
    Handle,
    Handle,
    Handle,
    *const Handle,
    *const i64,
    i64,
    *const i64,
    i64,
    *const i64,
    i64,
    i64,
    *const c_char,
    *const f64,
    *const *const c_char,
    *const *const f64,
    i64,
    *const *const c_char,
    *mut Handle,
) -> i32;

struct Library {
    pointwise: Pointwise,
    binary: Binary,
}

static LIBRARY: LazyLock<Option<Library>> = LazyLock::new(|| {
    let pointwise = symbol(c"aoti_torch_cpu_mkldnn__convolution_pointwise")?;
    let binary = symbol(c"aoti_torch_cpu_mkldnn__convolution_pointwise_binary")?;
    // SAFETY: the two functions have these signatures in libtorch's header.
    unsafe {
        Some(Library {
            pointwise: std::mem::transmute::<*mut c_void, Pointwise>(pointwise),
            binary: std::mem::transmute::<*mut c_void, Binary>(binary),
        })
    }
});

#[cfg(unix)]
fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: the name ends with a zero; the libraries that are linked in stay loaded.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

#[cfg(not(unix))]
fn symbol(_: &CStr) -> Option<*mut c_void> {
    None
}

/// A function of single values in oneDNN's words.
struct Function {
    name: &'static CStr,
    parameters: Vec<f64>,
    variant: Option<&'static CStr>,
}

impl Function {
    const NONE: Self = Self { name: c"none", parameters: Vec::new(), variant: None };

    fn parameters(&self) -> Vec<*const f64> {
        self.parameters.iter().map(ptr::from_ref).collect()
    }

    fn of(activation: Activation) -> Option<Self> {
        let named = |name| Some(Self { name, ..Self::NONE });
        match activation {
            Activation::Relu => named(c"relu"),
            Activation::Sigmoid => named(c"sigmoid"),
            Activation::Tanh => named(c"tanh"),
            Activation::Silu => named(c"swish"),
            Activation::HardSwish => named(c"hardswish"),
            Activation::HardSigmoid { .. } if is_usual(activation) => named(c"hardsigmoid"),
            Activation::LeakyRelu { slope } => {
                Some(Self { parameters: vec![slope.into()], ..Self { name: c"leaky_relu", ..Self::NONE } })
            }
            Activation::Clip { least, most } => Some(Self {
                parameters: vec![least.into(), most.into()],
                ..Self { name: c"hardtanh", ..Self::NONE }
            }),
            Activation::Gelu { tanh } => Some(Self {
                name: c"gelu",
                parameters: Vec::new(),
                variant: Some(if tanh { c"tanh" } else { c"none" }),
            }),
            _ => None,
        }
    }
}

/// A convolution whose weight lies as oneDNN wants it, reading and writing channels-last.
pub struct PackedConv {
    weight: Tensor,
    bias: Option<Tensor>,
    window: Sides,
    groups: i64,
    function: Function,
}

impl PackedConv {
    /// Packs a row-major weight for inputs of the size `input`, which has the batch. `Err` where this libtorch or oneDNN
    /// has no such convolution.
    pub fn prepare(
        weight: &Tensor,
        bias: Option<Tensor>,
        window: Sides,
        groups: i64,
        input: &[i64],
    ) -> Result<Self, TchError> {
        if LIBRARY.is_none() {
            return Err(TchError::Torch("this libtorch was built without oneDNN".into()));
        }
        let size = window.padded_size(input);
        let Sides { stride, padding, dilation, .. } = &window;
        let packed = weight.f_to_mkldnn(None)?.f_mkldnn_reorder_conv2d_weight(
            padding,
            stride,
            dilation,
            groups,
            size.as_slice(),
        )?;
        Ok(Self { weight: packed, bias, window, groups, function: Function::NONE })
    }

    /// Takes in what is fused behind the convolution; returns what is left to be done.
    pub fn take_in(&mut self, activation: Option<Activation>, summed: bool) -> Option<Activation> {
        let taken = activation.and_then(Function::of).filter(|function| !summed || function.name == c"relu");
        match taken {
            Some(function) => {
                self.function = function;
                None
            }
            None => activation,
        }
    }

    /// The convolution of `input`, with `summand` added before the function, if there is one of the output's shape.
    pub fn run(&self, input: &Tensor, summand: Option<&Tensor>) -> Result<Tensor, TchError> {
        let Some(library) = LIBRARY.as_ref() else {
            return Err(TchError::Torch("this libtorch was built without oneDNN".into()));
        };
        let input = self.window.padded(input, 0.0)?;
        let output = match summand {
            None => self.call(library.pointwise, &input),
            Some(summand) => self.call_adding(library.binary, &input, summand),
        };
        if output.is_null() {
            return Err(TchError::Torch("oneDNN refused a convolution".into()));
        }
        // SAFETY: the call made this tensor for its caller, who frees it.
        Ok(unsafe { Tensor::from_ptr(output.cast()) })
    }

    /// The new tensor, or null.
    fn call(&self, pointwise: Pointwise, input: &Tensor) -> Handle {
        let Sides { stride, padding, dilation, .. } = &self.window;
        let bias = self.bias.as_ref().map(handle);
        let parameters = self.function.parameters();
        let variant = self.function.variant.map(CStr::as_ptr);
        let mut output = ptr::null_mut();
        // SAFETY: all pointers outlive the call and lead to as many values as are said; handles are libtorch's tensors,
        // which the call reads and keeps no hold of. Where it fails it leaves `output` as it is.
        unsafe {
            pointwise(
                handle(input),
                handle(&self.weight),
                or_null(bias.as_ref()),
                padding.as_ptr(),
                2,
                stride.as_ptr(),
                2,
                dilation.as_ptr(),
                2,
                self.groups,
                self.function.name.as_ptr(),
                parameters.as_ptr(),
                parameters.len() as i64,
                or_null(variant.as_ref()),
                &raw mut output,
            );
        }
        output
    }

    /// The same with a sum before the function.
    fn call_adding(&self, binary: Binary, input: &Tensor, summand: &Tensor) -> Handle {
        let Sides { stride, padding, dilation, .. } = &self.window;
        let bias = self.bias.as_ref().map(handle);
        let function = (self.function.name != Function::NONE.name).then_some(self.function.name.as_ptr());
        let parameters = self.function.parameters();
        let variant = self.function.variant.map(CStr::as_ptr);
        let mut output = ptr::null_mut();
        // SAFETY: as in `call`.
        unsafe {
            binary(
                handle(input),
                handle(summand),
                handle(&self.weight),
                or_null(bias.as_ref()),
                padding.as_ptr(),
                2,
                stride.as_ptr(),
                2,
                dilation.as_ptr(),
                2,
                self.groups,
                c"add".as_ptr(),
                ptr::null(),
                or_null(function.as_ref()),
                parameters.as_ptr(),
                parameters.len() as i64,
                or_null(variant.as_ref()),
                &raw mut output,
            );
        }
        output
    }
}

fn or_null<T>(value: Option<&T>) -> *const T {
    value.map_or(ptr::null(), ptr::from_ref)
}

/// What libtorch's C interface calls a tensor is the pointer that `tch` holds.
fn handle(tensor: &Tensor) -> Handle {
    tensor.as_ptr().cast_mut().cast()
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::kernel::activation::applied;
    use coprof_core::model::Window;

    fn random(size: &[i64]) -> Tensor {
        Tensor::randn(size, (Kind::Float, Device::Cpu))
    }

    fn sides() -> Sides {
        Sides::of(&Window { kernel: [3, 3], stride: [2, 1], padding: [1, 1, 1, 1], dilation: [1, 1] })
    }

    fn assert_close(found: &Tensor, expected: &Tensor) {
        assert_eq!(found.size(), expected.size());
        let off = (found - expected).abs().max().double_value(&[]);
        assert!(off < 1e-4, "off by {off}");
    }

    #[test]
    fn what_is_fused_answers_as_one_after_the_other() {
        let (input, weight, bias) = (random(&[1, 8, 9, 7]), random(&[12, 4, 3, 3]), random(&[12]));
        let functions = [
            Activation::Relu,
            Activation::LeakyRelu { slope: 0.1 },
            Activation::Clip { least: -0.5, most: 1.0 },
            Activation::Sigmoid,
            Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 },
            Activation::Tanh,
            Activation::Silu,
            Activation::HardSwish,
            Activation::Gelu { tanh: false },
            Activation::Gelu { tanh: true },
        ];
        let plain = input.conv2d(&weight, Some(&bias), [2, 1], [1, 1], [1, 1], 2);
        for function in functions {
            let mut conv =
                PackedConv::prepare(&weight, Some(bias.shallow_clone()), sides(), 2, &input.size()).unwrap();
            assert_eq!(conv.take_in(Some(function), false), None, "{function:?} is fused");
            assert_close(&conv.run(&input, None).unwrap(), &applied(function, &plain).unwrap());
        }
    }

    #[test]
    fn a_sum_is_fused_and_what_cannot_be_fused_is_left() {
        let (input, weight) = (random(&[1, 8, 9, 7]), random(&[12, 8, 3, 3]));
        let plain = input.conv2d(&weight, None::<&Tensor>, [2, 1], [1, 1], [1, 1], 1);
        let summand = random(&plain.size());
        let relu = Some(Activation::Relu);
        let cases = [(None, None), (relu, None), (Some(Activation::Silu), Some(Activation::Silu))];
        for (function, left) in cases {
            let mut conv = PackedConv::prepare(&weight, None, sides(), 1, &input.size()).unwrap();
            assert_eq!(conv.take_in(function, true), left);
            let sum = &plain + &summand;
            let expected = if function == relu { sum.relu() } else { sum };
            assert_close(&conv.run(&input, Some(&summand)).unwrap(), &expected);
        }
        let mut conv = PackedConv::prepare(&weight, None, sides(), 1, &input.size()).unwrap();
        assert_eq!(conv.take_in(Some(Activation::Mish), false), Some(Activation::Mish));
        assert!(conv.run(&random(&[1, 5, 9, 7]), None).is_err(), "five channels do not fit");
    }
}
