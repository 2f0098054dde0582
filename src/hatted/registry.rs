//! All layers by name.

use super::files::{self, Live};
use super::layer::Layer;
use super::method::Method;
use super::state::Change;
use super::switch::Progress;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Weak};
use tch::Tensor;

/// The layers, in the order of their names. A layer that is dropped takes its state along.
#[derive(Debug)]
pub(super) struct Registry<M: Method> {
    by_name: BTreeMap<String, Weak<Layer<M>>>,
}

impl<M: Method> Default for Registry<M> {
    fn default() -> Self {
        Self { by_name: BTreeMap::new() }
    }
}

impl<M: Method> Registry<M> {
    /// Refuses a name that a layer of another `VarStore` has: in a file the two would be told apart by the order of their
    /// making alone. `there` is the weight that the new layer's own `VarStore` has under the name already.
    pub(super) fn check_name(&self, name: &str, there: Option<usize>) -> Result<()> {
        match self.by_name.get(name).and_then(Weak::upgrade) {
            Some(layer) if there != Some(layer.variable) => {}
            _ => return Ok(()),
        }
        let method = M::NAME;
        Err(Error::Config(format!(
            "layer '{name}': expected a name that no layer of this {method} has, got that of one in another VarStore, \
             which a state file could not tell from it; give the model a root of its own, as vs.root() / \"averaged\", or \
             make another {method} for it"
        )))
    }

    /// Adds the layer that `make` makes of its name. A second one of the same name in one `VarStore` is `NAME__1`.
    pub(super) fn register(
        &mut self,
        name: &str,
        there: Option<usize>,
        make: impl FnOnce(String) -> Arc<Layer<M>>,
    ) -> Result<Arc<Layer<M>>> {
        self.check_name(name, there)?;
        self.by_name.retain(|_, layer| layer.strong_count() > 0);
        let numbered = |number| if number == 0 { name.to_owned() } else { format!("{name}__{number}") };
        let unique = (0..).map(numbered).find(|unique| !self.by_name.contains_key(unique)).unwrap_or_default();
        let layer = make(unique.clone());
        self.by_name.insert(unique, Arc::downgrade(&layer));
        Ok(layer)
    }

    fn live(&self) -> Live<'_, M> {
        self.by_name.iter().filter_map(|(name, layer)| Some((name.as_str(), layer.upgrade()?))).collect()
    }

    pub(super) fn reset(&self) {
        for layer in self.live().values() {
            layer.state.change(Change::Reset);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.live().values().map(|layer| layer.state.bytes()).sum()
    }

    /// The states themselves, of the layers that a pass has reached.
    pub(super) fn states(&self) -> Vec<Vec<Tensor>> {
        self.live().values().filter_map(|layer| layer.state.handles()).collect()
    }

    pub(super) fn save(&self, path: &Path, progress: &Progress) -> Result<()> {
        files::write(path, &self.live(), progress)
    }

    /// Returns the layers that the file lacks, if it may lack some, and have others; and what its training had come to.
    pub(super) fn load(&self, path: &Path, partial: bool) -> Result<(Vec<String>, Progress)> {
        let live = self.live();
        let (loaded, progress) = files::read(path, &live, partial)?;
        let changes = loaded.into_iter().map(|(name, tensors)| Ok((name, live[name].state.prepare(tensors)?)));
        let changes = changes.collect::<Result<BTreeMap<_, _>>>()?;
        let missing = live.keys().filter(|&name| !changes.contains_key(name)).map(|&name| name.to_owned()).collect();
        // Nothing can fail from here on: the layers change together or not at all.
        for (name, change) in changes {
            live[name].state.change(change);
        }
        Ok((missing, progress))
    }
}
