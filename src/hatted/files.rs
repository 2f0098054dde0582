//! State files of layers: a layer's tensors under its name, and the progress of the training behind the format.

use super::layer::Layer;
use super::method::Method;
use super::switch::Progress;
use crate::error::{Error, Result};
use crate::state_file::{self, Format, RESERVED_NAME, StateFile};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Layers by name.
pub(super) type Live<'a, M> = BTreeMap<&'a str, Arc<Layer<M>>>;

/// The names of a layer's tensors in a file.
fn keys<M: Method>(layer: &Layer<M>) -> Vec<String> {
    match M::STATE {
        [_] => vec![layer.name.clone()],
        names => names.iter().map(|name| format!("{}.{name}", layer.name)).collect(),
    }
}

/// Writes the states of these layers, and what their training has come to.
pub(super) fn write<M: Method>(path: &Path, live: &Live<'_, M>, progress: &Progress) -> Result<()> {
    let mut tensors = BTreeMap::new();
    for (name, layer) in live {
        // A layer without state is written too: the file knows all layers.
        let state = layer.state.read(|tensors| tensors.iter().map(Tensor::shallow_clone).collect::<Vec<_>>());
        let mut state = state.into_iter().flatten();
        for key in keys(layer) {
            // What is written must be read again.
            if key == RESERVED_NAME {
                return Err(Error::state(
                    path,
                    format!(
                        "layer '{name}': expected another name, since safetensors keeps this one for itself; rename the layer"
                    ),
                ));
            }
            tensors.insert(key, state.next());
        }
    }
    state_file::write(path, M::FORMAT, &progress.to_text().unwrap_or_default(), tensors)
}

/// What a file has for a layer; None if there was no state yet.
type Loaded = Option<Vec<Tensor>>;

/// Reads what a file has for the layers of this model, which must be its own unless `partial`, and of its training.
pub(super) fn read<'a, M: Method>(
    path: &Path,
    live: &Live<'a, M>,
    partial: bool,
) -> Result<(BTreeMap<&'a str, Loaded>, Progress)> {
    let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
    let format = Format { name: M::FORMAT, contents: format!("the accumulators that {}::save writes", M::NAME) };
    let file = StateFile::parse(path, &bytes, &format)?;
    let stored = file.names();
    let known: BTreeSet<_> = live.values().flat_map(|layer| keys(layer)).collect();
    let unknown: Vec<_> = stored.iter().filter(|&&key| !known.contains(key)).collect();
    let is_stored = |layer: &Layer<M>| keys(layer).iter().all(|key| stored.contains(key.as_str()));
    let missing: Vec<_> = live.iter().filter(|(_, layer)| !is_stored(layer)).map(|(name, _)| name).collect();
    if !partial && (!unknown.is_empty() || !missing.is_empty()) {
        return Err(file.error(format!(
            "expected the layers of this model, got others: the file lacks {missing:?} and has {unknown:?} too; build \
             the model that it was saved from first, or load what the two have in common with load_partial"
        )));
    }
    let parse_layer = |(&name, layer): (&&'a str, &Arc<Layer<M>>)| {
        let layer_error = |message: String| file.error(format!("layer '{name}': {message}"));
        let parsed =
            keys(layer).iter().map(|key| file.tensor(key, &[Kind::Float, Kind::Double])).collect::<Result<Vec<_>>>()?;
        let all = parsed.len();
        let tensors: Vec<_> = parsed.into_iter().flatten().collect();
        if tensors.is_empty() {
            return Ok((name, None));
        }
        if tensors.len() != all {
            return Err(layer_error("expected all of its state, got a part; the file is damaged".to_owned()));
        }
        M::check_loaded(&layer.config(), &layer.geometry, &tensors).map_err(layer_error)?;
        Ok((name, Some(tensors)))
    };
    let layers = live.iter().filter(|(_, layer)| is_stored(layer)).map(parse_layer).collect::<Result<_>>()?;
    let progress = match file.details.as_str() {
        "" => Progress::default(),
        text => Progress::from_text(text).ok_or_else(|| {
            file.error(format!(
                "expected the progress of a training as {}::save writes it, got '{text}'; the file is damaged",
                M::NAME
            ))
        })?,
    };
    Ok((layers, progress))
}
