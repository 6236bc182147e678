//! Functions of a single value: rectifiers and the like, alone or fused behind a layer.

/// A function that is applied to every value by itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the function's parameters under their usual names")]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` kept between two bounds; ReLU6 is one.
    Clip { least: f32, most: f32 },
    /// `x`, or `slope * x` where `x` is negative.
    LeakyRelu { slope: f32 },
    /// `x`, or `alpha * (exp(x) - 1)` where `x` is negative.
    Elu { alpha: f32 },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `slope * x + offset`, kept between 0 and 1.
    HardSigmoid { slope: f32, offset: f32 },
    /// `x` times its hard sigmoid of slope 1/6 and offset 1/2.
    HardSwish,
    /// `x * sigmoid(x)`, also called swish.
    Silu,
    /// `x` times the normal distribution at `x`: by the error function, or by its approximation with `tanh`.
    Gelu { tanh: bool },
    /// `x * tanh(softplus(x))`.
    Mish,
    /// `log(1 + exp(x))`.
    Softplus,
    /// Hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// Exponential.
    Exp,
    /// Natural logarithm.
    Log,
    /// `|x|`.
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// `x` to the power of `exponent`: squares, roots, reciprocals.
    Power { exponent: f32 },
    /// The nearest multiple of `scale`, the even one of two, kept between `least` and `most` times `scale`.
    Quantize { scale: f32, least: f32, most: f32 },
}

impl Activation {
    /// Its name for tables.
    pub fn label(self) -> &'static str {
        match self {
            Self::Relu => "relu",
            Self::Clip { least: 0.0, most: 6.0 } => "relu6",
            Self::Clip { .. } => "clip",
            Self::LeakyRelu { .. } => "leaky relu",
            Self::Elu { .. } => "elu",
            Self::Sigmoid => "sigmoid",
            Self::HardSigmoid { .. } => "hard sigmoid",
            Self::HardSwish => "hard swish",
            Self::Silu => "silu",
            Self::Gelu { .. } => "gelu",
            Self::Mish => "mish",
            Self::Softplus => "softplus",
            Self::Tanh => "tanh",
            Self::Erf => "erf",
            Self::Exp => "exp",
            Self::Log => "log",
            Self::Abs => "abs",
            Self::Sign => "sign",
            Self::Power { exponent: 0.5 } => "sqrt",
            Self::Power { .. } => "power",
            Self::Quantize { .. } => "quantize",
        }
    }
}
