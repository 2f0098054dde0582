#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

mod autocast;
mod backward;
mod bng;
#[allow(unsafe_code)] // cxx generates it
mod bridge;
mod build_info;
mod convert;
mod cuda_graph;
mod error;
pub mod functional;
pub mod hatted;
mod layers;
pub mod optim;
mod state_file;
mod svgd;
mod tch_series;
mod tso_alra;

pub use autocast::autocast;
pub use backward::backward;
pub use bng::{BlockNormalizer, Blocks, Bng, BngConfig, Normalization};
pub use build_info::{BuildInfo, Operator, build_info};
pub use cuda_graph::CudaGraph;
pub use error::{Error, Result};
pub use hatted::{BatchGradient, Progress, Stage, Switch};
pub use layers::{Layers, Parameters, Plain};
pub use svgd::{Granularity, Svgd, SvgdConfig, SvgdConv2D, SvgdLinear, SvgdMethod};
pub use tso_alra::{Damping, Graft, Positions, TsoAlra, TsoAlraConfig, TsoAlraConv2D, TsoAlraLinear, TsoAlraMethod};

#[doc(hidden)]
pub mod testing;
