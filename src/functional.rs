//! The operators themselves, for code that keeps its own weights and accumulators: SVGD's here, those of TSO-ALRA in
//! [`tso_alra`].
//!
//! The layers are built on these. Each is the dispatcher's operator of the same name, the one that Python sees as
//! `torch.ops.svgd.…` or `torch.ops.tso_alra.…`.

pub use crate::svgd::functional::*;

pub mod tso_alra {
    //! TSO-ALRA's operators.

    pub use crate::tso_alra::functional::*;
}
