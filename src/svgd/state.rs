//! The accumulators of all layers: where they live, and how they are saved and loaded.

use super::lock;
use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};
use tch::{Device, Kind, Tensor, nn};

/// The name of a layer: its path in the `VarStore`.
pub(super) fn layer_name(vs: &nn::Path<'_>) -> String {
    vs.components().collect::<Vec<_>>().join(".")
}

/// The kind and the device of the accumulators for gradients of `weight`.
pub(super) fn options(weight: &Tensor) -> (Kind, Device) {
    let kind = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
    (kind, weight.device())
}

/// Which values a layer's accumulator has. Of which number, its passes tell: a weight may be replaced by one of another size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Values {
    /// One an output, `[out]`.
    PerOutput,
    /// One an element of the output images, `[c_out, h_out, w_out]`.
    PerElement,
}

impl Values {
    fn admits(self, size: &[i64]) -> bool {
        let dimensions = if self == Values::PerOutput { 1 } else { 3 };
        size.len() == dimensions && size.iter().all(|&extent| extent > 0)
    }
}

impl std::fmt::Display for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Values::PerOutput { "[out]" } else { "[c_out, h_out, w_out]" })
    }
}

/// The second moment of one layer. It has no memory before the layer's first forward pass with gradients.
///
/// Once there is memory it stays the same as long as size, kind and device do: a graph between its forward and its backward
/// pass, and a captured CUDA graph, write to it.
#[derive(Debug)]
pub(super) struct Accumulator {
    name: String,
    values: Values,
    state: Mutex<Option<State>>,
}

#[derive(Debug)]
struct State {
    second_moment: Tensor,
    origin: Origin,
}

/// Where a second moment comes from, which decides what the next pass may do with it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Origin {
    /// The passes: it is what they need.
    Passes,
    /// A reset: zeros, whose size may be that of passes which are no more.
    Reset,
    /// A file, in whose order of memory it still is.
    File,
}

impl State {
    /// Whether there is something to keep. Zeros of a reset are as good as nothing, unless a graph in flight has added to them.
    fn has_begun(&self) -> bool {
        let any = || self.second_moment.f_any().and_then(bool::try_from);
        self.origin != Origin::Reset || any().unwrap_or(true)
    }
}

/// What a load is about to do to an accumulator.
enum Change {
    /// Nothing is stored for it.
    Reset,
    /// Into the memory that is there: same size, kind and device.
    Copy(Tensor),
    /// There is no such memory.
    Replace(Tensor),
}

impl Accumulator {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The second moment for gradients of `weight`; the operator updates it in place. The first call makes it with
    /// `zeros`; when the weight has moved to another device or kind since, it follows.
    pub(super) fn second_moment(
        &self,
        weight: &Tensor,
        zeros: impl FnOnce((Kind, Device)) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let options = options(weight);
        let mut state = lock(&self.state);
        let current = match state.take() {
            None => zeros(options)?,
            Some(State { second_moment, origin: Origin::Passes }) => second_moment,
            Some(State { second_moment, origin: Origin::Reset }) => {
                // As new, but for the memory, if it is what a new one would have.
                let new = zeros(options)?;
                if has_form_of(&second_moment, &new) { second_moment } else { new }
            }
            Some(State { second_moment, origin: Origin::File }) => {
                let mut new = zeros(options)?;
                match second_moment.size() == new.size() {
                    // In the order that the passes read it in.
                    true => {
                        tch::no_grad(|| new.f_copy_(&second_moment))?;
                        new
                    }
                    // The operator says what is wrong.
                    false => second_moment,
                }
            }
        };
        let current = match (current.kind(), current.device()) == options {
            true => current,
            false => current.f_to_device(options.1)?.f_to_kind(options.0)?,
        };
        let second_moment = current.shallow_clone();
        *state = Some(State { second_moment: current, origin: Origin::Passes });
        Ok(second_moment)
    }

    /// A copy.
    pub(super) fn snapshot(&self) -> Option<Tensor> {
        let state = lock(&self.state);
        state.as_ref().filter(|state| state.has_begun()).map(|state| state.second_moment.detach().copy())
    }

