//! How the crate is built: libtorch, nvcc, and the versions that go together.

#[path = "../common/programs.rs"]
mod programs;
#[path = "../common/versions.rs"]
mod versions;

mod cuda_build;
mod doctor;
mod finding_libtorch;
mod objects;
mod pairs;
mod project;
mod sources;
