//! The operators themselves, for code that keeps its own weights and accumulators.
//!
//! [`Svgd`](crate::Svgd) and its layers are built on these. Each is the dispatcher's operator of the same name, the
//! one that Python sees as `torch.ops.svgd.…`.

pub use crate::svgd::functional::*;
