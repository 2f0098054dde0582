//! SVGD: the paper in plain loops, its kernels, and its settings.

#[path = "../common/mod.rs"]
mod common;

mod algorithm_1;
mod gradients;
mod kernels;
mod memory;
