//! Block-normalized gradients: the operator held to plain loops, the blocks of models, and what becomes of gradients that are
//! zero, tiny, or no numbers.

#[path = "../common/mod.rs"]
mod common;

mod blocks;
mod errors;
mod operator;
mod training;
