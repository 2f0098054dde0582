//! State files: safetensors, with a layer's tensors under its name, and the progress of the training behind the format.

use super::layer::Layer;
use super::method::Method;
use super::switch::Progress;
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Layers by name.
pub(super) type Live<'a, M> = BTreeMap<&'a str, Arc<Layer<M>>>;

const FORMAT_KEY: &str = "format";
/// Where safetensors keeps the metadata that say what a file is.
const RESERVED_NAME: &str = "__metadata__";

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
        let serialized = layer.state.read(|tensors| tensors.iter().map(Serialized::new).collect::<Result<Vec<_>>>());
        // A layer without state is written too, as empty tensors: the file knows all layers.
        let serialized = serialized.unwrap_or_else(|| Ok(M::STATE.iter().map(|_| Serialized::empty()).collect()))?;
        for (key, tensor) in keys(layer).into_iter().zip(serialized) {
            // What is written must be read again.
            if key == RESERVED_NAME {
                return Err(Error::state(
                    path,
                    format!(
                        "layer '{name}': expected another name, since safetensors keeps this one for itself; rename the layer"
                    ),
                ));
            }
            tensors.insert(key, tensor);
        }
    }
    let views: Result<Vec<_>> = tensors.iter().map(|(key, tensor)| Ok((key, tensor.view(path)?))).collect();
    // One entry, as several would be written in an order of chance: equal states are equal files.
    let format = match progress.to_text() {
        Some(progress) => format!("{}; {progress}", M::FORMAT),
        None => M::FORMAT.to_owned(),
    };
    let metadata = HashMap::from([(FORMAT_KEY.to_owned(), format)]);
    let bytes = safetensors::serialize(views?, Some(metadata))
        .map_err(|error| Error::state(path, format!("cannot be written as safetensors: {error}")))?;
    write_atomically(path, &bytes)
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
    let error = |message: String| Error::state(path, message);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|reason| {
        error(format!("expected a safetensors file, got something else or a part of one ({reason}); save it again"))
    })?;
    let format = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FORMAT_KEY));
    let (own, progress) = match format.map(|format| format.split_once("; ").unwrap_or((format, ""))) {
        Some((own, progress)) => (Some(own), progress),
        None => (None, ""),
    };
    if own != Some(M::FORMAT) {
        return Err(error(format!(
            "expected the accumulators that {}::save writes ({FORMAT_KEY} '{}'), got {format:?}; weights are loaded with \
             VarStore::load",
            M::NAME,
            M::FORMAT
        )));
    }
    let file = SafeTensors::deserialize(&bytes).map_err(|reason| {
        error(format!("expected {} tensors, got a part of them ({reason}); save it again", metadata.tensors().len()))
    })?;
    let stored: BTreeSet<_> = file.names().into_iter().collect();
    let known: BTreeSet<_> = live.values().flat_map(|layer| keys(layer)).collect();
    let unknown: Vec<_> = stored.iter().filter(|&&key| !known.contains(key)).collect();
    let is_stored = |layer: &Layer<M>| keys(layer).iter().all(|key| stored.contains(key.as_str()));
    let missing: Vec<_> = live.iter().filter(|(_, layer)| !is_stored(layer)).map(|(name, _)| name).collect();
    if !partial && (!unknown.is_empty() || !missing.is_empty()) {
        return Err(error(format!(
            "expected the layers of this model, got others: the file lacks {missing:?} and has {unknown:?} too; build \
             the model that it was saved from first, or load what the two have in common with load_partial"
        )));
    }
    let parse_tensor = |key: &str| -> Result<Option<Tensor>> {
        let view = file.tensor(key).map_err(|reason| error(format!("tensor '{key}': {reason}")))?;
        let size: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        if size == [0] {
            return Ok(None);
        }
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            other => return Err(error(format!("tensor '{key}': expected kind F32 or F64, got {other:?}"))),
        };
        Ok(Some(Tensor::f_from_data_size(view.data(), &size, kind)?))
    };
    let parse_layer = |(&name, layer): (&&'a str, &Arc<Layer<M>>)| {
        let layer_error = |message: String| error(format!("layer '{name}': {message}"));
        let parsed = keys(layer).iter().map(|key| parse_tensor(key)).collect::<Result<Vec<_>>>()?;
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
    let progress = match progress {
        "" => Progress::default(),
        text => Progress::from_text(text).ok_or_else(|| {
            error(format!(
                "expected the progress of a training as {}::save writes it, got '{text}'; the file is damaged",
                M::NAME
            ))
        })?,
    };
    Ok((layers, progress))
}

/// A tensor as safetensors wants it.
struct Serialized {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Serialized {
    fn empty() -> Self {
        Self { dtype: Dtype::F32, shape: vec![0], bytes: Vec::new() }
    }

    fn new(tensor: &Tensor) -> Result<Self> {
        let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let dtype = if tensor.kind() == Kind::Double { Dtype::F64 } else { Dtype::F32 };
        Ok(Self { dtype, shape: tensor.size().iter().map(|&n| n as usize).collect(), bytes })
    }

    fn view(&self, path: &Path) -> Result<TensorView<'_>> {
        TensorView::new(self.dtype, self.shape.clone(), &self.bytes)
            .map_err(|error| Error::state(path, format!("cannot be written as safetensors: {error}")))
    }
}

/// Writes beside, syncs and renames: whoever reads the path sees the old file or the new one, after a crash too.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let io = |source| Error::io(path, source);
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".tch-svgd-").suffix(".tmp");
    #[cfg(unix)]
    {
        // As any new file: tempfile's own choice is readable by its owner alone.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    // The rename itself is on disk once the folder is. Some file systems cannot sync a folder; the file is whole there
    // all the same.
    if let Ok(folder) = std::fs::File::open(folder) {
        folder.sync_all().ok();
    }
    Ok(())
}