    fn bytes(&self) -> usize {
        let bytes = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        lock(&self.state).as_ref().map_or(0, |state| bytes(&state.second_moment))
    }

    fn serialize(&self) -> Result<Serialized> {
        match lock(&self.state).as_ref() {
            Some(state) if state.has_begun() => Serialized::new(&state.second_moment),
            // A layer without memory is written too, as an empty tensor: the file knows all layers.
            _ => Ok(Serialized { dtype: Dtype::F32, shape: vec![0], bytes: Vec::new() }),
        }
    }

    /// What is to be done for a second moment out of a file. All that can fail is done here.
    fn prepare(&self, loaded: Option<Tensor>) -> Result<Change> {
        let Some(loaded) = loaded else { return Ok(Change::Reset) };
        match lock(&self.state).as_ref() {
            Some(state) if state.origin != Origin::File && state.second_moment.size() == loaded.size() => {
                let here = &state.second_moment;
                Ok(Change::Copy(loaded.f_to_device(here.device())?.f_to_kind(here.kind())?))
            }
            _ => Ok(Change::Replace(loaded)),
        }
    }

    fn change(&self, change: Change) {
        let mut state = lock(&self.state);
        match (change, state.as_mut()) {
            (Change::Reset, Some(state)) if state.origin != Origin::File => {
                state.origin = Origin::Reset;
                let _ = tch::no_grad(|| state.second_moment.zero_());
            }
            (Change::Reset, _) => *state = None,
            (Change::Copy(values), Some(state)) => {
                state.origin = Origin::Passes;
                tch::no_grad(|| state.second_moment.copy_(&values));
            }
            (Change::Copy(second_moment) | Change::Replace(second_moment), _) => {
                *state = Some(State { second_moment, origin: Origin::File });
            }
        }
    }
}

/// Whether one can be used in the place of the other.
fn has_form_of(tensor: &Tensor, other: &Tensor) -> bool {
    tensor.size() == other.size() && tensor.kind() == other.kind() && tensor.device() == other.device()
}

/// The accumulators of all layers, in the order of their names. A layer that is dropped takes its own along.
#[derive(Debug, Default)]
pub(super) struct Accumulators {
    by_name: BTreeMap<String, Weak<Accumulator>>,
}

// The metadata that says what a file is.
const FORMAT_KEY: &str = "format";
const RESERVED_NAME: &str = "__metadata__";
const FORMAT: &str = "tch-svgd second moments 1";

impl Accumulators {
    /// Adds a layer. Two layers may share a path, as those of two `VarStore`s do: then the second is `NAME__1`.
    pub(super) fn register(&mut self, name: String, values: Values) -> Arc<Accumulator> {
        self.by_name.retain(|_, accumulator| accumulator.strong_count() > 0);
        let mut unique = name.clone();
        for number in 1.. {
            if !self.by_name.contains_key(&unique) {
                break;
            }
            unique = format!("{name}__{number}");
        }
        let accumulator = Arc::new(Accumulator { name: unique.clone(), values, state: Mutex::new(None) });
        self.by_name.insert(unique, Arc::downgrade(&accumulator));
        accumulator
    }

    fn live(&self) -> BTreeMap<&str, Arc<Accumulator>> {
        self.by_name.iter().filter_map(|(name, accumulator)| Some((name.as_str(), accumulator.upgrade()?))).collect()
    }

