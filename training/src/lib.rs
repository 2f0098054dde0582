//! Training of the papers' models, as the programs in `src/bin` do it.

pub mod catalogue;
pub mod cli;
pub mod data;
pub mod initialise;
pub mod log;
pub mod method;
pub mod models;
pub mod optimizer;
pub mod trained;
pub mod trainer;
