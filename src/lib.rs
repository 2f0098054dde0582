#![doc = include_str!("../README.md")]
#![deny(unsafe_code)]

#[allow(unsafe_code)] // cxx generates it
mod bridge;
mod build_info;
mod convert;
mod error;
pub mod functional;
mod layers;
mod svgd;

pub use build_info::{BuildInfo, Operator, build_info};
pub use error::{Error, Result};
pub use layers::{Layers, Plain};
pub use svgd::{BatchGradient, Granularity, Svgd, SvgdConfig, SvgdConv2D, SvgdLinear};

#[doc(hidden)]
pub mod testing;
