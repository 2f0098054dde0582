//! A method that does nothing, outside of the crate: its gradients are the plain ones, and its state counts the backward
//! passes and adds up the gradients that came. `counter.h` is its half of C++, this file that of Rust, and there is nothing else.

use tch::{Device, Kind, Tensor};
use tch_svgd::Result;
use tch_svgd::hatted::{BatchGradient, Convolution, Geometry, Method, Pass, Settings};
use tch_svgd::testing::{Sealed, lend, take};

#[cxx::bridge(namespace = "counter")]
mod ffi {
    // SAFETY: the signatures are checked against counter.h by the C++ compiler; none keeps a reference.
    unsafe extern "C++" {
        include!("counter/src/counter.h");

        #[namespace = "at"]
        type Tensor = tch_svgd::testing::CxxTensor;

        #[allow(clippy::too_many_arguments)]
        fn linear(
            input: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            passes: &Tensor,
            sums: &Tensor,
            gradient_scale: f64,
            formed: bool,
            fails: bool,
        ) -> Result<UniquePtr<Tensor>>;
        #[allow(clippy::too_many_arguments)]
        fn conv2d(
            input: &Tensor,
            weight: &Tensor,
            bias: &Tensor,
            passes: &Tensor,
            sums: &Tensor,
            stride: &[i64],
            padding: &[i64],
            dilation: &[i64],
            groups: i64,
            gradient_scale: f64,
            formed: bool,
            fails: bool,
        ) -> Result<UniquePtr<Tensor>>;
    }
}

#[derive(Debug)]
pub enum Counter {}

/// How the plain gradients are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Config {
    /// From the output's gradient, as a method does that puts something in its place.
    pub formed: bool,
    /// Not at all: an error, after the state has changed.
    pub fails: bool,
}

impl Sealed for Counter {}

impl Method for Counter {
    type Config = Config;

    const NAME: &'static str = "Counter";
    const FORMAT: &'static str = "counted passes";
    const STATE: &'static [&'static str] = &["passes", "sums"];

    fn validate(_: &Config) -> Result<()> {
        Ok(())
    }

    fn initial(_: &Config, pass: &Pass<'_>, options: (Kind, Device)) -> Result<Vec<Tensor>> {
        let outputs = pass.ws.size().first().copied().unwrap_or(1);
        Ok(vec![Tensor::f_zeros([1], options)?, Tensor::f_zeros(outputs, options)?])
    }

    fn check_loaded(_: &Config, _: &Geometry, tensors: &[Tensor]) -> std::result::Result<(), String> {
        match tensors {
            [passes, sums] if passes.size() == [1] && sums.dim() == 1 => Ok(()),
            _ => {
                let sizes: Vec<_> = tensors.iter().map(Tensor::size).collect();
                Err(format!("expected one value, and one dimension, got shapes {sizes:?}"))
            }
        }
    }

    fn call(settings: &Settings<Config>, pass: &Pass<'_>, state: &[Tensor]) -> Result<Tensor> {
        let Config { formed, fails } = settings.config;
        let scale = settings.gradient_scale(BatchGradient::AsReceived, pass);
        let none = Tensor::new();
        let (xs, ws, bs) = (lend(pass.xs), lend(pass.ws), lend(pass.bs.unwrap_or(&none)));
        Ok(take(match pass.geometry {
            Geometry::Linear => ffi::linear(xs, ws, bs, lend(&state[0]), lend(&state[1]), scale, formed, fails)?,
            Geometry::Conv2D(Convolution { stride, padding, dilation, groups }) => ffi::conv2d(
                xs,
                ws,
                bs,
                lend(&state[0]),
                lend(&state[1]),
                &stride,
                &padding,
                &dilation,
                groups,
                scale,
                formed,
                fails,
            )?,
            other => unimplemented!("{other:?}"),
        }))
    }
}
