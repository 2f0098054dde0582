//! The papers' experiments, the optimizers that are compared, what runs leave on disk, and the report on them. Nothing here
//! needs libtorch.

pub mod benchmark;
pub mod curve;
pub mod experiment;
pub mod files;
pub mod optimizer;
pub mod recipe;
pub mod record;
pub mod report;
pub mod run;
pub mod screen;