    pub(super) fn reset(&self) {
        for accumulator in self.live().values() {
            accumulator.change(Change::Reset);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.live().values().map(|accumulator| accumulator.bytes()).sum()
    }

    pub(super) fn save(&self, path: &Path) -> Result<()> {
        let live = self.live();
        // A name that the format keeps for itself: what is written would not be read again.
        if live.contains_key(RESERVED_NAME) {
            return Err(Error::state(
                path,
                format!(
                    "layer '{RESERVED_NAME}': expected another name, since safetensors keeps this one for itself; rename the layer"
                ),
            ));
        }
        let tensors: Result<Vec<_>> = live.iter().map(|(name, a)| Ok((name, a.serialize()?))).collect();
        let tensors = tensors?;
        let views: Result<Vec<_>> = tensors.iter().map(|(name, tensor)| Ok((name, tensor.view(path)?))).collect();
        let metadata = HashMap::from([(FORMAT_KEY.to_owned(), FORMAT.to_owned())]);
        let bytes = safetensors::serialize(views?, Some(metadata))
            .map_err(|error| Error::state(path, format!("cannot be written as safetensors: {error}")))?;
        write_atomically(path, &bytes)
    }

    /// Returns the layers that the file lacks, if it may lack some, and have others.
    pub(super) fn load(&self, path: &Path, partial: bool) -> Result<Vec<String>> {
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, source))?;
        let live = self.live();
        let loaded = parse(path, &bytes, &live, partial)?;
        let changes = loaded.into_iter().map(|(name, tensor)| Ok((name, live[name].prepare(tensor)?)));
        let changes = changes.collect::<Result<BTreeMap<_, _>>>()?;
        let missing = live.keys().filter(|&name| !changes.contains_key(name)).map(|&name| name.to_owned()).collect();
        // Nothing can fail from here on: the accumulators change together or not at all.
        for (name, change) in changes {
            live[name].change(change);
        }
        Ok(missing)
    }
}

/// The tensors of a file for the layers of this model.
fn parse<'a>(
    path: &Path,
    bytes: &[u8],
    live: &BTreeMap<&'a str, Arc<Accumulator>>,
    partial: bool,
) -> Result<BTreeMap<&'a str, Option<Tensor>>> {
    let error = |message: String| Error::state(path, message);
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|reason| {
        error(format!("expected a safetensors file, got something else or a part of one ({reason}); save it again"))
    })?;
    let format = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FORMAT_KEY));
    if format.map(String::as_str) != Some(FORMAT) {
        return Err(error(format!(
            "expected the accumulators that Svgd::save writes ({FORMAT_KEY} '{FORMAT}'), got {format:?}; weights are \
             loaded with VarStore::load"
        )));
    }
    let file = SafeTensors::deserialize(bytes).map_err(|reason| {
        error(format!("expected {} tensors, got a part of them ({reason}); save it again", metadata.tensors().len()))
    })?;
    let unknown: Vec<_> = file.names().into_iter().filter(|&name| !live.contains_key(name)).collect();
    let missing: Vec<_> = live.keys().filter(|&name| !file.names().contains(name)).collect();
    if !partial && (!unknown.is_empty() || !missing.is_empty()) {
        return Err(error(format!(
            "expected the layers of this model, got others: the file lacks {missing:?} and has {unknown:?} too; build \
             the model that it was saved from first, or load what the two have in common with load_partial"
        )));
    }
    let parse = |(&name, accumulator): (&&'a str, &Arc<Accumulator>)| {
        let view = file.tensor(name).map_err(|reason| error(format!("layer '{name}': {reason}")))?;
        let size: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        if size == [0] {
            return Ok((name, None));
        }
        if !accumulator.values.admits(&size) {
            return Err(error(format!(
                "layer '{name}': expected shape {}, got {size:?}; the model or its Granularity is another one",
                accumulator.values
            )));
        }
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            other => return Err(error(format!("layer '{name}': expected kind F32 or F64, got {other:?}"))),
        };
        let tensor = Tensor::f_from_data_size(view.data(), &size, kind)?;
        // Also false for NaN.
        let valid = tensor.f_min()?.f_double_value(&[])? >= 0.0 && tensor.f_max()?.f_double_value(&[])?.is_finite();
        if !valid {
            return Err(error(format!(
                "layer '{name}': expected finite values >= 0 (a mean of squares), got others; the file is damaged"
            )));
        }
        Ok((name, Some(tensor)))
    };
    live.iter().filter(|&(name, _)| !missing.contains(&name)).map(parse).collect()
}

/// A tensor as safetensors wants it.
struct Serialized {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Serialized {
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
    builder.prefix(".svgd-").suffix(".tmp");
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
