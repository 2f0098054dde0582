//! Which parameters belong together.

use super::Blocks;
use crate::bridge::ffi;
use crate::convert::lend;
use crate::error::{Error, Result};
use tch::Tensor;

/// Parameters that are normalized as one.
#[derive(Debug)]
pub(super) struct Block {
    pub name: String,
    pub parameters: Vec<Tensor>,
}

impl Block {
    /// Whether it is that of a layer's weight or bias alone.
    pub fn is_parameter_of(&self, layer: &str) -> bool {
        let part = self.name.strip_prefix(layer).and_then(|rest| rest.strip_prefix('.'));
        matches!(part, Some("weight" | "bias"))
    }
}

/// Puts a parameter into the block of this name. One that is there already is there once; a block that is in another is an
/// error.
pub(super) fn add(blocks: &mut Vec<Block>, name: String, parameter: Tensor) -> Result<()> {
    let same = |other: &Tensor| Ok::<_, Error>(ffi::identity(lend(other))? == ffi::identity(lend(&parameter))?);
    for block in blocks.iter() {
        for other in &block.parameters {
            if !same(other)? {
                continue;
            }
            return match block.name == name {
                true => Ok(()),
                false => Err(Error::Config(format!(
                    "Bng: block '{name}': expected parameters that no other block has, got one of block '{}'; give the two \
                     one name",
                    block.name
                ))),
            };
        }
    }
    match blocks.iter_mut().find(|block| block.name == name) {
        Some(block) => block.parameters.push(parameter),
        None => blocks.push(Block { name, parameters: vec![parameter] }),
    }
    Ok(())
}

/// The block of a variable, by its name in a `VarStore`: `hidden.weight` and `hidden.bias` are of `hidden`.
pub(super) fn of(variable: &str, blocks: Blocks) -> String {
    let (path, name) = variable.rsplit_once('.').unwrap_or(("", variable));
    match (blocks, recurrent_layer(name)) {
        (Blocks::PerParameter, _) => variable.to_owned(),
        (Blocks::PerLayer, Some(layer)) if path.is_empty() => layer.to_owned(),
        (Blocks::PerLayer, Some(layer)) => format!("{path}.{layer}"),
        (Blocks::PerLayer, None) => path.to_owned(),
    }
}

/// `l0` of `weight_ih_l0`, `l0_reverse` of `bias_hh_l0_reverse`, as tch and PyTorch name the parameters of recurrent networks.
fn recurrent_layer(name: &str) -> Option<&str> {
    let layer = ["weight_ih_", "weight_hh_", "bias_ih_", "bias_hh_"].iter().find_map(|kind| name.strip_prefix(kind))?;
    let number = layer.strip_prefix('l')?.split('_').next()?;
    number.parse::<u32>().is_ok().then_some(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_what_is_below_a_path() {
        let cases = [
            ("fc.weight", "fc", "fc.weight"),
            ("layer1.conv.bias", "layer1.conv", "layer1.conv.bias"),
            ("weight", "", "weight"),
            ("lstm.weight_ih_l0", "lstm.l0", "lstm.weight_ih_l0"),
            ("lstm.bias_hh_l1_reverse", "lstm.l1_reverse", "lstm.bias_hh_l1_reverse"),
            ("weight_hh_l2", "l2", "weight_hh_l2"),
            ("fc.weight_ih_large", "fc", "fc.weight_ih_large"),
        ];
        for (name, layer, parameter) in cases {
            assert_eq!(
                (of(name, Blocks::PerLayer).as_str(), of(name, Blocks::PerParameter).as_str()),
                (layer, parameter)
            );
        }
    }
}
