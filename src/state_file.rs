//! State files: safetensors that say what they are, replaced as a whole or not at all.

use crate::error::{Error, Result};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use tch::{Device, Kind, Tensor};

const FORMAT_KEY: &str = "format";
/// Where safetensors keeps the metadata that say what a file is: no tensor can have it.
pub(crate) const RESERVED_NAME: &str = "__metadata__";

const KINDS: [(Kind, Dtype); 4] =
    [(Kind::Float, Dtype::F32), (Kind::Double, Dtype::F64), (Kind::Half, Dtype::F16), (Kind::BFloat16, Dtype::BF16)];

/// What a file of ours says of itself.
pub(crate) struct Format {
    /// Its name and version, such as `tch-svgd second moments 1`.
    pub name: &'static str,
    /// What is in it, and who writes it: `the accumulators that Svgd::save writes`.
    pub contents: String,
}

/// Writes these tensors, where there is none an empty one: the file knows all names. `details` is what else it tells of itself.
pub(crate) fn write(path: &Path, format: &str, details: &str, tensors: BTreeMap<String, Option<Tensor>>) -> Result<()> {
    let serialized: Vec<_> =
        tensors.iter().map(|(key, tensor)| Ok((key, Serialized::new(tensor.as_ref())?))).collect::<Result<_>>()?;
    let unwritable =
        |error: safetensors::SafeTensorError| Error::state(path, format!("cannot be written as safetensors: {error}"));
    let views: Vec<_> = serialized
        .iter()
        .map(|(key, Serialized { dtype, shape, bytes })| Ok((key, TensorView::new(*dtype, shape.clone(), bytes)?)))
        .collect::<std::result::Result<_, _>>()
        .map_err(unwritable)?;
    // One entry, as several would be written in an order of chance: equal states are equal files.
    let separator = if details.is_empty() { "" } else { "; " };
    let metadata = HashMap::from([(FORMAT_KEY.to_owned(), format!("{format}{separator}{details}"))]);
    write_atomically(path, &safetensors::serialize(views, Some(metadata)).map_err(unwritable)?)
}

/// A file that has been read.
pub(crate) struct StateFile<'a> {
    path: &'a Path,
    file: SafeTensors<'a>,
    /// What it tells of itself, beside the format.
    pub details: String,
}

impl<'a> StateFile<'a> {
    /// Reads the `bytes` of a file, which must be of this format.
    pub(crate) fn parse(path: &'a Path, bytes: &'a [u8], format: &Format) -> Result<Self> {
        let error = |message: String| Error::state(path, message);
        let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|reason| {
            error(format!("expected a safetensors file, got something else or a part of one ({reason}); save it again"))
        })?;
        let found = metadata.metadata().as_ref().and_then(|metadata| metadata.get(FORMAT_KEY));
        let (name, details) = match found.map(|found| found.split_once("; ").unwrap_or((found, ""))) {
            Some((name, details)) => (Some(name), details),
            None => (None, ""),
        };
        if name != Some(format.name) {
            return Err(error(format!(
                "expected {} ({FORMAT_KEY} '{}'), got {found:?}; weights are loaded with VarStore::load",
                format.contents, format.name
            )));
        }
        let file = SafeTensors::deserialize(bytes).map_err(|reason| {
            error(format!(
                "expected {} tensors, got a part of them ({reason}); save it again",
                metadata.tensors().len()
            ))
        })?;
        Ok(Self { path, file, details: details.to_owned() })
    }

    pub(crate) fn error(&self, message: String) -> Error {
        Error::state(self.path, message)
    }

    /// The names of its tensors.
    pub(crate) fn names(&self) -> BTreeSet<&str> {
        self.file.names().into_iter().collect()
    }

    /// A tensor of one of these kinds; none where an empty one stands for it.
    pub(crate) fn tensor(&self, key: &str, kinds: &[Kind]) -> Result<Option<Tensor>> {
        let view = self.file.tensor(key).map_err(|reason| self.error(format!("tensor '{key}': {reason}")))?;
        let size: Vec<i64> =
            view.shape().iter().map(|&n| i64::try_from(n)).collect::<std::result::Result<_, _>>().map_err(|_| {
                self.error(format!(
                    "tensor '{key}': expected sizes below 2^63, got {:?}; the file is damaged",
                    view.shape()
                ))
            })?;
        if size == [0] {
            return Ok(None);
        }
        let admitted: Vec<_> = KINDS.into_iter().filter(|(kind, _)| kinds.contains(kind)).collect();
        let Some((kind, _)) = admitted.iter().find(|(_, dtype)| *dtype == view.dtype()) else {
            let names: Vec<_> = admitted.iter().map(|(_, dtype)| format!("{dtype:?}")).collect();
            let (names, got) = (names.join(" or "), view.dtype());
            return Err(self.error(format!("tensor '{key}': expected kind {names}, got {got:?}; the file is damaged")));
        };
        let tensor = Tensor::f_from_data_size(view.data(), &size, *kind);
        tensor.map(Some).map_err(|error| {
            let text = error.to_string();
            match Error::from_libtorch(text.lines().next().unwrap_or_default().to_owned()) {
                memory @ Error::OutOfMemory(_) => memory,
                error => self.error(format!("tensor '{key}': {error}; the file is damaged")),
            }
        })
    }
}

/// A tensor as safetensors wants it.
struct Serialized {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Serialized {
    fn new(tensor: Option<&Tensor>) -> Result<Self> {
        let Some(tensor) = tensor else { return Ok(Self { dtype: Dtype::F32, shape: vec![0], bytes: Vec::new() }) };
        let tensor = tensor.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        let dtype = KINDS.into_iter().find(|(kind, _)| *kind == tensor.kind()).map_or(Dtype::F32, |(_, dtype)| dtype);
        Ok(Self { dtype, shape: tensor.size().iter().map(|&n| n as usize).collect(), bytes })
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
