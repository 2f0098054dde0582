//! The operators themselves, for code that keeps its own weights and accumulators: SVGD's here, those of TSO-ALRA in
//! [`tso_alra`], that of block-normalized gradients in [`bng`].
//!
//! The layers are built on these. Each is the dispatcher's operator of the same name, the one that Python sees as
//! `torch.ops.svgd.…`, `torch.ops.tso_alra.…` or `torch.ops.bng.…`.

pub use crate::svgd::functional::*;

pub mod bng {
    //! The operator of block-normalized gradients.

    pub use crate::bng::functional::*;
}

pub mod tso_alra {
    //! TSO-ALRA's operators.

    pub use crate::tso_alra::functional::*;
}
