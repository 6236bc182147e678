//! Convolutions, fully connected layers and pools in code of our own, channels-last.
//!
//! libtorch describes a convolution to oneDNN anew in every call and looks its primitive up, which takes as long as many a
//! layer of a small network computes. Here all that does not depend on the values is done once, at load.

mod dense;
mod finish;
mod per_channel;
mod places;
mod plane;
mod task;
mod vectors;

use std::sync::Arc;

use pulp::{Arch, Simd, WithSimd};
use tch::{TchError, Tensor};

use coprof_core::model::{Activation, Shape, Weights, Window};
use dense::Dense;
use finish::Finish;
use per_channel::PerChannel;
use places::Places;
use plane::{Plane, Target};
use task::Task;

/// A convolution, a fully connected layer as one that sees single places, or a pool.
pub struct Direct {
    body: Body,
    places: Places,
    finish: Finish,
    arch: Arch,
}

enum Body {
    Dense(Dense),
    PerChannel(PerChannel),
}

impl Direct {
    /// A convolution with `weight` `[out, in / groups, kh, kw]` of inputs `[channels, height, width]`. `None` for other shapes.
    pub fn conv(
        weight: &Weights,
        bias: &Option<Arc<Weights>>,
        window: &Window,
        groups: usize,
        input: &Shape,
    ) -> Option<Self> {
        let (&[channels, ref plane @ ..], &[outputs, depth, _, _]) =
            (input.0.as_slice(), weight.shape.as_slice())
        else {
            return None;
        };
        let arch = Arch::new();
        let places = Places::of(window, plane.try_into().ok()?, false)?;
        let body = if depth == 1 && groups == channels && outputs == channels {
            Body::PerChannel(PerChannel::weighted(weight)?)
        } else {
            Body::Dense(Dense::pack(weight, groups, lanes(arch))?)
        };
        Some(Self { body, places, finish: Finish::new(bias, outputs), arch })
    }

    /// The largest value under a window over `[channels, height, width]`. One that is no number may be passed over.
    pub fn max_pool(window: &Window, ceil: bool, input: &Shape) -> Option<Self> {
        let &[channels, height, width] = input.0.as_slice() else { return None };
        Some(Self::pool(PerChannel::Largest, Places::of(window, [height, width], ceil)?, channels))
    }

    /// The mean of each channel's plane of `[channels, height, width]`.
    pub fn global_mean(input: &Shape) -> Option<Self> {
        let &[channels, height, width] = input.0.as_slice() else { return None };
        Some(Self::pool(PerChannel::Mean, Places::whole([height, width]), channels))
    }

    fn pool(how: PerChannel, places: Places, channels: usize) -> Self {
        Self { body: Body::PerChannel(how), places, finish: Finish::new(&None, channels), arch: Arch::new() }
    }

    /// A fully connected layer with `weight` `[out, in]` for `rows` rows of values.
    pub fn linear(weight: &Weights, bias: &Option<Arc<Weights>>, rows: usize) -> Option<Self> {
        let &[outputs, _] = weight.shape.as_slice() else { return None };
        let arch = Arch::new();
        let body = Body::Dense(Dense::pack(weight, 1, lanes(arch))?);
        Some(Self { body, places: Places::single([rows, 1]), finish: Finish::new(bias, outputs), arch })
    }

    /// Takes in what is fused behind it; returns what is left to be done.
    pub fn take_in(&mut self, activation: Option<Activation>) -> Option<Activation> {
        self.finish.take_in(activation)
    }

    /// What becomes of `[1, channels, height, width]`, with `summand` of the output's shape added before the function.
    pub fn run(&self, input: &Tensor, summand: Option<&Tensor>) -> Result<Tensor, TchError> {
        let plane = Plane::of(input)?;
        let summand = summand.map(Plane::of).transpose()?;
        self.run_plane(&plane, summand.as_ref())?.into_plane(self.places.size)
    }

    /// A fully connected layer of as many values as its rows have.
    pub fn run_rows(&self, input: &Tensor) -> Result<Tensor, TchError> {
        self.run_plane(&Plane::of_rows(input, self.places.size[0])?, None)?.into_rows()
    }

    fn run_plane(&self, input: &Plane, summand: Option<&Plane>) -> Result<Target, TchError> {
        let outputs = self.finish.channels();
        let fits = |plane: &Plane, places, channels| plane.places == places && plane.channels == channels;
        if !fits(input, self.places.inputs, self.inputs())
            || summand.is_some_and(|plane| !fits(plane, self.places.count(), outputs))
        {
            return Err(TchError::Shape("an input of another size than the layer was prepared for".into()));
        }
        let mut output = Target::new(self.places.count(), outputs)?;
        let task = Task {
            input: input.rows(),
            summand: summand.map(Plane::rows),
            places: &self.places,
            finish: &self.finish,
            output: output.values(),
        };
        match &self.body {
            Body::Dense(dense) => self.arch.dispatch(dense::Run { dense, task }),
            Body::PerChannel(how) => self.arch.dispatch(per_channel::Run { how, task }),
        }
        Ok(output)
    }

    fn inputs(&self) -> usize {
        match &self.body {
            Body::Dense(dense) => dense.inputs,
            Body::PerChannel(_) => self.finish.channels(),
        }
    }
}

/// How many values a vector of this processor holds.
fn lanes(arch: Arch) -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;

        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    arch.dispatch(Lanes)
}

#[cfg(test)]
mod tests;
