//! Functions of single values in libtorch.

use tch::{TchError, Tensor};

use coprof_core::model::Activation;

/// The function of each value of a tensor that others may hold.
pub fn applied(function: Activation, tensor: &Tensor) -> Result<Tensor, TchError> {
    match function {
        Activation::Relu => tensor.f_relu(),
        Activation::Clip { least, most } => tensor.f_clamp(f64::from(least), f64::from(most)),
        Activation::LeakyRelu { slope } => {
            let negative = tensor.f_clamp_max(0.0)?.f_mul_scalar(f64::from(slope))?;
            tensor.f_clamp_min(0.0)?.f_add(&negative)
        }
        Activation::Elu { alpha } => {
            let negative = tensor.f_clamp_max(0.0)?.f_expm1()?.f_mul_scalar(f64::from(alpha))?;
            tensor.f_clamp_min(0.0)?.f_add(&negative)
        }
        Activation::Sigmoid => tensor.f_sigmoid(),
        Activation::HardSigmoid { .. } if is_usual(function) => tensor.f_hardsigmoid(),
        Activation::HardSigmoid { slope, offset } => {
            tensor.f_mul_scalar(f64::from(slope))?.f_add_scalar(f64::from(offset))?.f_clamp(0.0, 1.0)
        }
        Activation::HardSwish => tensor.f_hardswish(),
        Activation::Silu => tensor.f_silu(),
        Activation::Gelu { tanh } => tensor.f_gelu(if tanh { "tanh" } else { "none" }),
        Activation::Mish => tensor.f_mish(),
        Activation::Softplus => tensor.f_softplus(),
        Activation::Tanh => tensor.f_tanh(),
        Activation::Erf => tensor.f_erf(),
        Activation::Exp => tensor.f_exp(),
        Activation::Log => tensor.f_log(),
        Activation::Abs => tensor.f_abs(),
        Activation::Sign => tensor.f_sign(),
        Activation::Power { exponent } => tensor.f_pow_tensor_scalar(f64::from(exponent)),
        Activation::Quantize { .. } => applied_in_place(function, tensor.f_mul_scalar(1.0)?),
    }
}

/// The same for a tensor that was made just now and that nobody else holds: in place where libtorch can.
pub fn applied_in_place(function: Activation, mut tensor: Tensor) -> Result<Tensor, TchError> {
    let _ = match function {
        Activation::Relu => tensor.f_relu_()?,
        Activation::Clip { least, most } => tensor.f_clamp_(f64::from(least), f64::from(most))?,
        Activation::HardSwish => tensor.f_hardswish_()?,
        Activation::HardSigmoid { .. } if is_usual(function) => tensor.f_hardsigmoid_()?,
        Activation::Silu => tensor.f_silu_()?,
        Activation::Sigmoid => tensor.f_sigmoid_()?,
        Activation::Quantize { scale, least, most } => {
            let _ = tensor.f_div_scalar_(f64::from(scale))?.f_round_()?;
            tensor.f_clamp_(f64::from(least), f64::from(most))?.f_mul_scalar_(f64::from(scale))?
        }
        _ => return applied(function, &tensor),
    };
    Ok(tensor)
}

/// Whether this is the hard sigmoid that libtorch and oneDNN have under this name.
pub fn is_usual(function: Activation) -> bool {
    matches!(function, Activation::HardSigmoid { slope, offset: 0.5 } if (slope - 1.0 / 6.0).abs() < 1e-6)
}
